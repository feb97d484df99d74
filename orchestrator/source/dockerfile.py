"""Owns the Dockerfiles that are written for repositories that have none.

Each is a template in `templates/`. What a repository says gets into them only as JSON lists, which
no shell reads, or quoted for the shell.
"""

import json
import shlex
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.source.detect import Detection

BASES: Final = {
    "go": "golang:1",
    "node": "node:22-slim",
    "python": "python:3.12-slim",
    "static": "nginx:stable",
}
"""The images that the templates build on."""

# No user of the host, and none that the base images give anything to. A number, since the bases do
# not know the same names.
USER: Final = "1000:1000"

_templates: Final = Environment(
    loader=PackageLoader("orchestrator.source"),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701  the result is no HTML
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
# Not the filters' own JSON, which escapes for HTML. A Dockerfile has one line for one instruction.
_templates.filters["json"] = lambda value: json.dumps(value, ensure_ascii=True)
_templates.filters["shell"] = shlex.quote


def render(detection: Detection) -> str:
    """The Dockerfile for what was detected; ValueError where the repository has its own."""
    if detection.runtime not in BASES:
        raise ValueError(f"no Dockerfile is written for {detection.runtime!r}")
    return _templates.get_template(f"{detection.runtime}.Dockerfile.j2").render(
        base=BASES[detection.runtime],
        port=detection.port,
        user=USER,
        nginx_lines=_templates.get_template("nginx.conf.j2")
        .render(port=detection.port)
        .splitlines(),
        **detection.options,
    )
