"""Proves `orchestrator.deploys.log`, on real files."""

import asyncio
import logging
import resource
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.deploys.log import MAX_LINE, DeployLogs, LogLine
from orchestrator.security.redact import MASK, Redactor

WAIT = 20.0
"""Seconds within which something that must happen has happened."""


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def logs(tmp_path: Path, redactor: Redactor) -> DeployLogs:
    return DeployLogs(tmp_path / "fairlead.deploys", redactor)


def texts(lines: list[LogLine]) -> list[str]:
    return [line.line for line in lines]


class TestWriting:
    def test_lines_are_kept_with_their_time_and_step(self, logs: DeployLogs) -> None:
        begin = time.time()
        log = logs.open(7)
        log.write("clone", "Cloning")
        log.write("build", "Step 1\nStep 2\n")
        first, second, third = logs.read(7)
        assert (first.number, first.step, first.line) == (1, "clone", "Cloning")
        assert (third.number, third.step, third.line) == (3, "build", "Step 2")
        assert begin - 1 <= first.time <= second.time == third.time <= time.time() + 1
        assert first.as_json() == {
            "number": 1,
            "time": first.time,
            "step": "clone",
            "line": "Cloning",
        }

    def test_empty_lines_stay(self, logs: DeployLogs) -> None:
        logs.open(1).write("build", "a\n\nb\n\n")
        logs.open(1).write("build", "")
        assert texts(logs.read(1)) == ["a", "", "b", "", ""]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]8;;http://h\x1b\\link", "link"),
            ("\x1bPq#0\x1b\\x", "x"),
            ("\x9b2Jx", "x"),
            ("\x1b(Bx\x1bM", "x"),
            ("a\x1b", "a"),
            ("a\x1b[", "a"),
            ("10%\r50%\r100%", "100%"),
            ("done\r", "done"),
            ("a\x08b\x00c\x7fd", "abcd"),
            ("a\tb", "a\tb"),
            ("\u202eevil\u2028x", "evilx"),
            ("ü日本🚀", "ü日本🚀"),
            ("\ud800x", "x"),
        ],
    )
    def test_security_7_nothing_does_anything_to_a_terminal(
        self, logs: DeployLogs, text: str, line: str
    ) -> None:
        logs.open(1).write("build", text)
        assert texts(logs.read(1)) == [line]

    def test_an_escape_that_never_ends_hides_no_other_line(self, logs: DeployLogs) -> None:
        logs.open(1).write("build", "a\x1b]0;title\nb\nc\r\n")
        assert texts(logs.read(1)) == ["a", "b", "c"]

    def test_security_7_secrets_are_masked(self, logs: DeployLogs, redactor: Redactor) -> None:
        redactor.add("hunter2")
        redactor.add("two\nlines")
        logs.open(1).write("clone", "https://u:hunter2@h/\nhun\x1b[1mter2\ntwo\nlines")
        assert texts(logs.read(1)) == [f"https://u:{MASK}@h/", MASK, MASK]
        assert "hunter2" not in (logs.open(1)._path).read_text()

    def test_a_long_line_is_cut(self, logs: DeployLogs) -> None:
        logs.open(1).write("build", "x" * (MAX_LINE + 3))
        assert texts(logs.read(1)) == ["x" * MAX_LINE + "... (3 more characters)"]

    def test_security_7_nobody_else_may_look(self, logs: DeployLogs, tmp_path: Path) -> None:
        logs.open(1).write("x", "y")
        folder = tmp_path / "fairlead.deploys"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "1.log").stat().st_mode) == 0o600

    def test_beyond_the_limit_one_line_says_so(self, tmp_path: Path, redactor: Redactor) -> None:
        logs = DeployLogs(tmp_path, redactor, max_bytes=2000)
        log = logs.open(1)
        for number in range(100):
            log.write("build", f"line {number} {'x' * 50}")
        log.close()
        logs.open(1).write("build", "after a restart")
        lines = texts(logs.read(1))
        assert lines[-1] == "log size limit reached: further output is not recorded"
        assert lines[:-1] == [f"line {number} {'x' * 50}" for number in range(len(lines) - 1)]
        assert 10 < len(lines) < 30
        assert (tmp_path / "1.log").stat().st_size < 2200

    def test_threads_do_not_mix_their_lines(self, logs: DeployLogs) -> None:
        log = logs.open(1)

        def write(name: str) -> None:
            for _ in range(200):
                log.write(name, f"{name}\n{name}")

        threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = logs.read(1, limit=10_000)
        assert len(lines) == 1200
        assert all(line.step == line.line for line in lines)

    def test_a_closed_log_takes_no_more(self, logs: DeployLogs) -> None:
        log = logs.open(1)
        log.write("x", "a")
        log.close()
        log.close()
        log.write("x", "b")
        assert texts(logs.read(1)) == ["a"]


