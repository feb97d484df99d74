"""Owns passwords: their hashes as text, and whether a password fits one. Pure, and slow on purpose.

A hash is scrypt (RFC 7914) in the PHC string format: `$scrypt$ln=15,r=8,p=1$SALT$KEY`, salt and key
in base64 without padding, N = 2^ln.
"""

import binascii
import hashlib
import re
import unicodedata
from base64 import b64decode, b64encode
from hmac import compare_digest
from secrets import token_bytes
from typing import Final, NamedTuple

from edge.errors import RouteError

# 32 MiB and some 80 ms for one try.
COST: Final = 15  # ln
BLOCK_SIZE: Final = 8  # r
PARALLELISM: Final = 1  # p
SALT_SIZE: Final = 16  # bytes
KEY_SIZE: Final = 32  # bytes

# What a hash from elsewhere may ask for: more would let one request take the memory or a second.
MIN_COST: Final = 10
MAX_MEMORY: Final = 64 * 1024 * 1024  # bytes, 128 * N * r
MAX_PARALLELISM: Final = 4

_PHC: Final = re.compile(
    r"\$scrypt\$ln=([1-9][0-9]?),r=([1-9][0-9]?),p=([1-9])"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)


class _Hash(NamedTuple):
    cost: int
    block_size: int
    parallelism: int
    salt: bytes
    key: bytes


def hash_password(password: str, salt: bytes | None = None, cost: int = COST) -> str:
    """The text to keep instead of `password`, with a salt of its own if none is given."""
    salt = token_bytes(SALT_SIZE) if salt is None else salt
    made = _Hash(cost, BLOCK_SIZE, PARALLELISM, salt, b"\0" * KEY_SIZE)
    key = _derive(made, prepare(password.encode()))
    return f"$scrypt$ln={cost},r={BLOCK_SIZE},p={PARALLELISM}${_encode(salt)}${_encode(key)}"


def check_hash(text: str) -> None:
    """Raise RouteError, with the end of a sentence about `text`, if it is no hash of ours."""
    _parse(text)


def verify(text: str, password: bytes) -> bool:
    """Whether `password`, as `prepare` returns it, is the one that was hashed. Tens of ms."""
    parsed = _parse(text)
    return compare_digest(_derive(parsed, password), parsed.key)


def prepare(password: bytes) -> bytes:
    """The bytes that are hashed: an accented letter is one, however it was typed.

    RFC 7617 section 2.1, RFC 8265 section 4.2.2 (NFC). What is not UTF-8 stays as it is.
    """
    try:
        return unicodedata.normalize("NFC", password.decode()).encode()
    except UnicodeDecodeError:
        return password


def _parse(text: str) -> _Hash:
    match = _PHC.fullmatch(text)
    if match is None:
        raise RouteError("is not a password hash: make one with `fairlead route password`")
    cost, block_size, parallelism = int(match[1]), int(match[2]), int(match[3])
    if cost < MIN_COST or 128 * 2**cost * block_size > MAX_MEMORY or parallelism > MAX_PARALLELISM:
        raise RouteError(
            f"has unsupported parameters (ln from {MIN_COST}, 128 * 2^ln * r up to"
            f" {MAX_MEMORY // 2**20} MiB, p up to {MAX_PARALLELISM}):"
            " make one with `fairlead route password`"
        )
    try:
        return _Hash(cost, block_size, parallelism, _decode(match[4]), _decode(match[5]))
    except binascii.Error:
        raise RouteError("is cut off or damaged: make one with `fairlead route password`") from None


def _derive(made: _Hash, password: bytes) -> bytes:
    return hashlib.scrypt(
        password,
        salt=made.salt,
        n=2**made.cost,
        r=made.block_size,
        p=made.parallelism,
        maxmem=2 * MAX_MEMORY,  # OpenSSL counts a little more than the formula
        dklen=len(made.key),
    )


def _encode(data: bytes) -> str:
    return b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
