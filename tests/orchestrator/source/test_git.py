"""Proves how one commit gets into a folder, with real git, and what git is kept from."""

import asyncio
import os
import pwd
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import StepError
from orchestrator.security.redact import MASK, Redactor
from orchestrator.source import git as git_module
from orchestrator.source.git import Git
from orchestrator.source.git_commands import Source
from tests.orchestrator.git_server import GitServer, make_certificate, serving
from tests.orchestrator.repository import Repository

PATIENCE = 30.0
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server(
    tmp_path: Path,
    repository: Repository,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[GitServer]:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate[1]))
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(tmp_path, certificate) as server:
        yield server


class Lines(list[str]):
    """What a deploy's log gets."""

    @property
    def text(self) -> str:
        return "\n".join(self)


def clone(
    source: Source,
    folder: Path,
    lines: list[str] | None = None,
    *,
    timeout: float = PATIENCE,
    max_bytes: int = 10**9,
    submodules: bool = False,
    secrets: tuple[str, ...] = (),
) -> str:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    git = Git(timeout=timeout, max_bytes=max_bytes, submodules=submodules, redactor=redactor)
    return asyncio.run(git.clone(source, folder, (Lines() if lines is None else lines).append))


def of(repository: Repository, **fields: str) -> Source:
    return Source(repository.url, allow_file=True, **fields)


