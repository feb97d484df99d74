"""Hashes of passwords, and what fits them."""

from base64 import b64encode

import pytest

from edge.errors import RouteError
from edge.rules import password
from edge.rules.password import check_hash, hash_password, prepare, verify

CHEAP = password.MIN_COST


def test_a_hash_fits_its_password_alone() -> None:
    text = hash_password("secret", cost=CHEAP)
    check_hash(text)
    assert verify(text, b"secret")
    assert not verify(text, b"secreT")
    assert not verify(text, b"")


def test_it_is_scrypt_as_others_write_it() -> None:
    """The third test vector of RFC 7914 section 12, its first 32 bytes."""
    key = bytes.fromhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")
    salt, encoded = (b64encode(each).decode().rstrip("=") for each in (b"SodiumChloride", key))
    text = f"$scrypt$ln=14,r=8,p=1${salt}${encoded}"
    assert hash_password("pleaseletmein", b"SodiumChloride", cost=14) == text
    assert verify(text, b"pleaseletmein")


def test_each_hash_has_its_own_salt() -> None:
    assert hash_password("secret", cost=CHEAP) != hash_password("secret", cost=CHEAP)


def test_an_accent_is_the_same_however_it_was_typed() -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    text = hash_password(decomposed, cost=CHEAP)
    assert verify(text, prepare(composed.encode()))
    assert verify(text, prepare(decomposed.encode()))
    assert prepare(b"\xff\xfe") == b"\xff\xfe"


SALT_AND_KEY = "$c2FsdHNhbHRzYWx0$" + "A" * 43


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a password hash"),
        ("secret", "is not a password hash"),
        ("$2b$12$abcdefghijklmnopqrstuv", "is not a password hash"),
        ("$scrypt$ln=15,r=8,p=1$salt", "is not a password hash"),
        (f"$scrypt$ln=9,r=8,p=1{SALT_AND_KEY}", "unsupported parameters"),
        (f"$scrypt$ln=17,r=8,p=1{SALT_AND_KEY}", "unsupported parameters"),
        (f"$scrypt$ln=99,r=8,p=1{SALT_AND_KEY}", "unsupported parameters"),
        (f"$scrypt$ln=15,r=99,p=1{SALT_AND_KEY}", "unsupported parameters"),
        (f"$scrypt$ln=15,r=8,p=5{SALT_AND_KEY}", "unsupported parameters"),
        (f"$scrypt$ln=15,r=8,p=1{SALT_AND_KEY}AA", "cut off or damaged"),
    ],
)
def test_what_is_no_hash_has_its_reason(text: str, reason: str) -> None:
    with pytest.raises(RouteError, match=reason):
        check_hash(text)


@pytest.mark.parametrize("parameters", ["ln=16,r=8,p=1", "ln=10,r=16,p=4"])
def test_the_most_costly_that_are_taken_can_be_computed(parameters: str) -> None:
    text = f"$scrypt${parameters}{SALT_AND_KEY}"
    check_hash(text)
    assert not verify(text, b"x")
