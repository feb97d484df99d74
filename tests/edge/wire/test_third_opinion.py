"""Proves the table of docs/codec.md: each of its heads is judged as it says, by all three."""

import pytest

from edge.settings.settings import Settings
from tests.edge.wire.third_opinion import Row, explained, opinions_of
from tests.edge.wire.twins import (
    STRANGER,
    request_outcome,
    request_reader_of,
    response_outcome,
    response_reader_of,
)
from tests.harness import settings_for

ROWS = explained()


@pytest.fixture(scope="module")
def defaults() -> Settings:
    return settings_for()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.opinions.codecs}-{row.example[:30]!r}")
def test_a_head_of_the_table_is_judged_as_it_says(row: Row, codec: str, defaults: Settings) -> None:
    heads = defaults.max_head, defaults.max_fields
    if row.opinions.direction == "request":
        reader = request_reader_of(codec, STRANGER, defaults.max_target, *heads)
        outcome = request_outcome(reader, row.example)
    else:
        outcome = response_outcome(response_reader_of(codec, False, *heads), row.example)
    assert opinions_of(row.opinions.direction, row.example, outcome) == row.opinions
    assert row.opinions.differ


def test_the_table_is_found() -> None:
    assert {row.opinions.direction for row in ROWS} == {"request", "response"}
