"""Whatever happens to a Fairlead and its machine, in any order: what is promised holds."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model import boundary, orchestrator_boundary
from tests.model.machine import Machine

STEPS = 50

LONG = int(os.environ.get("MODEL_EXAMPLES", "4000"))
"""Examples of the long form, of all its seeds."""
SEEDS = range(100, 108)
"""Of the long form: each can run in a process of its own."""

# What it executes is covered by the tests of each part; to count it would take twice the time.
pytestmark = pytest.mark.no_cover


class InternalErrors(logging.Handler):
    """What a program logs with a traceback is a fault."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            boundary.here().blame(f"{record.getMessage()}: {record.exc_info[1]!r}")


@pytest.fixture(autouse=True)
def simulated_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The programs run on the simulated kernel. Hundreds of them would say a lot.

    What is garbage is collected between two worlds (a fifth of the time else), without looking at
    all that was there before.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    boundary.install(monkeypatch)
    orchestrator_boundary.install(monkeypatch)
    logging.disable(logging.WARNING)
    handler = InternalErrors(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("edge", "orchestrator")]
    for logger in loggers:
        logger.addHandler(handler)
        monkeypatch.setattr(logger, "propagate", False)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    logging.disable(logging.NOTSET)
    gc.enable()
    gc.unfreeze()


def run(machine: type[Machine], examples: int, number: int) -> None:
    """With a seed, so that a fault that is found is found each time."""
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            # To make it shorter takes minutes; what failed is printed as it was.
            phases=(Phase.generate,),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 4))]
)
def test_what_is_promised_holds_in_any_order(number: int) -> None:
    run(Machine, 125, number)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", SEEDS)
def test_what_is_promised_holds_in_any_order_for_long(number: int) -> None:
    run(Machine, LONG // len(SEEDS), number)
