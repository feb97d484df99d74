"""Proves that the compiled head codec does what the pure one does, and how one of them is chosen.

The long form, with any number of heads, is `make fuzz` (fuzz.py).
"""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.hostile.case import Case, cases
from tests.edge.wire.heads import any_of, request_head, response_head
from tests.edge.wire.twins import (
    ID_LINE,
    PEERS,
    needs_compiled,
    request_outcome,
    request_reader_of,
    response_outcome,
    response_reader_of,
)

ROOT = Path(__file__).parents[3]

MANY = settings(max_examples=300, derandomize=True, deadline=None)

REQUESTS = [case for case, way in cases("requests") if way == "whole"]
RESPONSES = [case for case, way in cases("responses") if way == "whole"]


def names(corpus: list[Case]) -> list[str]:
    return [case.name for case in corpus]


def requests_are_read_alike(data: bytes, max_head: int = 1024) -> None:
    """Whoever sends it."""
    for peer in PEERS:
        pure, compiled = (
            request_reader_of(codec, peer, max_head=max_head) for codec in ("pure", "compiled")
        )
        assert request_outcome(compiled, data) == request_outcome(pure, data)


def responses_are_read_alike(data: bytes, max_head: int = 1024) -> None:
    """Whatever was asked."""
    for hide_server in (False, True):
        pure, compiled = (
            response_reader_of(codec, hide_server, max_head) for codec in ("pure", "compiled")
        )
        for line in (ID_LINE, b""):
            assert response_outcome(compiled, data, line) == response_outcome(pure, data, line)


@needs_compiled
class TestTheTwins:
    @MANY
    @given(st.randoms(use_true_random=False))
    def test_read_made_up_requests_alike(self, random: Random) -> None:
        requests_are_read_alike(any_of(random, request_head))

    @MANY
    @given(st.randoms(use_true_random=False))
    def test_read_made_up_responses_alike(self, random: Random) -> None:
        responses_are_read_alike(any_of(random, response_head))

    @pytest.mark.parametrize("case", REQUESTS, ids=names(REQUESTS))
    def test_read_hostile_requests_alike(self, case: Case) -> None:
        requests_are_read_alike(case.data, max_head=32768)

    @pytest.mark.parametrize("case", RESPONSES, ids=names(RESPONSES))
    def test_read_hostile_responses_alike(self, case: Case) -> None:
        responses_are_read_alike(case.data, max_head=32768)

    @pytest.mark.parametrize("octet", range(256))
    def test_take_one_octet_for_the_same_wherever_it_stands(self, octet: int) -> None:
        request = b"GET /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nX-A: b\r\n\r\n"
        response = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\nX-A: b\r\n\r\n"
        for place in range(len(request)):
            data = request[:place] + bytes([octet]) + request[place:]
            pure, compiled = (request_reader_of(codec) for codec in ("pure", "compiled"))
            assert request_outcome(compiled, data) == request_outcome(pure, data)
        for place in range(len(response)):
            data = response[:place] + bytes([octet]) + response[place:]
            pure_of, compiled_of = (response_reader_of(codec) for codec in ("pure", "compiled"))
            assert response_outcome(compiled_of, data) == response_outcome(pure_of, data)


def chosen(code: str = "", **environ: str) -> str:
    """Which codec a process takes that runs `code` first."""
    code += "\nfrom edge.wire.codec import CHOICE\nprint(CHOICE, CHOICE.failure, sep=';')"
    kept = {name: value for name, value in os.environ.items() if name != "FAIRLEAD_PURE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | environ,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


class TestTheChoice:
    @needs_compiled
    def test_is_the_compiled_one_where_it_is(self) -> None:
        assert chosen() == "compiled;"

    def test_is_the_pure_one_where_that_is_asked_for(self) -> None:
        assert chosen(FAIRLEAD_PURE="1") == "pure (FAIRLEAD_PURE is set);"

    def test_is_the_pure_one_where_nothing_was_compiled(self, tmp_path: Path) -> None:
        pure = tmp_path / "wire"
        shutil.copytree(ROOT / "edge/wire", pure, ignore=shutil.ignore_patterns("*.so"))
        absent = f"import edge.wire\nedge.wire.__path__[:] = [{str(pure)!r}]"
        assert chosen(absent, FAIRLEAD_PURE="0") == "pure (not compiled);"

    def test_is_the_pure_one_where_the_compiled_one_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / f"_codec{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF damaged")
        said = chosen(f"import edge.wire\nedge.wire.__path__.insert(0, {str(tmp_path)!r})")
        assert said.startswith("pure (the compiled one does not load);ImportError: ")
