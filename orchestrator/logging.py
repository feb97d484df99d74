"""Owns what the daemon's own log looks like: one line per record, redacted, with the deploy's id.

Whatever a value holds, it stays on its line and does nothing to a terminal.
"""

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, TextIO

from orchestrator.security.redact import Redactor

# The deploy that the running task works on; it is put on each of its lines.
deploy_id: ContextVar[int | None] = ContextVar("deploy_id", default=None)

MAX_VALUE: Final = 32 * 1024  # characters of one value; the last lines of a container are 16 KiB

# Libraries that log each request at INFO, with its URL.
_NOISY_LOGGERS: Final = ("httpx", "httpcore", "urllib3", "docker", "websockets")


def configure(format: str, redactor: Redactor, stream: TextIO) -> None:  # noqa: A002
    """Send every record of this process from INFO on to `stream`, as "text" or "json" lines.

    Fields of a record are given by `logger.info("...", extra={"fields": {...}})`.
    """
    handler = _Handler(stream)
    handler.setFormatter(_Json(redactor) if format == "json" else _Text(redactor))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # What nobody catches would be shown by Python itself, not redacted.
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, SystemExit):  # how a thread, too, ends in order
        logging.getLogger(__name__).critical("uncaught error", exc_info=(kind, error, trace))


class _Handler(logging.StreamHandler[TextIO]):
    """Where logging's own would show a record that fails, and what is in it, not redacted."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        try:
            kind = getattr(sys.exc_info()[0], "__name__", "error")
            self.stream.write(f"level=ERROR msg={_quote(f'a log line was lost: {kind}')}\n")
        except (OSError, ValueError):
            pass  # The stream is gone; the daemon goes on without a log.


class _Formatter(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def _values(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values: dict[str, Any] = {"level": record.levelname, "msg": record.getMessage()}
        deploy = deploy_id.get()
        if deploy is not None:
            values["deploy_id"] = deploy
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            values.update((str(name), value) for name, value in fields.items())
        if record.exc_info:
            values["trace"] = self.formatException(record.exc_info)
        shown = {name: self._shown(value) for name, value in values.items()}
        return {"time": f"{moment}Z", **shown}

    def _shown(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        text = value if isinstance(value, str) else str(value)
        text = self._redactor.redact(text)
        if len(text) > MAX_VALUE:
            return f"{text[:MAX_VALUE]}... ({len(text) - MAX_VALUE} more)"
        return text


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Everything but ASCII is escaped, and so is every control character but DEL.
        return json.dumps(self._values(record)).replace("\x7f", "\\u007f")


class _Text(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = self._values(record)
        moment = values.pop("time")
        words = (f"{name}={_format_value(name, value)}" for name, value in values.items())
        return " ".join((moment, *words))


def _format_value(name: str, value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    plain = text and text.isprintable() and not any(letter in ' "=\\' for letter in text)
    return text if plain and name != "msg" else _quote(text)


def _quote(text: str) -> str:
    """In double quotes, with JSON's escapes for whatever is not to be seen as it is."""
    escaped = json.dumps(text, ensure_ascii=False)
    if escaped.isprintable():
        return escaped
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in escaped)
