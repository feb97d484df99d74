"""Proves `orchestrator.security.redact`: security.md's 7, masked by value in every spelling."""

import base64
import json
import re
import threading
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.security.redact import MASK, MAX_SECRETS, MAX_TOTAL, Redactor

SECRET = 'p@ss/w0rd+"ü"&x'

texts = st.text(alphabet="abcABC%=+/ ", max_size=60)
secrets = st.text(alphabet="abcABC%=+/ ", min_size=4, max_size=12)


def escaped(text: str, characters: str) -> str:
    """As in a JSON string, with these characters escaped too."""
    written = json.dumps(text)[1:-1]
    return "".join(f"\\u{ord(each):04x}" if each in characters else each for each in written)


def redactor_of(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    return redactor


class TestSecurity7Spellings:
    @pytest.mark.parametrize(
        "spelling",
        [
            SECRET,
            SECRET.encode().hex(),
            SECRET.encode().hex().upper(),
            base64.b64encode(SECRET.encode()).decode(),
            base64.b64encode(SECRET.encode()).decode().rstrip("="),
            base64.urlsafe_b64encode(SECRET.encode()).decode(),
            quote(SECRET),
            quote(SECRET, safe=""),
            quote(SECRET, safe="!'()*~"),
            quote_plus(SECRET),
            quote(SECRET, safe="")
            .replace("%2F", "%2f")
            .replace("%C3%BC", "%c3%bc")
            .replace("%2B", "%2b"),
            json.dumps(SECRET)[1:-1],
            json.dumps(SECRET, ensure_ascii=False)[1:-1],
            json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        ],
    )
    def test_each_is_replaced_whole(self, spelling: str) -> None:
        assert redactor_of(SECRET).redact(f"a {spelling} b") == f"a {MASK} b"

    @given(
        before=st.binary(max_size=7),
        secret=st.text(min_size=4, max_size=40).filter(lambda text: len(text.encode()) >= 8),
        after=st.binary(max_size=7),
        url_safe=st.booleans(),
    )
    def test_in_base64_it_is_replaced_wherever_it_begins(
        self, before: bytes, secret: str, after: bytes, url_safe: bool
    ) -> None:
        encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
        encoded = encode(before + secret.encode() + after).decode()
        masked = redactor_of(secret).redact(encoded)
        assert MASK in masked
        # Of what is left, no more than the two letters at each side that also stand for others.
        left = encode(before).decode().rstrip("="), encode(after).decode().rstrip("=")
        assert len(masked) - len(MASK) <= sum(map(len, left)) + 6

    @pytest.mark.parametrize("secret", [SECRET, "deployer:t0k/en=~*", "<tag>&'q'"])
    @pytest.mark.parametrize("upper", [False, True])
    @pytest.mark.parametrize(
        "encode",
        [
            # Go escapes what could end a script element, PHP and Rails what they are told to, and
            # some the slash.
            lambda text: escaped(text, "<>&"),
            lambda text: escaped(text, "<>&/"),
            lambda text: escaped(text, "/"),
            lambda text: escaped(text, "/:=@<>&'+*!"),
            lambda text: quote_plus(escaped(text, "/")),
            lambda text: quote_plus(escaped(text, "<>&")),
            lambda text: quote_plus(json.dumps(text)[1:-1].replace("/", "\\/")),
            lambda text: quote_plus(json.dumps(text, ensure_ascii=False)[1:-1]),
            lambda text: quote_plus(quote(text, safe="")),
            lambda text: quote_plus(quote(text)),
            lambda text: quote(text, safe=":"),
            lambda text: quote_plus(text, safe="*").replace("~", "%7E"),
        ],
    )
    def test_what_is_escaped_and_sent_in_a_form_is_replaced(
        self, encode: Callable[[str], str], secret: str, upper: bool
    ) -> None:
        """security.md, Low: in stored deliveries credentials had other spellings."""
        encoded = encode(secret)
        if upper:
            encoded = re.sub(r"\\u([0-9a-f]{4})", lambda match: f"\\u{match[1].upper()}", encoded)
        assert redactor_of(secret).redact(f"a {encoded} b") == f"a {MASK} b"

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            (r'{"url":"https:\/\/user:t\/ok@h\/r"}', rf'{{"url":"https:\/\/{MASK}@h\/r"}}'),
            (r"https:\u002f\u002fuser:t\u002fok@h", rf"https:\u002f\u002f{MASK}@h"),
            (r"https:\u002F\u002Fuser:t\u002Fok@h", rf"https:\u002F\u002F{MASK}@h"),
            ("payload=https%3A%2F%2Fuser%3At%2Fok%40h", f"payload=https%3A%2F%2F{MASK}%40h"),
            ("https%3a%5c%2f%5c%2fuser%3at%5c%2fok%40h", f"https%3a%5c%2f%5c%2f{MASK}%40h"),
        ],
    )
    def test_the_credentials_of_a_clone_url_in_a_body(self, body: str, shown: str) -> None:
        redactor = Redactor()
        redactor.add_credentials("user:t/ok")
        assert redactor.redact(body) == shown

    def test_http_basic_and_the_password_alone_are_replaced(self) -> None:
        redactor = Redactor()
        redactor.add_credentials("deployer:hunter2")
        basic = base64.b64encode(b"deployer:hunter2").decode()
        assert redactor.redact(f"Authorization: Basic {basic}") == f"Authorization: Basic {MASK}"
        assert redactor.redact("https://deployer:hunter2@h/") == f"https://{MASK}@h/"
        assert redactor.redact("password hunter2") == f"password {MASK}"
        assert redactor.redact("deployer is here") == "deployer is here"

    def test_a_user_without_a_password_is_a_token(self) -> None:
        redactor = Redactor()
        redactor.add_credentials("ghp_token:")
        assert redactor.redact("https://ghp_token@h/") == f"https://{MASK}@h/"

    def test_what_is_too_short_is_no_secret(self) -> None:
        assert redactor_of("abc", "").redact("abc abcd") == "abc abcd"

    def test_the_longest_of_several_is_replaced(self) -> None:
        assert (
            redactor_of("hunter", "hunter2", "unter").redact("hunter2 hunter") == f"{MASK} {MASK}"
        )

    def test_values_of_json_are_masked_with_their_keys(self) -> None:
        value = {"a": ["x hunter2", 1, None, True, ("hunter2",)], "hunter2": {"b": 1.5}}
        assert redactor_of("hunter2").redact_json(value) == {
            "a": [f"x {MASK}", 1, None, True, [MASK]],
            MASK: {"b": 1.5},
        }

    def test_a_password_that_is_a_name_of_ours_hides_no_field(self) -> None:
        redacted = redactor_of("state", "x-state").redact_json({"state": "state", "x-state": 1})
        assert redacted == {"state": MASK, MASK: 1}

    def test_its_own_repr_shows_no_secret(self) -> None:
        assert repr(redactor_of("hunter2")) == "<Redactor of 1 secrets>"

    @given(text=texts, known=st.lists(secrets, max_size=4))
    def test_no_secret_is_left(self, text: str, known: list[str]) -> None:
        masked = redactor_of(*known).redact(text)
        assert not any(secret in part for secret in known for part in masked.split(MASK))


