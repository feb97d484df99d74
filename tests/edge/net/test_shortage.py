"""Proves what a shortage says, and for how long it lasts."""

import errno
import os
import resource

import pytest

from edge.net.shortage import CALM, Shortage, is_own_fault, refusal


def refused(code: int) -> OSError:
    """What the kernel says."""
    return OSError(code, os.strerror(code))


@pytest.fixture
def counts() -> dict[str, int]:
    """Refusals by the name of the error."""
    return {}


@pytest.fixture
def shortage(counts: dict[str, int]) -> Shortage:
    """None so far."""
    return Shortage(counts)


class TestWhoseFaultItIs:
    @pytest.mark.parametrize(
        "code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]
    )
    def test_what_we_have_run_out_of_is_ours(self, code: int) -> None:
        assert is_own_fault(refused(code))

    def test_all_else_is_not(self) -> None:
        assert not is_own_fault(refused(errno.ECONNREFUSED))
        assert not is_own_fault(ValueError())
        assert not is_own_fault(None)


class TestAnIncident:
    def test_is_in_the_log_once_and_counted_each_time(
        self, shortage: Shortage, counts: dict[str, int], caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(3):
            shortage.note(refused(errno.EMFILE), 10.0)
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert "LimitNOFILE" in record.message
        assert counts == {"EMFILE": 3}

    def test_lasts_until_nothing_was_refused_for_a_while(
        self, shortage: Shortage, caplog: pytest.LogCaptureFixture
    ) -> None:
        shortage.note(refused(errno.ENFILE), 10.0)
        assert shortage.look(10.0 + CALM - 0.1)
        assert "fs.file-max" in (shortage.reason or "")
        caplog.clear()
        assert shortage.look(10.0 + CALM)
        assert shortage.reason is None
        assert "ENFILE" in caplog.text
        caplog.clear()
        shortage.note(refused(errno.ENFILE), 20.0)
        assert "fs.file-max" in caplog.text

    def test_that_concerns_one_target_is_no_reason_to_turn_all_clients_away(
        self, shortage: Shortage, caplog: pytest.LogCaptureFixture
    ) -> None:
        shortage.note(refused(errno.EADDRNOTAVAIL), 10.0)
        assert shortage.reason is None
        assert "ip_local_port_range" in caplog.text


class TestALook:
    def test_finds_a_shortage_that_nobody_has_met(
        self, shortage: Shortage, counts: dict[str, int]
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            assert not shortage.look(10.0)
            assert is_own_fault(refusal())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert counts == {"EMFILE": 1}
        assert shortage.reason is not None
        assert refusal() is None