class TestWhichCommit:
    def test_the_commit_asked_for_is_built_though_the_branch_has_moved_on(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        wanted = repository.commits({"f": "old"})
        repository.commits({"f": "new"})
        found = clone(of(repository, branch="main", commit=wanted), tmp_path / "w")
        assert found == wanted
        assert (tmp_path / "w" / "f").read_text() == "old"

    def test_without_a_commit_it_is_the_tip_of_the_branch(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commits({"f": "main"})
        repository.git("checkout", "-q", "-b", "feature/x")
        tip = repository.commits({"f": "feature"})
        repository.git("checkout", "-q", "main")
        assert clone(of(repository, branch="feature/x"), tmp_path / "w") == tip
        assert (tmp_path / "w" / "f").read_text() == "feature"

    def test_without_a_branch_it_is_the_default_branch(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        tip = repository.commits({"f": "main"})
        assert clone(of(repository), tmp_path / "w") == tip

    def test_only_one_commit_is_fetched(self, repository: Repository, tmp_path: Path) -> None:
        repository.commits({"f": "1"})
        repository.commits({"f": "2"})
        clone(of(repository, branch="main"), tmp_path / "w")
        fetched = Repository.__new__(Repository)
        fetched.folder = tmp_path / "w"
        assert fetched.git("rev-list", "--count", "HEAD") == "1"

    def test_a_commit_that_was_pushed_over_is_still_found_by_its_id(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        lost = repository.commits({"f": "lost"})
        repository.git("commit", "-q", "--amend", "-m", "other")
        assert clone(of(repository, branch="main", commit=lost), tmp_path / "w") == lost

    def test_a_commit_that_is_not_there_is_said_to_be_missing(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commits({"f": "1"})
        with pytest.raises(
            StepError, match=f"commit {COMMIT} not found in .*: it may have been"
        ) as caught:
            clone(of(repository, branch="main", commit=COMMIT), tmp_path / "w")
        assert caught.value.kind == "commit_missing"

    def test_a_branch_that_is_not_there_is_said_to_be_missing(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commits({"f": "1"})
        with pytest.raises(StepError, match="branch 'gone' not found") as caught:
            clone(of(repository, branch="gone"), tmp_path / "w")
        assert caught.value.kind == "branch_missing"

    def test_an_empty_repository_has_no_branch_to_start_from(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        with pytest.raises(StepError, match="default branch not found"):
            clone(of(repository), tmp_path / "w")

    def test_a_repository_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        source = Source(f"file://{tmp_path}/gone", allow_file=True)
        with pytest.raises(StepError, match=r"git fetch of file://.*/gone failed") as caught:
            clone(source, tmp_path / "w")
        assert caught.value.kind == "clone_failed"


class TestOverHttps:
    def test_a_commit_is_fetched_by_its_id(
        self, server: GitServer, repository: Repository, tmp_path: Path
    ) -> None:
        wanted = repository.commits({"f": "old"})
        repository.commits({"f": "new"})
        source = Source(f"{server.url}/repository", branch="main", commit=wanted)
        assert clone(source, tmp_path / "w") == wanted
        assert (tmp_path / "w" / "f").read_text() == "old"

    @pytest.mark.parametrize("distance", [0, 2, 60])
    def test_where_the_server_gives_no_commits_by_id_the_branch_is_searched(
        self, server: GitServer, repository: Repository, tmp_path: Path, distance: int
    ) -> None:
        server.modern = False
        wanted = repository.commits({"f": "wanted"})
        for _ in range(distance):
            repository.commits({})
        repository.git("branch", "other")
        source = Source(f"{server.url}/repository", branch="main", commit=wanted)
        assert clone(source, tmp_path / "w") == wanted
        assert (tmp_path / "w" / "f").read_text() == "wanted"

    def test_a_commit_that_is_nowhere_in_the_branch_is_missing(
        self, server: GitServer, repository: Repository, tmp_path: Path
    ) -> None:
        server.modern = False
        lost = repository.commits({"f": "lost"})
        repository.git("commit", "-q", "--amend", "-m", "other")
        source = Source(f"{server.url}/repository", branch="main", commit=lost)
        with pytest.raises(StepError, match=r"commit .* not found") as caught:
            clone(source, tmp_path / "w")
        assert caught.value.kind == "commit_missing"

    def test_an_untrusted_certificate_is_refused(
        self,
        server: GitServer,
        repository: Repository,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("GIT_SSL_CAINFO")
        with pytest.raises(StepError, match="its certificate is not trusted"):
            clone(Source(f"{server.url}/repository"), tmp_path / "w")


class TestCredentials:
    SECRET = "user:p@ss w'ord\"$(id)"

    def test_they_are_given_to_the_server_that_asks_for_them(
        self, server: GitServer, repository: Repository, tmp_path: Path
    ) -> None:
        server.password = self.SECRET
        tip = repository.commits({"f": "1"})
        source = Source(f"{server.url}/repository", self.SECRET)
        assert clone(source, tmp_path / "w") == tip

    def test_they_are_in_no_argument_no_line_of_the_log_no_error_and_no_file(
        self,
        server: GitServer,
        repository: Repository,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        server.password = "user:right-and-secret"
        repository.commits({"f": "1"})
        commands: list[tuple[str, ...]] = []
        start = asyncio.create_subprocess_exec

        async def start_and_tell(*command: str, **options: object) -> object:
            commands.append(command)
            return await start(*command, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_tell)
        lines = Lines()
        for password, fails in (("right-and-secret", False), ("wrong-but-secret", True)):
            folder = tmp_path / password[:5]
            source = Source(f"{server.url}/repository", f"user:{password}")
            if fails:
                with pytest.raises(StepError, match="wrong or have expired") as caught:
                    clone(source, folder, lines)
                assert password not in str(caught.value)
            else:
                clone(source, folder, lines)
            assert commands
            assert not [command for command in commands if password in " ".join(command)]
            assert password not in lines.text
            for path in folder.rglob("*"):
                assert not path.is_file() or password.encode() not in path.read_bytes()

    def test_where_none_are_given_nothing_is_asked_and_the_error_says_what_to_do(
        self, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = tmp_path / "asked"
        program = tmp_path / "askpass"
        program.write_text(f"#!/bin/sh\ntouch {asked}\n")
        program.chmod(0o700)
        monkeypatch.setenv("GIT_ASKPASS", str(program))
        monkeypatch.setenv("SSH_ASKPASS", str(program))
        server.password = "user:right"
        with pytest.raises(StepError, match=r"put credentials in the clone URL"):
            clone(Source(f"{server.url}/repository"), tmp_path / "w")
        assert not asked.exists()

    def test_another_server_that_the_first_one_redirects_to_never_gets_them(
        self,
        server: GitServer,
        repository: Repository,
        certificate: tuple[Path, Path],
        tmp_path: Path,
    ) -> None:
        repository.commits({"f": "1"})
        with serving(tmp_path, certificate) as other:
            other.password = "user:right"
            server.redirects_to = other.url
            with pytest.raises(StepError, match="could not read Username"):
                clone(Source(f"{server.url}/repository", "user:right"), tmp_path / "w")
            assert other.authorizations
            assert not any(other.authorizations)

    def test_a_redirect_to_plain_http_is_not_followed(
        self, server: GitServer, tmp_path: Path
    ) -> None:
        server.redirects_to = "http://127.0.0.1:9"
        with pytest.raises(StepError, match="disabled"):
            clone(Source(f"{server.url}/repository"), tmp_path / "w")


class TestInjection:
    """CWE-88: what comes from outside is never an option, a program or another protocol."""

    @pytest.mark.parametrize(
        "url",
        [
            "--upload-pack=touch {mark}",
            "-u{mark}",
            "ext::sh -c 'touch {mark}'",
            "ssh://-oProxyCommand=touch {mark}/x",
            "-oProxyCommand=touch {mark}:x",
            "http://127.0.0.1:9/r.git",
            "git://127.0.0.1:9/r.git",
            "fd::17",
        ],
    )
    def test_a_url_can_only_be_a_url(self, url: str, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        source = Source(url.format(mark=mark), allow_file=True)
        with pytest.raises(StepError) as caught:
            clone(source, tmp_path / "w")
        assert caught.value.kind == "clone_failed"
        assert not mark.exists()

    def test_a_file_url_is_refused_unless_it_is_allowed(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commits({"f": "1"})
        with pytest.raises(StepError, match="only https://, ssh://"):
            clone(Source(repository.url), tmp_path / "w")

    @pytest.mark.parametrize(
        "branch", ["main:refs/heads/x", "a..b", "a b", "a~1", "x\ny", "*", "a.lock", "@{-1}"]
    )
    def test_a_branch_can_only_be_a_name(
        self, repository: Repository, tmp_path: Path, branch: str
    ) -> None:
        repository.commits({"f": "1"})
        with pytest.raises(StepError, match="is not a valid branch name"):
            clone(of(repository, branch=branch), tmp_path / "w")

    def test_a_branch_that_looks_like_an_option_is_a_name(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commits({"f": "1"})
        with pytest.raises(StepError, match="branch '--upload-pack=x' not found"):
            clone(of(repository, branch="--upload-pack=x"), tmp_path / "w")

    @pytest.mark.parametrize("commit", ["--upload-pack=x", "HEAD", COMMIT[:-1], COMMIT.upper()])
    def test_a_commit_can_only_be_an_id(
        self, repository: Repository, tmp_path: Path, commit: str
    ) -> None:
        with pytest.raises(StepError, match="is not a commit id"):
            clone(of(repository, commit=commit), tmp_path / "w")


class TestPrograms:
    """Nothing that a repository or a user's settings name is run."""

    def test_hooks_and_filters_of_the_users_settings_do_not_run(
        self, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mark = tmp_path / "mark"
        home = tmp_path / "home"
        hooks = home / "template" / "hooks"
        hooks.mkdir(parents=True)
        for name in ("post-checkout", "reference-transaction"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
            (hooks / name).chmod(0o700)
        (home / ".gitconfig").write_text(
            f"[core]\n\thooksPath = {hooks}\n[init]\n\ttemplateDir = {home}/template\n"
            f'[filter "x"]\n\tsmudge = touch {mark}\n'
        )
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("GIT_TEMPLATE_DIR", str(home / "template"))
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
        repository.commits({"f": "1", ".gitattributes": "* filter=x\n"})
        clone(of(repository), tmp_path / "w")
        assert not mark.exists()

    def test_a_repository_on_this_machine_cannot_make_its_reader_run_a_program(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        """CVE-2024-32004: a missing object is fetched by what the repository's settings say."""
        mark = tmp_path / "mark"
        repository.commits({"f": "1"})
        blob = repository.git("rev-parse", "HEAD:f")
        (repository.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
        repository.git("config", "core.repositoryformatversion", "1")
        repository.git("config", "extensions.partialClone", "evil")
        repository.git("config", "remote.evil.promisor", "true")
        repository.git("config", "remote.evil.url", f"ssh://x@127.0.0.1:9/{mark}")
        repository.git("config", "remote.evil.uploadpack", f"touch {mark};")
        repository.git("config", "core.sshCommand", f"touch {mark};")
        with pytest.raises(StepError):
            clone(of(repository), tmp_path / "w")
        assert not mark.exists()

    def test_submodules_are_left_out_unless_they_are_asked_for(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        other = Repository(tmp_path / "other")
        other.commits({"inner": "text"})
        repository.git("submodule", "add", "--quiet", other.url, "sub")
        repository.commits({"f": "1"})
        clone(of(repository), tmp_path / "without")
        assert list((tmp_path / "without" / "sub").iterdir()) == []
        clone(of(repository), tmp_path / "with", submodules=True)
        assert (tmp_path / "with" / "sub" / "inner").read_text() == "text"

    def test_a_submodule_of_a_remote_repository_cannot_be_a_folder_of_this_machine(
        self, server: GitServer, repository: Repository, tmp_path: Path
    ) -> None:
        other = Repository(tmp_path / "other")
        other.commits({"inner": "text"})
        repository.git("submodule", "add", "--quiet", other.url, "sub")
        repository.commits({"f": "1"})
        source = Source(f"{server.url}/repository", allow_file=True)
        with pytest.raises(StepError, match="transport 'file' not allowed"):
            clone(source, tmp_path / "w", submodules=True)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user too")
    def test_a_repository_of_another_user_can_be_read(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        tip = repository.commits({"f": "1"})
        nobody = pwd.getpwnam("nobody")
        for path in (repository.folder, *repository.folder.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        assert clone(of(repository), tmp_path / "w") == tip


class TestLimits:
    def test_a_repository_that_is_too_large_is_broken_off(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        repository.commits({"f": os.urandom(300_000).hex()})
        with pytest.raises(StepError, match="larger than the limit of 200000 bytes") as caught:
            clone(of(repository), tmp_path / "w", max_bytes=200_000)
        assert caught.value.kind == "clone_too_large"

    def test_a_pack_that_is_too_large_is_broken_off_while_it_comes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = f"head -c 300000 /dev/zero > {tmp_path}/w/pack; echo; exec sleep 1000"
        fake_git(tmp_path, monkeypatch, script)
        with pytest.raises(StepError) as caught:
            clone(Source("https://h/r"), tmp_path / "w", max_bytes=200_000)
        assert caught.value.kind == "clone_too_large"

    def test_a_tree_that_would_unfold_on_checkout_is_never_checked_out(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        """A "git bomb": ten entries, eight deep, that are all the same one."""
        repository.commits({"f": "x" * 1000})
        tree, kind = repository.git("rev-parse", "HEAD:f"), "100644 blob"
        for _ in range(8):
            entries = "".join(f"{kind} {tree}\te{number}\n" for number in range(10))
            tree = repository.git("mktree", text=entries)
            kind = "040000 tree"
        commit = repository.git("commit-tree", tree, "-m", "bomb")
        repository.git("update-ref", "refs/heads/bomb", commit)
        with pytest.raises(StepError) as caught:
            clone(of(repository, branch="bomb"), tmp_path / "w", max_bytes=2_000_000)
        assert caught.value.kind == "clone_too_large"
        assert [path.name for path in (tmp_path / "w").iterdir()] == [".git"]

    def test_a_server_that_never_answers_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group = hanging_git(tmp_path, monkeypatch)
        with pytest.raises(StepError, match=r"timed out after 0\.5 s") as caught:
            clone(Source("https://h/r"), tmp_path / "w", timeout=0.5)
        assert caught.value.kind == "clone_timeout"
        assert_dead(group())

    def test_a_cancelled_clone_leaves_no_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group = hanging_git(tmp_path, monkeypatch)

        async def scene() -> None:
            git = Git(timeout=PATIENCE, max_bytes=10**9, submodules=False, redactor=Redactor())
            begun = asyncio.Event()
            task = asyncio.create_task(
                git.clone(Source("https://h/r"), tmp_path / "w", lambda _: begun.set())
            )
            await asyncio.wait_for(begun.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(scene())
        assert_dead(group())

    def test_lines_without_end_are_cut_and_the_error_shows_only_the_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_git(tmp_path, monkeypatch, 'head -c 300000 /dev/zero | tr "\\0" x; seq 1000; exit 3')
        lines = Lines()
        with pytest.raises(StepError):
            # The very first command fails here, which no server can cause: it is a broken git.
            clone(Source("https://h/r"), tmp_path / "w", lines)
        assert max(map(len, lines)) == git_module.LINE_LENGTH
        assert lines[-1] == "1000"

    def test_a_secret_is_masked_where_a_line_or_a_read_ends_inside_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """security.md 7: half a secret is one that nothing masks."""
        secret = "ghp_0123456789abcdef"
        before = git_module.LINE_LENGTH - 10
        # So much of it that some of the reads end inside a secret, or inside a letter.
        fake_git(
            tmp_path,
            monkeypatch,
            f"head -c {before} /dev/zero | tr '\\0' x; echo '{secret} after';"
            f"yes '\u00fc {secret}' | head -n 20000; exit 3",
        )
        lines = Lines()
        with pytest.raises(StepError) as caught:
            clone(Source("https://h/r"), tmp_path / "w", lines, secrets=(secret,))
        assert lines[0] == f"{'x' * before}{MASK} after"
        assert set(lines[1:]) == {f"\u00fc {MASK}"}
        assert "ghp_" not in str(caught.value)

    def test_files_that_take_more_memory_than_git_may_have_fail(
        self,
        server: GitServer,
        repository: Repository,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # A hundredth of a MiB to send: the second is a change of the first.
        for name in ("one", "two"):
            (repository.folder / name).write_bytes(bytes(64 * 2**20) + name.encode())
        repository.commits({})
        source = Source(f"{server.url}/repository", branch="main")
        monkeypatch.setattr(git_module, "MEMORY", 48 * 2**20)
        with pytest.raises(StepError, match="of memory for its largest files") as caught:
            clone(source, tmp_path / "w")
        assert caught.value.kind == "clone_failed"
        monkeypatch.setattr(git_module, "MEMORY", 2**30)
        clone(source, tmp_path / "whole")

    def test_git_is_given_no_more_memory_than_we_have(
        self, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("one", "two"):
            (repository.folder / name).write_bytes(bytes(64 * 2**20) + name.encode())
        repository.commits({})
        ours = (48 * 2**20, 48 * 2**20)
        monkeypatch.setattr("resource.getrlimit", lambda _: ours)
        with pytest.raises(StepError, match="of memory"):
            clone(of(repository), tmp_path / "w")

    def test_a_missing_git_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(StepError, match="git is not installed") as caught:
            clone(Source("https://h/r"), tmp_path / "w")
        assert caught.value.kind == "git_missing"


class TestDirtyFiles:
    def test_files_that_are_not_committed_are_counted(self, repository: Repository) -> None:
        repository.commits({"a": "1", "b c": "2"})
        assert dirty_files(repository.url) == 0
        (repository.folder / "a").write_text("changed")
        (repository.folder / "new").write_text("new")
        assert dirty_files(repository.url) == 2

    def test_a_path_with_escapes_is_found(self, tmp_path: Path) -> None:
        repository = Repository(tmp_path / "a folder")
        (repository.folder / "new").write_text("new")
        assert dirty_files(repository.url.replace(" ", "%20")) == 1

    def test_what_cannot_be_told_is_none(self, tmp_path: Path, repository: Repository) -> None:
        assert dirty_files(f"file://{tmp_path}/gone") == 0
        repository.git("clone", "--quiet", "--bare", str(repository.folder), str(tmp_path / "bare"))
        assert dirty_files(f"file://{tmp_path}/bare") == 0


def dirty_files(url: str) -> int:
    git = Git(timeout=PATIENCE, max_bytes=10**9, submodules=False, redactor=Redactor())
    return asyncio.run(git.dirty_files(url))


def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def hanging_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """A git that starts a helper, as it does for https, and waits for it; gives their ids."""
    pids = tmp_path / "pids"
    fake_git(tmp_path, monkeypatch, f"sleep 1000 & echo $$ $! > {pids}; echo begun; wait")
    return lambda: [int(word) for word in pids.read_text().split()]


def assert_dead(pids: list[int]) -> None:
    assert len(pids) == 2
    deadline = time.monotonic() + PATIENCE
    for pid in pids:
        while True:
            try:
                os.kill(pid, signal.SIG_DFL)
                state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except (ProcessLookupError, FileNotFoundError):
                break
            if state == "Z":
                break  # its new parent has yet to look
            assert time.monotonic() < deadline, f"process {pid} lives on"
