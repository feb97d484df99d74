"""Owns what a base image does in a build on top of it: its triggers (ONBUILD).

Whoever made the image wrote them; the engine runs them as if they were in the Dockerfile. So an
image is fetched, and looked into, before the build.
"""

from contextlib import aclosing
from typing import Any

from docker import APIClient
from docker.errors import APIError
from docker.utils import parse_repository_tag

from edge.errors import quote
from orchestrator.engine.connection import (
    EngineConnection,
    EngineResponseError,
    explanation,
    messages,
)
from orchestrator.errors import StepError


async def triggers(connection: EngineConnection, image: str, platform: str = "") -> list[str]:
    """The instructions; the image is fetched where it is missing.

    Raises EngineResponseError where that fails, and StepError where it is not for the `platform`
    that the Dockerfile names, if it does: the engine would fetch another one in its place.
    """

    def inspect(client: APIClient) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = client.inspect_image(image)  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == 404:
                return None
            raise EngineResponseError(error.status_code or 500, explanation(error)) from None
        return found

    found = await connection.call(inspect)
    if found is None:
        await _pull(connection, image)
        found = await connection.call(inspect)
    if found is None:
        raise EngineResponseError(404, f"not found: does not exist: {image}")
    made_for = f"{found.get('Os')}/{found.get('Architecture')}"
    if platform not in ("", made_for):
        raise StepError(
            "unsafe_dockerfile", f"the base image {quote(image)} is for {made_for}, not {platform}"
        )
    return [str(each) for each in (found.get("Config") or {}).get("OnBuild") or ()]


async def _pull(connection: EngineConnection, image: str) -> None:
    repository, tag = parse_repository_tag(image)
    # Without a tag, the engine would fetch all of them.
    params = {"fromImage": repository, "tag": tag or "latest"}
    async with (
        connection.stream("POST", "/images/create", params) as response,
        aclosing(messages(response)) as received,
    ):
        async for message in received:
            if "error" in message:
                raise EngineResponseError(500, str(message["error"]))