class TestSecurity7AcrossChunks:
    @given(
        text=texts,
        known=st.lists(secrets, max_size=4),
        cuts=st.lists(st.integers(0, 200), max_size=10),
        data=st.data(),
    )
    def test_pieces_give_what_the_whole_gives(
        self, text: str, known: list[str], cuts: list[int], data: st.DataObject
    ) -> None:
        # Mostly a text that has secrets in it.
        for secret in known:
            at = data.draw(st.integers(0, len(text)))
            text = text[:at] + secret + text[at:]
        redactor = redactor_of(*known)
        stream = redactor.stream()
        places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        pieces = [text[a:b] for a, b in pairwise(places)]
        assert "".join(map(stream.feed, pieces)) + stream.flush() == redactor.redact(text)

    @given(text=texts, known=st.lists(secrets, max_size=3))
    def test_letter_by_letter_too(self, text: str, known: list[str]) -> None:
        text += "".join(known)
        redactor = redactor_of(*known)
        stream = redactor.stream()
        assert "".join(map(stream.feed, text)) + stream.flush() == redactor.redact(text)

    def test_every_spelling_is_held_back_to_its_last_letter(self) -> None:
        redactor = redactor_of(SECRET)
        for spelling in map(bytes.decode, redactor.table.spellings):
            stream = redactor.stream()
            shown = stream.feed(spelling[:-1]) + stream.feed(spelling[-1]) + stream.flush()
            assert shown == redactor.redact(spelling)
            assert shown.startswith(MASK)

    def test_nothing_is_held_back_that_cannot_be_a_secret(self) -> None:
        stream = redactor_of("hunter2").stream()
        assert stream.feed("building...\n") == "building...\n"
        assert stream.feed("a hun") == "a "
        assert stream.feed("t") == ""
        assert stream.feed("ing party") == "hunting party"
        assert stream.feed(" hunter") == " "
        assert stream.feed("2!") == f"{MASK}!"
        assert stream.feed("hunter") == ""
        assert stream.flush() == "hunter"
        assert stream.flush() == ""

    def test_a_secret_that_begins_another_one_waits_for_it(self) -> None:
        stream = redactor_of("hunter", "hunter2go").stream()
        assert stream.feed("hunter2") == ""
        assert stream.feed("go") == MASK
        assert stream.feed("hunter2x") == f"{MASK}2x"

    def test_a_secret_that_is_added_meanwhile_counts_from_then_on(self) -> None:
        redactor = Redactor()
        stream = redactor.stream()
        assert stream.feed("hunter2 ") == "hunter2 "
        redactor.add("hunter2")
        assert stream.feed("hunter2 ") == f"{MASK} "


