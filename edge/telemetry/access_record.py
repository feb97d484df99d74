"""Owns what a line of the access log says. Pure but for the time of day."""

from datetime import UTC, datetime

import orjson

# Longer ones are cut in the log: a client could otherwise write 32 KiB per request to the disk.
MAX_TEXT = 2048


def access_record(
    *,
    client: str,
    host: str,
    method: bytes,
    path: bytes,
    protocol: str,
    status: int,
    bytes_received: int,
    bytes_sent: int,
    duration: float,
    upstream: str | None,
    upstream_duration: float | None,
    request_id: str,
    user_agent: bytes,
    route: str | None,
    error: str,
) -> bytes:
    """One line of JSON. Bytes are those of bodies, durations are seconds.

    What a client wrote is decoded as Latin-1, which cannot fail, and JSON escapes what could end
    the line or steer a terminal.
    """
    record = {
        "time": datetime.now(UTC),
        "client": client,
        "host": host,
        "method": method[:MAX_TEXT].decode("latin-1"),
        "path": path[:MAX_TEXT].decode("latin-1"),
        "protocol": protocol,
        "status": status,
        "bytes_received": bytes_received,
        "bytes_sent": bytes_sent,
        "duration": round(duration, 6),
        "upstream": upstream,
        "upstream_duration": None if upstream_duration is None else round(upstream_duration, 6),
        "request_id": request_id,
        "user_agent": user_agent[:MAX_TEXT].decode("latin-1"),
        "route": route,
        "error": error or None,
    }
    return orjson.dumps(record, option=orjson.OPT_UTC_Z)
