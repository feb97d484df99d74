"""Proves what a scrape says of the version and the head codec that each worker runs."""

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.control.channel import Message
from edge.supervisor.process_metrics import WorkerCollector, _version
from edge.supervisor.register import Register
from edge.supervisor.slot import Slot
from edge.telemetry.metrics import Metrics
from edge.telemetry.prometheus import render


async def hello(_: Slot) -> Message:
    """What no process is ever told here."""
    raise AssertionError


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[list[Slot]]:
    """Two, in which no worker was started yet."""
    register = Register.open(tmp_path / "register")
    yield [
        Slot(number, [], hello, lambda *_: None, lambda _: None, register) for number in range(2)
    ]
    os.close(register.descriptor)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    _version.cache_clear()
    yield
    _version.cache_clear()


def build_info(slots: list[Slot]) -> list[dict[str, str]]:
    """The labels of each sample, all of which are 1."""
    text = render(Metrics(), WorkerCollector(slots, {})).decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    samples = families["fairlead_build_info"].samples
    assert {sample.value for sample in samples} == {1}
    return [sample.labels for sample in samples]


class TestBuildInfo:
    def test_it_tells_the_codec_of_each_worker(self, slots: list[Slot]) -> None:
        slots[0].codec = "compiled"
        assert [(each["worker"], each["codec"]) for each in build_info(slots)] == [
            ("0", "compiled"),
            ("1", "unknown"),
        ]

    def test_it_tells_the_version_that_is_installed(
        self, slots: list[Slot], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        versions = {"fairlead": "1.2.3"}
        monkeypatch.setattr("edge.supervisor.process_metrics.version", versions.__getitem__)
        assert [each["version"] for each in build_info(slots)] == ["1.2.3", "1.2.3"]

    def test_a_source_tree_that_was_never_installed_has_no_version(
        self, slots: list[Slot], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(name: str) -> str:
            raise PackageNotFoundError(name)

        monkeypatch.setattr("edge.supervisor.process_metrics.version", missing)
        assert [each["version"] for each in build_info(slots)] == ["unknown", "unknown"]
