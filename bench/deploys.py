"""The command `python -m bench.deploys`: what Fairlead itself takes of a deploy.

A real engine builds and starts a small app, again and again, behind a real edge. Git, the build,
the start of the container and the wait for its health are the app's; the rest is ours.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import httpx

from bench.errors import BenchError
from bench.process import free_port

START_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.02
DEPLOY_SECONDS: Final = 120.0

# The limits of the issue that this answers to, in milliseconds.
SERVED_LIMIT: Final = 150
OVERHEAD_LIMIT: Final = 300

# Whose time is the app's and the engine's.
OTHERS: Final = ("clone", "build", "start", "health")

_DOCKERFILE: Final = """FROM busybox
COPY index.html /www/
EXPOSE 8080
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""

_TOKEN = "a-token-of-the-benchmark"  # noqa: S105  of the bench's own daemon
_BEARER = {"Authorization": f"Bearer {_TOKEN}"}


class _Running:
    """An edge with its workers and an orchestrator, on one database in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._repository = folder / "app"
        self._repository.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")
        (self._repository / "Dockerfile").write_text(_DOCKERFILE)
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            **os.environ,
            "FAIRLEAD_DB": str(folder / "fairlead.db"),
            "FAIRLEAD_HTTP_ADDR": "127.0.0.1:0",
            "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
            "FAIRLEAD_ADDR": self.url.removeprefix("http://"),
            "FAIRLEAD_API_TOKEN": _TOKEN,
            "FAIRLEAD_LOCAL_REPOS": str(folder),
            "FAIRLEAD_IMAGE_PREFIX": "fairlead-bench",
            "FAIRLEAD_NETWORK": "fairlead-bench",
            # What is measured is how long a deploy takes, not how long it is watched afterwards.
            "FAIRLEAD_ROLLBACK_WINDOW": "0",
        }
        self._processes = [
            subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=log)  # noqa: S603  a list of ours
            for module in ("edge", "orchestrator")
            for log in ((folder / f"{module}.log").open("wb"),)
        ]

    def is_ready(self) -> None:
        """Returns when the orchestrator serves and has its engine. Raises BenchError."""
        deadline = time.monotonic() + START_SECONDS
        said = "nothing"
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(f"{self.url}/readyz", trust_env=False)
            except httpx.TransportError:
                time.sleep(LOOK_SECONDS)
                continue
            if answer.status_code == 200:
                return
            said = answer.text
            time.sleep(LOOK_SECONDS)
        raise BenchError(f"the orchestrator is not ready after {START_SECONDS:g} s: {said}")

    def deploys(self, number: int) -> dict[str, Any]:
        """One deploy from a push to its end; its record. Raises BenchError."""
        (self._repository / "index.html").write_text(f"{number}\n")
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message={number}")
        payload = {
            "ref": "refs/heads/main",
            "after": self._git("rev-parse", "HEAD"),
            "repository": {"name": "bench-app", "clone_url": f"file://{self._repository}"},
        }
        answer = httpx.post(
            f"{self.url}/webhook",
            params={"wait": 30},
            headers={"X-GitHub-Event": "push", **_BEARER},
            json=payload,
            timeout=DEPLOY_SECONDS,
            trust_env=False,
        )
        if answer.status_code != 200:
            raise BenchError(f"deploy {number} was answered with {answer.status_code}")
        found: dict[str, Any] = httpx.get(
            f"{self.url}/api/deploys/{answer.json()['deploy_id']}",
            headers=_BEARER,
            trust_env=False,
        ).json()
        return found

    def ends(self) -> None:
        """Remove the app, and end both."""
        try:
            httpx.delete(
                f"{self.url}/api/apps/bench-app",
                headers=_BEARER,
                timeout=DEPLOY_SECONDS,
                trust_env=False,
            )
        except httpx.TransportError:
            pass  # it never came up; there is nothing to remove
        for process in self._processes:
            process.terminate()
            process.wait(DEPLOY_SECONDS)

    def _git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@app.test")
        return subprocess.run(  # noqa: S603  a list of ours
            ["git", "-C", str(self._repository), *identity, *arguments],  # noqa: S607  a list of ours
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()


def taken(deploy: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds: from the answer of the container to all workers, and all that is ours."""
    steps = {each["step"]: each for each in deploy["steps"]}
    served = steps["switch"]["finished_at"] - steps["health"]["finished_at"]
    others = sum(steps[name]["duration_s"] for name in OTHERS)
    stop_duration = steps["retire"]["detail"]["stop_duration_s"]
    left = deploy["finished_at"] - deploy["started_at"] - others
    return {"served": 1000 * served, "with": 1000 * left, "ours": 1000 * (left - stop_duration)}


@click.command()
@click.option("--deploys", default=20, show_default=True, help="How many are measured.")
def main(deploys: int) -> None:
    """Measure deploys on the Docker Engine that DOCKER_HOST names; it must have `busybox`."""
    with tempfile.TemporaryDirectory() as folder:
        running = _Running(Path(folder))
        try:
            running.is_ready()
            running.deploys(0)
            rows = [taken(running.deploys(number)) for number in range(1, deploys + 1)]
        except BenchError as error:
            raise click.ClickException(str(error)) from None
        finally:
            running.ends()
    limits = {"served": SERVED_LIMIT, "with": OVERHEAD_LIMIT}
    for name, meaning in (
        ("served", "healthy -> served by every worker"),
        ("with", "all but clone, build, start and health"),
        ("ours", "the same without the end of the old app, in the engine"),
    ):
        values = [row[name] for row in rows]
        limit = f"  (limit {limits[name]} ms)" if name in limits else ""
        click.echo(
            f"{meaning:56} median {statistics.median(values):6.0f} ms"
            f"  worst {max(values):6.0f} ms{limit}"
        )


if __name__ == "__main__":
    main()
