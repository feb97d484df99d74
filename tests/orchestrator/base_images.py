"""Owns the images that the templates build on, made from Debian's packages.

No registry can be reached by the tests. An engine that has the images, the real ones or these, is
left as it is. What was made is kept in `.cache/`, which git ignores.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from orchestrator.source.dockerfile import BASES

CACHE = Path(__file__).parents[2] / ".cache" / "base.tar"
MADE = "fairlead-test-base:latest"
PACKAGES = (
    "ca-certificates",
    "golang-go",
    "nginx-light",
    "nodejs",
    "npm",
    "python3",
    "python3-pip",
    "python3-venv",
)
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# Whom this machine trusts is trusted in there, in case that it reaches the world through a proxy.
DOCKERFILE = f"""FROM {MADE}
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY authorities {AUTHORITIES}
ENV PIP_CERT={AUTHORITIES} NODE_EXTRA_CA_CERTS={AUTHORITIES} npm_config_cafile={AUTHORITIES}
"""


def make(host: str) -> None:
    """Returns when the engine has all of them."""
    client = docker.DockerClient(host, timeout=600)
    try:
        missing = [name for name in BASES.values() if not _has(client, name)]
        if not missing:
            return
        if not _has(client, MADE):
            if not CACHE.exists():
                _make_tree()
            client.api.import_image(src=str(CACHE), repository=MADE)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(AUTHORITIES, Path(folder, "authorities"))
            Path(folder, "Dockerfile").write_text(DOCKERFILE)
            image, _ = client.images.build(path=folder, rm=True)
        for name in missing:
            image.tag(name)
    finally:
        client.close()


def _has(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _make_tree() -> None:
    """A Debian of this machine's suite, from the mirrors that this machine uses."""
    if shutil.which("mmdebstrap") is None:
        pytest.fail("mmdebstrap is not installed: run `make programs`")
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    sources = [
        str(path)
        for path in (
            Path("/etc/apt/sources.list"),
            Path("/etc/apt/sources.list.d/debian.sources"),
        )
        if path.exists()
    ]
    CACHE.parent.mkdir(exist_ok=True)
    # Two runs in one clone may make it at once.
    unfinished = CACHE.with_suffix(f".{os.getpid()}.tar")
    leaves_out = ("doc", "locale", "man")
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"),
            '--aptopt=Acquire::Languages "none"',
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in leaves_out),
            *(release["VERSION_CODENAME"], str(unfinished), *sources),
        ],
        check=True,
    )
    unfinished.rename(CACHE)