class TestCrash:
    def test_a_log_goes_on_where_it_ended(self, logs: DeployLogs) -> None:
        logs.open(1).write("x", "a")
        logs.open(1).close()
        logs.open(1).write("x", "b")
        assert [(line.number, line.line) for line in logs.read(1)] == [(1, "a"), (2, "b")]

    def test_half_a_line_of_a_killed_process_spoils_no_other(
        self, logs: DeployLogs, tmp_path: Path
    ) -> None:
        logs.open(1).write("x", "a")
        logs.open(1).close()
        with (tmp_path / "fairlead.deploys" / "1.log").open("ab") as file:
            file.write(b'{"time":1.0,"step":"x","li')
        assert texts(logs.read(1)) == ["a"]
        logs.open(1).write("x", "b")
        assert [(line.number, line.line) for line in logs.read(1)] == [(1, "a"), (3, "b")]

    def test_a_full_disk_costs_lines_but_not_the_deploy(
        self, logs: DeployLogs, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = logs.open(1)
        log.write("x", "a")
        with caplog.at_level(logging.WARNING), files_of_at_most(100):
            for _ in range(5):
                log.write("x", "lost" * 100)
        log.write("x", "b")
        assert texts(logs.read(1)) == ["a", "b"]
        assert len(caplog.records) == 1
        assert "lines are lost" in caplog.text

    def test_a_link_in_its_place_is_not_followed(self, logs: DeployLogs, tmp_path: Path) -> None:
        logs.open(1).close()
        logs.remove(1)
        (tmp_path / "victim").write_text("v")
        (tmp_path / "fairlead.deploys" / "1.log").symlink_to(tmp_path / "victim")
        with pytest.raises(OSError, match="symbolic links"):
            logs.open(1)


class TestReading:
    def test_a_page_begins_after_a_line(self, logs: DeployLogs) -> None:
        log = logs.open(1)
        log.write("x", "\n".join(str(number) for number in range(1, 2001)))
        assert texts(logs.read(1, after_line=5, limit=3)) == ["6", "7", "8"]
        assert len(logs.read(1)) == 1000
        assert texts(logs.read(1, after_line=1998)) == ["1999", "2000"]
        assert logs.read(1, after_line=2000) == []

    def test_a_deploy_without_a_log_has_no_lines(self, logs: DeployLogs) -> None:
        assert logs.read(1) == []

    def test_a_removed_log_is_gone(self, logs: DeployLogs, tmp_path: Path) -> None:
        log = logs.open(1)
        log.write("x", "a")
        logs.remove(1)
        logs.remove(1)
        assert log.closed
        assert logs.read(1) == []
        assert list((tmp_path / "fairlead.deploys").iterdir()) == []


class TestFollowing:
    def test_a_follower_gets_what_was_and_what_comes_until_the_end(self, logs: DeployLogs) -> None:
        async def follow() -> list[str]:
            log = logs.open(1)
            log.write("x", "before")
            seen: list[str] = []
            async for line in logs.follow(1):
                seen.append(line.line)
                if line.line == "before":
                    await asyncio.to_thread(log.write, "x", "from a thread")
                elif line.line == "from a thread":
                    asyncio.get_running_loop().call_soon(log.write, "x", "last")
                else:
                    asyncio.get_running_loop().call_soon(log.close)
            return seen

        assert asyncio.run(asyncio.wait_for(follow(), WAIT)) == ["before", "from a thread", "last"]

    def test_a_log_that_is_not_open_ends_with_its_last_line(self, logs: DeployLogs) -> None:
        logs.open(1).write("x", "a")
        logs.open(1).close()

        async def follow(deploy: int) -> list[str]:
            return [line.line async for line in logs.follow(deploy)]

        assert asyncio.run(asyncio.wait_for(follow(1), WAIT)) == ["a"]
        assert asyncio.run(asyncio.wait_for(follow(2), WAIT)) == []

    def test_slow_and_fast_followers_get_every_line(self, logs: DeployLogs) -> None:
        async def run() -> list[list[int]]:
            log = logs.open(1)

            async def follow(slow: bool) -> list[int]:
                seen = []
                async for line in logs.follow(1):
                    seen.append(int(line.line))
                    if slow and len(seen) % 100 == 0:
                        await asyncio.sleep(0)
                return seen

            followers = [asyncio.create_task(follow(slow)) for slow in (True, False)]

            def write() -> None:
                for number in range(5000):
                    log.write("build", str(number))
                log.close()

            await asyncio.to_thread(write)
            return await asyncio.gather(*followers)

        both = asyncio.run(asyncio.wait_for(run(), WAIT))
        assert both == [list(range(5000))] * 2

    def test_a_follower_that_leaves_is_forgotten(self, logs: DeployLogs) -> None:
        async def run() -> None:
            log = logs.open(1)
            log.write("x", "a")
            follower = logs.follow(1)
            assert (await anext(follower)).line == "a"
            assert len(log._followers) == 1
            waiting = asyncio.ensure_future(anext(follower))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not log._followers
            log.write("x", "b")

        asyncio.run(asyncio.wait_for(run(), WAIT))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes no more: a real error of the kernel's (EFBIG), with a part written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
