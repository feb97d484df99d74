"""Owns the form of the tokens of the API. Pure but for the random bytes.

`fl_`, 43 characters of 32 random bytes, and 6 of a checksum (as GitHub's tokens have it): a scanner
for secrets finds one without asking, and a slip of the hand is told from a token that was revoked.
What is stored is the SHA-256; 256 random bits need no slow one.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

PREFIX: Final = "fl_"

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BYTES: Final = 32
_RANDOM_LENGTH: Final = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH: Final = 6  # 62 ** 6 > 2 ** 32
_TOKEN: Final = re.compile(
    rf"({PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)


def make_token() -> str:
    """A new one."""
    number = int.from_bytes(secrets.token_bytes(_RANDOM_BYTES))
    stem = PREFIX + _base62(number, _RANDOM_LENGTH)
    return stem + _checksum(stem)


def is_token(text: str) -> bool:
    """Whether it has the form of one, its checksum included."""
    found = _TOKEN.fullmatch(text)
    return found is not None and _checksum(found[1]) == found[2]


def hash_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checksum(stem: str) -> str:
    return _base62(zlib.crc32(stem.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
