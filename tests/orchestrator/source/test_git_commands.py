"""The exact argument lists of git, and the environment that it gets."""

from pathlib import Path

import pytest

from orchestrator.errors import StepError
from orchestrator.source.git_commands import (
    Source,
    checkout_command,
    credentials_environment,
    environment,
    fetch_command,
    init_command,
    submodule_commands,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class TestCommands:
    GIT = (
        *("git", "-C", "/w", "-c", "core.hooksPath=/dev/null"),
        *("-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "pack.threads=1"),
    )

    def test_an_empty_repository_has_no_template(self) -> None:
        assert init_command(Path("/w")) == [*self.GIT, "init", "--quiet", "--template="]

    def test_the_url_and_the_commit_stand_behind_two_dashes(self) -> None:
        assert fetch_command(Path("/w"), "https://h/r.git", COMMIT, 1) == [
            *self.GIT,
            *("fetch", "--depth=1", "--no-tags", "--no-recurse-submodules"),
            *("--no-write-commit-graph", "--", "https://h/r.git", COMMIT),
        ]

    def test_a_checkout_belongs_to_no_branch(self) -> None:
        assert checkout_command(Path("/w"), "FETCH_HEAD") == [
            *self.GIT,
            *("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"),
        ]

    def test_submodules_are_fetched_without_their_history(self) -> None:
        assert submodule_commands(Path("/w"), "https://h/r.git")[1] == [
            *self.GIT,
            *("submodule", "update", "--init", "--recursive", "--depth=1"),
        ]


class TestEnvironment:
    def test_git_sees_no_settings_but_ours_and_only_what_it_needs_of_the_environment(self) -> None:
        found = environment(
            {
                "PATH": "/bin",
                "GIT_SSL_CAINFO": "/ca",
                "https_proxy": "http://proxy",
                "FAIRLEAD_WEBHOOK_SECRET": "secret",
                "GIT_DIR": "/elsewhere",
                "GIT_ASKPASS": "/usr/bin/dialog",
                "HOME": "/root",
            },
            Source("https://h/r.git"),
            Path("/empty"),
        )
        assert found == {
            "PATH": "/bin",
            "GIT_SSL_CAINFO": "/ca",
            "https_proxy": "http://proxy",
            "LC_ALL": "C",
            "HOME": "/empty",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
            "GIT_ALLOW_PROTOCOL": "https:ssh",
            "GIT_NO_LAZY_FETCH": "1",
        }

    def test_files_may_be_read_only_where_that_is_allowed_and_asked_for(self) -> None:
        def allowed(url: str, *, allow_file: bool) -> str:
            source = Source(url, allow_file=allow_file)
            return environment({}, source, Path("/empty"))["GIT_ALLOW_PROTOCOL"]

        assert allowed("file:///r", allow_file=True) == "https:ssh:file"
        assert allowed("file:///r", allow_file=False) == "https:ssh"
        assert allowed("https://h/r", allow_file=True) == "https:ssh"

    def test_only_what_fetches_from_their_host_has_the_credentials(self) -> None:
        source = Source("https://git.test:8443/r.git", "user:s3cret")
        assert "s3cret" not in str(environment({}, source, Path("/empty")))
        found = credentials_environment(source)
        assert found["FAIRLEAD_GIT_PASSWORD"] == "s3cret"
        assert found["GIT_CONFIG_KEY_0"] == "credential.https://git.test:8443.helper"
        assert credentials_environment(Source("ssh://git@git.test/r.git", "user:s3cret")) == {}

    def test_credentials_that_would_add_a_line_to_gits_protocol_are_refused(self) -> None:
        source = Source("https://h/r.git", "user:pass\nhost=other")
        with pytest.raises(StepError, match="control character"):
            credentials_environment(source)
