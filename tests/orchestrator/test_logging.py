"""Proves `orchestrator.logging`."""

import asyncio
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from orchestrator.logging import MAX_VALUE, configure, deploy_id
from orchestrator.security.redact import MASK, Redactor

logger = logging.getLogger("orchestrator.test")

HOSTILE = 'a\nlevel=ERROR msg="forged"\r\x1b[2J\x9b2J\u202e\u2028\x00\x7f"\\'


class Log:
    """What was logged, in one of the two formats."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.redactor = Redactor()

    def configure(self, kind: str) -> "Log":
        configure(kind, self.redactor, self.stream)
        return self

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def line(self) -> str:
        (line,) = self.stream.getvalue().removesuffix("\n").split("\n")
        return line

    @property
    def values(self) -> dict[str, object]:
        values: dict[str, object] = json.loads(self.line)
        return values


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    talkative = {name: logging.getLogger(name).level for name in ("httpx", "urllib3")}
    hooks = sys.excepthook, threading.excepthook
    yield Log()
    sys.excepthook, threading.excepthook = hooks
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in talkative.items():
        logging.getLogger(name).setLevel(old)


class TestText:
    def test_a_line_reads_as_that_of_godeploy_platform(self, log: Log) -> None:
        log.configure("text")
        logger.info("listening", extra={"fields": {"addr": ":8081", "app": "sim-app"}})
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ level=INFO "
            r'msg="listening" addr=:8081 app=sim-app',
            log.line,
        )

    @pytest.mark.parametrize(
        ("value", "word"),
        [
            ("a b", '"a b"'),
            ("", '""'),
            (None, '""'),
            ('a"b', r'"a\"b"'),
            ("a=b", '"a=b"'),
            ("a\\b", r'"a\\b"'),
            ("a\nb", r'"a\nb"'),
            ("a\x1b[2J", r'"a\u001b[2J"'),
            ("\x9b2J", r'"\u009b2J"'),
            ("\u202e", r'"\u202e"'),
            ("üx", "üx"),
            (3, "3"),
            (1.5, "1.5"),
            (True, "true"),
            (ValueError("no"), "no"),
        ],
    )
    def test_a_value_is_one_word(self, log: Log, value: object, word: str) -> None:
        log.configure("text")
        logger.info("x", extra={"fields": {"value": value}})
        assert log.line.partition(" value=")[2] == word


class TestJson:
    def test_a_line_is_one_object(self, log: Log) -> None:
        log.configure("json")
        logger.warning("late by %d s", 3, extra={"fields": {"app": "sim", "n": 1, "none": None}})
        values = log.values
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(values.pop("time")))
        assert values == {
            "level": "WARNING",
            "msg": "late by 3 s",
            "app": "sim",
            "n": 1,
            "none": None,
        }

    def test_what_json_cannot_say_is_a_text(self, log: Log) -> None:
        log.configure("json")
        logger.info("x", extra={"fields": {"a": float("nan"), "b": {1}, "c": "\ud800"}})
        assert log.values["a"] == "nan"
        assert log.values["b"] == "{1}"


each_format = pytest.mark.parametrize("kind", ["text", "json"])


@each_format
class TestEveryFormat:
    def test_each_line_of_a_deploy_has_its_id(self, log: Log, kind: str) -> None:
        log.configure(kind)

        async def deploy(number: int) -> None:
            deploy_id.set(number)
            await asyncio.sleep(0)
            logger.info("in the task")
            await asyncio.to_thread(logger.info, "in a thread of it")

        async def both() -> None:
            await asyncio.gather(asyncio.create_task(deploy(3)), asyncio.create_task(deploy(4)))
            logger.info("outside")

        asyncio.run(both())
        wanted: Callable[[int], str] = (
            (lambda n: f'"deploy_id": {n}') if kind == "json" else (lambda n: f" deploy_id={n}")
        )
        assert [sum(wanted(n) in line for line in log.lines) for n in (3, 4)] == [2, 2]
        assert "deploy" not in log.lines[-1]

    def test_security_7_no_value_leaves_its_line(self, log: Log, kind: str) -> None:
        log.configure(kind)
        logger.info("%s", HOSTILE, extra={"fields": {"app": HOSTILE}})
        assert log.line.isprintable()
        if kind == "json":
            assert log.values["msg"] == log.values["app"] == HOSTILE

    def test_security_7_no_value_shows_a_secret(self, log: Log, kind: str) -> None:
        log.configure(kind)
        log.redactor.add('hunter"2')
        try:
            raise ValueError('no hunter"2')
        except ValueError:
            logger.exception(
                "a %s b", 'hunter"2', extra={"fields": {"x": 'hunter"2', "n": ['hunter"2']}}
            )
        assert "hunter" not in log.line
        assert log.line.count(MASK) >= 4

    def test_a_trace_stays_on_the_line(self, log: Log, kind: str) -> None:
        log.configure(kind)
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")
        assert "Traceback" in log.line
        assert r"\nValueError: no" in log.line

    def test_a_long_value_is_cut(self, log: Log, kind: str) -> None:
        log.configure(kind)
        logger.info("x" * (MAX_VALUE + 5))
        assert "x... (5 more)" in log.line

    def test_a_record_that_cannot_be_written_shows_nothing_of_itself(
        self, log: Log, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log.configure(kind)
        logger.info("%d", "hunter2")
        assert log.line == 'level=ERROR msg="a log line was lost: TypeError"'
        assert capsys.readouterr().err == ""

    def test_a_stream_that_is_gone_stops_nobody(
        self, log: Log, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log.configure(kind)
        log.stream.close()
        logger.info("x")
        assert capsys.readouterr().err == ""

    def test_libraries_do_not_tell_each_request(self, log: Log, kind: str) -> None:
        log.configure(kind)
        logging.getLogger("httpx").info("HTTP Request: GET http://127.0.0.1/")
        logging.getLogger("urllib3.connectionpool").debug("x")
        assert log.lines == []

    def test_who_configures_again_replaces_the_handler(self, log: Log, kind: str) -> None:
        log.configure(kind)
        log.configure(kind)
        logger.info("once")
        assert log.line


class TestUncaught:
    def test_an_error_that_nobody_catches_is_redacted(self, log: Log) -> None:
        log.configure("json")
        log.redactor.add("s3cret-token")

        def fails() -> None:
            raise ValueError("cannot use s3cret-token")

        thread = threading.Thread(target=fails, name="one")
        thread.start()
        thread.join()
        try:
            fails()
        except ValueError as error:
            sys.excepthook(ValueError, error, error.__traceback__)
        assert [json.loads(line)["msg"] for line in log.lines] == ["uncaught error"] * 2
        text = log.stream.getvalue()
        assert text.count(f"ValueError: cannot use {MASK}") == 2
        assert "s3cret" not in text
