"""Owns what git is told: the argument lists of its commands, and the environment it runs in. Pure.

Nothing here is a shell's: what comes from outside is an argument of its own, behind `--` where git
could take it for an option. Git sees no configuration but ours, and only the protocols that
`environment` names. Credentials are in the environment of git alone, for the one host they are of.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from orchestrator.errors import StepError

# Proxies; their URLs may have a password.
PROXIES: Final = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
)
# What git inherits: how to find programs and hosts, and whom to trust. Nothing that configures git.
INHERITED: Final = (
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSH_AUTH_SOCK",
    "no_proxy",
    "NO_PROXY",
    *PROXIES,
)
# Git gives it the question on stdin, and asks it only for the URL that it was set for.
CREDENTIAL_HELPER: Final = (
    r"""!f() { printf 'username=%s\npassword=%s\n' "$FAIRLEAD_GIT_USER" "$FAIRLEAD_GIT_PASSWORD";"""
    " }; f"
)

NO_FILE: Final = Path(os.devnull)

_is_control: Final = re.compile(r"[\x00-\x1f\x7f]").search


@dataclass(frozen=True, slots=True)
class Source:
    """Which commit of which repository."""

    url: str  # without credentials
    credentials: str = ""  # "user:password"
    branch: str = ""  # "": the repository's default branch
    commit: str = ""  # "": the tip of the branch
    allow_file: bool = False

    @property
    def reference(self) -> str:
        """How git calls the branch."""
        return f"refs/heads/{self.branch}" if self.branch else "HEAD"

    @property
    def is_file(self) -> bool:
        """Whether the repository is a folder of this machine that may be read."""
        return self.allow_file and self.url.startswith("file://")

    @property
    def path(self) -> Path:
        """The folder that a file:// URL names."""
        return Path(unquote(urlsplit(self.url).path))


def git(folder: Path, *arguments: str) -> list[str]:
    """A command in `folder` that neither hooks, monitors nor background work can join."""
    settings = (
        *("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0"),
        "pack.threads=1",  # each takes memory for the largest files
    )
    options = [part for setting in settings for part in ("-c", setting)]
    return ["git", "-C", str(folder), *options, *arguments]


def init_command(folder: Path) -> list[str]:
    """An empty repository; no template, so no hooks."""
    return git(folder, "init", "--quiet", "--template=")


def fetch_command(folder: Path, url: str, what: str, depth: int) -> list[str]:
    """`what` is a commit or a reference."""
    return git(
        folder,
        "fetch",
        f"--depth={depth}",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-commit-graph",
        "--",
        url,
        what,
    )


def checkout_command(folder: Path, what: str) -> list[str]:
    """`what` is a commit or FETCH_HEAD."""
    return git(folder, "checkout", "--quiet", "--force", "--detach", what)


def list_command(folder: Path, what: str) -> list[str]:
    """One line for each file: mode, type, id, bytes, a tab, name."""
    return git(folder, "ls-tree", "-r", "-l", "--full-tree", what)


def has_command(folder: Path, commit: str) -> list[str]:
    """Fails unless the commit is there."""
    return git(folder, "cat-file", "-e", f"{commit}^{{commit}}")


def head_command(folder: Path) -> list[str]:
    """Tells the commit that is checked out."""
    return git(folder, "rev-parse", "--verify", "HEAD")


def submodule_commands(folder: Path, url: str) -> list[list[str]]:
    """Relative URLs of submodules are relative to the remote `origin`."""
    return [
        git(folder, "config", "remote.origin.url", url),
        git(folder, "submodule", "update", "--init", "--recursive", "--depth=1"),
    ]


def status_command(folder: Path) -> list[str]:
    """One line for each file that differs from the last commit."""
    return git(
        folder,
        "--no-optional-locks",
        "status",
        "--porcelain",
        "--untracked-files=all",
        "--ignore-submodules=all",
    )


def environment(
    inherited: Mapping[str, str], source: Source, home: Path, configuration: Path = NO_FILE
) -> dict[str, str]:
    """All that git gets of this process's environment, and what it must know beside that.

    `configuration` is the one file of settings that it reads.
    """
    return {
        **{name: inherited[name] for name in INHERITED if name in inherited},
        "LC_ALL": "C",  # its messages are read here
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(configuration),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        # With it, `ext::`, and http:// that a repository redirects to, are refused by git itself,
        # for submodules too.
        "GIT_ALLOW_PROTOCOL": "https:ssh:file" if source.is_file else "https:ssh",
        # A repository on this machine must not make git fetch, and run, what it names
        # (CVE-2024-32004).
        "GIT_NO_LAZY_FETCH": "1",
    }


def credentials_environment(source: Source) -> dict[str, str]:
    """What git must know beside that to fetch. Raises StepError for what cannot be handed on."""
    parts = urlsplit(source.url)
    if source.credentials and parts.scheme == "https":
        user, _, password = source.credentials.partition(":")
        if _is_control(user + password):
            raise StepError(
                "clone_failed", "the credentials in the clone URL contain a control character"
            )
        # For this host alone, so that a redirect to another one learns nothing.
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"credential.{parts.scheme}://{parts.netloc}.helper",
            "GIT_CONFIG_VALUE_0": CREDENTIAL_HELPER,
            "FAIRLEAD_GIT_USER": user,
            "FAIRLEAD_GIT_PASSWORD": password,
        }
    return {}
