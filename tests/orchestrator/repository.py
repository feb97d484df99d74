"""Owns the repositories of the tests: real git, with apps that are built in a second."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


class Repository:
    """A repository in `folder`, on the branch main."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    @property
    def url(self) -> str:
        """Where it is cloned from."""
        return f"file://{self.folder}"

    def commits(self, files: Mapping[str, str], message: str = "change") -> str:
        """Write files and commit them; the commit."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str, text: str | None = None) -> str:
        """What git says; `text` is what it is told on stdin. Nobody's settings count."""
        # No two processes of the tests make the same commit, nor the same image tag of it.
        identity = ("-c", "user.name=Test", "-c", f"user.email=test-{os.getpid()}@app.test")
        done = subprocess.run(
            ["git", *identity, "-c", "protocol.file.allow=always", *arguments],
            cwd=self.folder,
            input=text,
            env={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_CONFIG_NOSYSTEM": "1",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


def serving(text: str, port: int = 8080) -> dict[str, str]:
    """An app that answers with `text`, and "ok" on /healthz."""
    return {
        "Dockerfile": f"""FROM busybox
RUN mkdir /www && echo ok > /www/healthz
COPY index.html /www/
EXPOSE {port}
CMD ["httpd", "-f", "-p", "{port}", "-h", "/www"]
""",
        "index.html": f"{text}\n",
    }


def running(command: str, *, port: int = 8080) -> dict[str, str]:
    """An app that is a line of shell."""
    return {"Dockerfile": f"FROM busybox\nEXPOSE {port}\nCMD exec sh -c '{command}'\n"}
