"""Owns what builds leave in the engine that failed, or whose engine or orchestrator was killed.

The builder gives its containers and layers no labels. Containers are told by a line of their
/etc/hosts, which each of our builds asks for; layers by what the builds said of them.
"""

from collections.abc import Iterable
from contextlib import suppress

from docker import APIClient
from docker.errors import APIError, NotFound

from orchestrator.engine.container import LABEL_RELEASE


def build_mark(instance: str) -> str:
    """The line, as `POST /build` takes it; its name is nobody's (RFC 2606)."""
    return f"{instance}.build.fairlead.invalid:127.0.0.1"


def remove_containers(client: APIClient, instance: str) -> None:
    """Remove those that builds of this instance were made in."""
    for listed in client.containers(all=True):
        if LABEL_RELEASE in (listed["Labels"] or {}):
            continue
        with suppress(NotFound):
            inspected = client.inspect_container(listed["Id"])
            if build_mark(instance) in (inspected["HostConfig"]["ExtraHosts"] or ()):
                client.remove_container(listed["Id"], force=True, v=True)


def remove_layers(client: APIClient, layers: Iterable[str]) -> None:
    """Remove them, but for those that got a name, or are part of another image."""
    for layer in layers:
        try:
            inspected = client.inspect_image(layer)  # type: ignore[no-untyped-call]
            if not inspected["RepoTags"] and not inspected["RepoDigests"]:
                client.remove_image(layer)
        except APIError as error:
            if error.status_code not in (404, 409):
                raise
