"""Proves how a moment is written in a field."""

from email.utils import formatdate

import pytest

from edge.wire.date import http_date


def test_the_example_of_the_rfc() -> None:
    assert http_date(784_111_777) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize("first", [0, 951_782_400, 1_700_000_000, 4_107_542_400])
def test_each_day_of_a_year_is_as_the_standard_library_writes_it(first: int) -> None:
    for day in range(366):
        moment = first + day * 86_521
        assert http_date(moment) == formatdate(moment, usegmt=True).encode()
