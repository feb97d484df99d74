"""Owns the operations of the model, in any order: a stateful test of hypothesis."""

import gc
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.disk import FAULTS
from tests.model.docker import Box
from tests.model.kernel import PairEnd, Process
from tests.model.names import APPS, HOSTS, UPSTREAMS
from tests.model.world import World

MEMORY: Final = "/dev/shm"

PAUSES: Final = st.sampled_from((0.0, 0.001, 0.004, 0.03, 0.1, 0.3, 1.0, 2.0))
"""Seconds until the next thing is done."""

RULES: Final = (
    {"deny": ("198.51.100.0/24",)},
    {"allow": ("192.0.2.0/24",), "rate": 5},
    {"rate": 7, "burst": 9},
    {"set_fields": {"X-Frame-Options": "DENY"}},
)
"""That an operator gives to the routes of apps."""

_Method = Callable[..., None]


def operation(
    when: Callable[[World], bool] = lambda _: True, **arguments: Any
) -> Callable[[_Method], _Method]:
    """Something that can be done `when` it makes sense, and then some time passes."""

    def decorate(method: _Method) -> _Method:
        def run(self: "Machine", pause: float, **given: Any) -> None:
            method(self, **given)
            self.world.run(pause)

        run.__name__ = method.__name__

        def is_allowed(self: "Machine") -> bool:
            return (not self.only or method.__name__ in self.only) and when(self.world)

        as_rule: Callable[[_Method], _Method] = rule(pause=PAUSES, **arguments)
        if_allowed: Callable[[_Method], _Method] = precondition(is_allowed)
        return if_allowed(as_rule(run))

    return decorate