class TestBounds:
    def test_the_oldest_of_too_many_is_forgotten(self) -> None:
        redactor = redactor_of(*(f"secret-{number:04}" for number in range(MAX_SECRETS)))
        redactor.add("secret-0000")  # again
        redactor.add("one-more")
        assert redactor.redact("secret-0000 secret-0001 one-more") == f"{MASK} secret-0001 {MASK}"

    def test_what_others_add_takes_the_place_of_no_setting(self) -> None:
        redactor = Redactor()
        redactor.keep("of-the-settings")
        redactor.keep_credentials("proxy:hunter2")
        for number in range(MAX_SECRETS):
            redactor.add_credentials(f"user:password-{number:04}")
        shown = redactor.redact("of-the-settings hunter2 password-0000 password-0999")
        assert shown == f"{MASK} {MASK} password-0000 {MASK}"

    def test_long_ones_are_forgotten_before_they_fill_the_memory(self) -> None:
        redactor = Redactor()
        for number in range(300):
            redactor.add(f"{number:04}" * 500)
        held = sum(map(len, redactor.table.spellings))
        assert held < 100 * MAX_TOTAL
        assert redactor.redact("0299" * 500) == MASK

    def test_threads_may_mask_while_one_adds(self) -> None:
        redactor = redactor_of("hunter2")
        wrong: list[str] = []
        done = threading.Event()

        def redact() -> None:
            while not done.is_set():
                masked = redactor.redact("a hunter2 b")
                if masked != f"a {MASK} b":
                    wrong.append(masked)

        thread = threading.Thread(target=redact)
        thread.start()
        for number in range(100):
            redactor.add(f"another-{number}")
        done.set()
        thread.join()
        assert wrong == []