class Machine(RuleBasedStateMachine):
    """Every order of what can happen to a Fairlead and its machine; with `only`, of these."""

    only: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY, prefix="fairlead-model-")
        self.world: World

    @initialize(seed=st.integers(0, 2**20))
    def begin(self, seed: int) -> None:
        self.world = World(Path(self.folder.name), seed)

    def teardown(self) -> None:
        world = getattr(self, "world", None)
        try:
            if world is not None and not world.is_broken:
                world.come_to_rest()
        finally:
            if world is not None:
                world.close()
            self.folder.cleanup()
            gc.collect()

    # Routes and deploys

    @operation(host=st.sampled_from(HOSTS), upstream=st.sampled_from(UPSTREAMS))
    def set(self, host: str, upstream: str) -> None:
        self.world.change_route(host, upstream, "set")

    @operation(host=st.sampled_from(HOSTS), upstream=st.sampled_from(UPSTREAMS))
    def retarget(self, host: str, upstream: str) -> None:
        self.world.change_route(host, upstream, "retarget")

    @operation(host=st.sampled_from(HOSTS))
    def remove(self, host: str) -> None:
        self.world.change_route(host, None, "remove")

    @operation(app=st.sampled_from(APPS))
    def deploy(self, app: str) -> None:
        self.world.deploy(app)

    @operation(app=st.sampled_from(APPS))
    def remove_app(self, app: str) -> None:
        self.world.remove_app(app)

    @operation(app=st.sampled_from(APPS), rules=st.sampled_from(RULES))
    def protect(self, app: str, rules: dict[str, object]) -> None:
        self.world.protect(app, rules)

    @operation()
    def settle(self) -> None:
        self.world.come_to_rest()

    # Processes

    @operation(number=st.integers(0, 3))
    def kill_worker(self, number: int) -> None:
        self._signal("worker", number, signal.SIGKILL)

    @operation(number=st.integers(0, 3))
    def stop_worker(self, number: int) -> None:
        """One that has a supervisor: it is not promised that another one is resumed."""
        self._signal("worker", number, signal.SIGSTOP, supervised=True)

    @operation(
        lambda world: any(each.is_stopped for each in world.kernel.living("worker")),
        number=st.integers(0, 3),
    )
    def resume_worker(self, number: int) -> None:
        self._signal("worker", number, signal.SIGCONT)

    @operation(number=st.sampled_from((signal.SIGKILL, signal.SIGTERM)))
    def end_edge(self, number: signal.Signals) -> None:
        for process in self.world.kernel.living("edge"):
            process.signal(number)

    @operation(number=st.sampled_from((signal.SIGSTOP, signal.SIGCONT)))
    def hold_edge(self, number: signal.Signals) -> None:
        self._signal("edge", 0, number)

    @operation(number=st.sampled_from((signal.SIGKILL, signal.SIGTERM)))
    def end_orchestrator(self, number: signal.Signals) -> None:
        self._signal("orchestrator", 0, number)

    @operation(code=st.sampled_from(("good", "good", "broken", "hangs")))
    def upgrade(self, code: str) -> None:
        self.world.code = code
        self.world.ask_edge("/upgrade", timeout=10.0)

    @operation(number=st.integers(0, 3), seconds=st.sampled_from((0.05, 0.5, 5.0, 0.0)))
    def delay_messages(self, number: int, seconds: float) -> None:
        """Between supervisors and workers, in one direction of one channel."""
        ends = [each for each in self.world.kernel.ends if isinstance(each, PairEnd)]
        if ends:
            ends[number % len(ends)].delay = seconds

    # The engine

    @operation()
    def restart_engine(self) -> None:
        self.world.disturb()
        self.world.docker.ends(in_order=True)
        self.world.docker.starts()

    @operation(policies_work=st.booleans())
    def kill_engine(self, policies_work: bool) -> None:
        self.world.disturb()
        self.world.docker.policies_work = policies_work
        self.world.docker.ends(in_order=False)

    @operation(lambda world: not world.docker.is_up)
    def start_engine(self) -> None:
        self.world.docker.starts()

    @operation(number=st.integers(0, 5))
    def crash_container(self, number: int) -> None:
        for box in self._one_running(number):
            self.world.disturb()
            self.world.docker.crash(box)

    @operation(number=st.integers(0, 5))
    def stop_container(self, number: int) -> None:
        """`docker stop`."""
        for box in self._one_running(number):
            self.world.stop_container(box)

    @operation(lambda world: bool(world.stopped_by_hand))
    def start_container(self) -> None:
        """`docker start`, of those that were stopped by hand."""
        for number in sorted(self.world.stopped_by_hand):
            self.world.start_container(number)

    @operation(app=st.sampled_from(APPS))
    def run_stranger(self, app: str) -> None:
        """Somebody runs a container of his own in the network of an app."""
        self.world.run_stranger(app)

    @operation(engine_first=st.booleans())
    def reboot(self, engine_first: bool) -> None:
        world = self.world
        world.reboot()
        if engine_first:
            world.docker.starts()
        world.start_edge()
        world.start_orchestrator()
        if not engine_first:
            world.kernel.loop.call_later(1.0, world.docker.starts)

    # The database

    @operation(
        lambda world: not (world.disk.fault or world.adopting), fault=st.sampled_from(FAULTS)
    )
    def lose_database(self, fault: str) -> None:
        self.world.lose_database(fault)

    @operation(lambda world: bool(world.disk.fault))
    def return_database(self) -> None:
        self.world.return_database()

    @operation(lambda world: world.disk.fault == "other")
    def adopt_database(self) -> None:
        self.world.adopt_database()

    def _signal(
        self, program: str, number: int, which: signal.Signals, *, supervised: bool = False
    ) -> None:
        found: list[Process] = self.world.kernel.living(program)
        if supervised:
            found = [each for each in found if each.parent is not None]
        if found:
            found[number % len(found)].signal(which)

    def _one_running(self, number: int) -> list[Box]:
        found = [] if not self.world.docker.is_up else self.world.docker.running()
        return found[number % len(found) :][:1] if found else []
