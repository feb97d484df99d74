"""Owns which targets are available: what checks and requests say of them, and what follows from it.

Two things eject a target, each until it takes that back: active checks that fail (until checks pass
again) and requests that fail in a row (for an ejection time, after which one request is let through
as a trial). The outcome is one number on the `Target`, the moment until which balancers pass over
it; whatever changes it is a `Verdict`, which holds for all workers.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, NamedTuple

from edge.rules.health_check import HealthCheck, Streak
from edge.runtime import Runtime
from edge.upstream.probe import Probe
from edge.upstream.target import INITIAL_BACKOFF, MAX_BACKOFF, Target

logger = logging.getLogger(__name__)

# New checks per second at most, so that a table of 1,000 targets is not probed at one instant; but
# all have been asked within their interval.
STARTS_PER_SECOND: Final = 50

# Seconds that a worker adds to the ejection time that another one has set: that one's trial comes
# first, and its outcome is known to all before they would try, too.
FOLLOWER_DELAY: Final = 1.0

# Seconds for which a verdict is kept on a target that this worker's table does not hold yet.
EARLY_VERDICT_TTL: Final = 60.0

# What a gateway in front of the real upstream says when it cannot be reached.
FAILING_STATUSES: Final = frozenset((502, 504))

Kind = Literal["checks", "requests"]


class Verdict(NamedTuple):
    """A worker has changed its mind about a target; every worker follows.

    `ejection_time` is the seconds until a request may try it again, if failed requests eject it.
    """

    address: str
    healthy: bool
    reason: str
    kind: Kind
    ejection_time: float = 0.0

    def as_json(self) -> dict[str, object]:
        """Fit for JSON; `from_json` takes it."""
        return self._asdict()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Verdict":
        """What `as_json` gave."""
        return cls(**found)


class TargetState(NamedTuple):
    """What is known of a target, for people.

    `state` is "healthy", "unhealthy" (checks fail), "ejected" (requests or connections have failed)
    or "unchecked" (nothing speaks against it, but no check has looked). `reason` is the last
    failure, if there was one; `since` the Unix time at which the state last changed, if it did.
    `addresses` are those in use and `name_error` says why the last lookup failed, of a target that
    is a name.
    """

    address: str
    state: str
    reason: str
    since: float | None
    in_flight: int
    idle: int
    addresses: tuple[str, ...] = ()
    name_error: str = ""


class _Record:
    """What is known of one address. `target` is there once something was sent to it."""

    __slots__ = (
        "address",
        "check_verdict",
        "due",
        "ejected_at",
        "ejected_until",
        "failures",
        "on_trial",
        "probe",
        "reason",
        "request_verdict",
        "since",
        "streaks",
        "target",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        self.target: Target | None = None
        self.reason = ""
        self.since: float | None = None
        # Active checks
        self.streaks: dict[HealthCheck, Streak] = {}
        self.due = math.inf  # the earliest of them
        self.probe: Probe | None = None
        self.check_verdict: Verdict | None = None
        # Requests
        self.failures = 0  # in a row, seen by this worker
        self.request_verdict: Verdict | None = None  # only while they eject it
        self.ejected_at = 0.0
        self.ejected_until = 0.0
        self.on_trial = False

    def __repr__(self) -> str:
        return f"<_Record {self.address} unavailable={self.is_unavailable}>"

    @property
    def fails_checks(self) -> bool:
        return (
            bool(self.streaks) and self.check_verdict is not None and not self.check_verdict.healthy
        )

    @property
    def is_unavailable(self) -> bool:
        return self.fails_checks or self.request_verdict is not None

    def enforce(self) -> None:
        """Have balancers follow."""
        if self.target is not None:
            self.target.eject_until(math.inf if self.fails_checks else self.ejected_until)


def _when_due(record: _Record) -> float:
    return record.due


def _no_peers(verdict: Verdict) -> None:
    """A lone worker has nobody to tell."""


class HealthMonitor:
    """The health of all targets of one worker.

    `target_at` gives the target at an address of the table, to be checked. `on_verdict` is told
    when this worker's checks or requests have changed its mind. It has acted upon that already;
    what is told comes back to the others, and may come back here, by `apply`.
    """

    def __init__(self, runtime: Runtime, target_at: Callable[[str], Target]) -> None:
        self.on_verdict: Callable[[Verdict], None] = _no_peers
        self._runtime = runtime
        self._target_at = target_at
        self._addresses: Collection[str] = ()  # of all targets in the table
        self._probing = True
        self._records: dict[str, _Record] = {}
        self._checked: dict[str, _Record] = {}  # those of them that have checks
        self._early_verdicts: dict[str, float] = {}  # verdicts came before the table: since when
        self._probes: set[Probe] = set()

    def __repr__(self) -> str:
        return f"<HealthMonitor checked={len(self._checked)} probing={self._probing}>"

    @property
    def probing(self) -> bool:
        """Whether this worker sends the active checks: one of all does, and its verdicts count."""
        return self._probing

    @probing.setter
    def probing(self, probing: bool) -> None:
        if probing and not self._probing:
            # What the one before had found out is not asked anew.
            for record in self._checked.values():
                for streak in record.streaks.values():
                    streak.healthy = record.check_verdict.healthy if record.check_verdict else None
                    streak.consecutive_contrary = 0
            self._schedule(self._checked.values())
        self._probing = probing

    # The table

    def update_targets(
        self, checks: Mapping[str, frozenset[HealthCheck]], addresses: Collection[str]
    ) -> None:
        """Another table is served: `checks` by target, `addresses` of all its targets."""
        now = self._runtime.clock()
        self._addresses = addresses
        for address in [address for address in self._early_verdicts if address in addresses]:
            del self._early_verdicts[address]
        # 100,000 targets may be in use, and nearly none of them ever goes.
        for address in [address for address in self._records if address not in addresses]:
            if self._early_verdicts.get(address, -math.inf) + EARLY_VERDICT_TTL <= now:
                self._forget(self._records[address])
        for address in [address for address in self._checked if address not in checks]:
            self._set_checks(self._checked[address], frozenset())
        changed = []
        for address, wanted in checks.items():
            record = self._record(address)
            if record.streaks.keys() != wanted:
                self._set_checks(record, wanted)
                changed.append(record)
        self._schedule(changed)

    def attach(self, target: Target) -> None:
        """A target is about to be used; it is as available as its address is known to be."""
        record = self._record(target.address)
        record.target = target
        record.enforce()

    def _record(self, address: str) -> _Record:
        record = self._records.get(address)
        if record is None:
            record = self._records[address] = _Record(address)
        return record

    def _forget(self, record: _Record) -> None:
        if record.probe is not None:
            record.probe.close()
        self._checked.pop(record.address, None)
        self._early_verdicts.pop(record.address, None)
        self._runtime.metrics.upstream_up.pop(record.address, None)
        del self._records[record.address]

    def _set_checks(self, record: _Record, wanted: frozenset[HealthCheck]) -> None:
        """Other checks than before are wanted, none if `wanted` is empty."""
        was_unavailable = record.is_unavailable
        probe = record.probe
        if probe is not None and probe.check not in wanted:
            probe.close()
        record.streaks = {check: record.streaks.get(check) or Streak() for check in wanted}
        if wanted:
            self._checked[record.address] = record
            if self._probing:
                self._evaluate(record, "the failed health check was removed")
        else:
            del self._checked[record.address]
            record.check_verdict = None
            record.due = math.inf
            if was_unavailable and not record.is_unavailable and self._probing:
                logger.info(
                    "target %s is available again: its health check was removed", record.address
                )
        self._enforce(record, was_unavailable)

    def _schedule(self, records: Collection[_Record]) -> None:
        """Make the new checks due: few at once, many spread over their interval at the most."""
        now = self._runtime.clock()
        for index, record in enumerate(records):
            for check, streak in record.streaks.items():
                if streak.due <= now:
                    window = min(check.interval, len(records) / STARTS_PER_SECOND)
                    streak.due = now + window * index / len(records)
            record.due = min(streak.due for streak in record.streaks.values())

    # Active checks

    def sweep(self, now: float) -> None:
        """Give up probes that take too long; begin those that are due."""
        for probe in [probe for probe in self._probes if probe.deadline <= now]:
            probe.on_deadline()
        if self._probing:
            due = [
                record
                for record in self._checked.values()
                if record.due <= now and record.probe is None
            ]
            # Where descriptors are short, who has waited for longest comes first.
            due.sort(key=_when_due)
            for record in due:
                if not self._runtime.budget.allows_check(len(self._probes)):
                    break
                self._probe(record, now)

    def close(self) -> None:
        """Break off every probe."""
        for probe in list(self._probes):
            probe.close()

    def _probe(self, record: _Record, now: float) -> None:
        check, streak = min(record.streaks.items(), key=lambda item: item[1].due)
        streak.next_due(now, check.interval)
        record.due = min(streak.due for streak in record.streaks.values())
        target = self._target_at(record.address)
        record.probe = probe = Probe(self, target, check, now)
        self._probes.add(probe)
        probe.start()

    def check_finished(self, probe: Probe, passed: bool, reason: str) -> None:
        """A probe has its answer, or none in time; `reason` is what it saw."""
        self._runtime.metrics.health_checks["passed" if passed else "failed"] += 1
        record = self._records.get(probe.address)
        if record is None or record.probe is not probe or not self._probing:
            return
        if not passed:
            record.reason = reason
        check = probe.check
        counted = record.streaks[check].add(passed, check)
        if counted:
            self._evaluate(record, f"{reason} ({counted} in a row)" if counted > 1 else reason)

    def probe_ended(self, probe: Probe) -> None:
        """Nothing of a probe is left."""
        self._probes.discard(probe)
        record = self._records.get(probe.address)
        if record is not None and record.probe is probe:
            record.probe = None

    def _evaluate(self, record: _Record, reason: str) -> None:
        """All checks of a target have to pass; those that have not looked yet do not count."""
        found = {streak.healthy for streak in record.streaks.values()}
        healthy = False not in found
        known = record.check_verdict.healthy if record.check_verdict is not None else None
        if found != {None} and healthy is not known:
            self._change_state(record, Verdict(record.address, healthy, reason, "checks"))

    # Requests

    def begin_trial(self, target: Target, now: float) -> bool:
        """A request goes to a target that is not known to be available; whether it is a panic pick.

        If its ejection time is over, the request is the trial (half-open), and others pass the
        target over once more.
        """
        if target.unavailable_until > now:
            return True
        record = self._records.get(target.address)
        if record is not None and record.target is target and record.request_verdict is not None:
            record.on_trial = True
            record.ejected_until = now + record.request_verdict.ejection_time
            record.enforce()
        return False

    def request_failed(self, target: Target, max_fails: int, reason: str) -> None:
        """A request has failed on `target`; `max_fails` in a row eject it, 0: never."""
        record = self._records.get(target.address)
        if record is None or record.target is not target:
            return  # no route names it any more
        record.reason = reason
        held = record.request_verdict
        if held is None:
            if not max_fails:
                return
            record.failures += 1
            if record.failures < max_fails:
                return
            if record.failures > 1:
                reason = f"{reason} ({record.failures} in a row)"
            ejection_time = INITIAL_BACKOFF
        elif record.on_trial:
            ejection_time = min(held.ejection_time * 2, MAX_BACKOFF)
        else:
            return  # it was begun before, or was a panic pick
        self._change_state(
            record, Verdict(target.address, False, reason, "requests", ejection_time)
        )

    def response_began(self, target: Target, max_fails: int, status: int, since: float) -> None:
        """An answer has begun; a good one speaks for its target before its end, hours perhaps."""
        if status not in FAILING_STATUSES:
            self.response_received(target, max_fails, status, since)

    def response_received(self, target: Target, max_fails: int, status: int, begun: float) -> None:
        """A request that was sent at `begun` was answered."""
        if status in FAILING_STATUSES:
            self.request_failed(target, max_fails, f"answered {status}")
            return
        record = self._records.get(target.address)
        if record is None or record.target is not target:
            return
        record.failures = 0
        if record.request_verdict is not None and begun >= record.ejected_at:
            reason = f"answered {status}"
            self._change_state(record, Verdict(target.address, True, reason, "requests"))

    # Verdicts

    def apply(self, verdict: Verdict) -> None:
        """Follow the verdict of any worker, this one included."""
        address = verdict.address
        record = self._record(address)
        if address not in self._addresses:
            self._early_verdicts.setdefault(address, self._runtime.clock())
        if verdict == record.request_verdict and record.ejected_until > self._runtime.clock():
            return  # one's own has come back
        self._apply(record, verdict, FOLLOWER_DELAY)

    def verdicts(self) -> list[Verdict]:
        """What a worker that has just started has to `apply`, in this order."""
        now = self._runtime.clock()
        found = [record.check_verdict for record in self._records.values() if record.check_verdict]
        for record in self._records.values():
            if record.request_verdict is not None:
                left = max(record.ejected_until - now, INITIAL_BACKOFF)
                found.append(record.request_verdict._replace(ejection_time=left))
        return found

    def _change_state(self, record: _Record, verdict: Verdict) -> None:
        was_unavailable = record.is_unavailable
        self._apply(record, verdict, 0.0)
        if record.is_unavailable and not was_unavailable:
            logger.warning("target %s is unavailable: %s", record.address, verdict.reason)
        elif was_unavailable and not record.is_unavailable:
            logger.info("target %s is available again: %s", record.address, verdict.reason)
        self.on_verdict(verdict)

    def _apply(self, record: _Record, verdict: Verdict, delay: float) -> None:
        was_unavailable = record.is_unavailable
        if verdict.kind == "checks":
            record.check_verdict = verdict
        if verdict.healthy:
            # What was seen last counts: a check that brings a target back ends its ejection, too.
            record.request_verdict = None
            record.ejected_until = 0.0
            record.failures = 0
            if record.target is not None:
                record.target.reset_backoff()
        else:
            record.reason = verdict.reason
            if verdict.kind == "requests":
                now = self._runtime.clock()
                record.request_verdict = verdict
                record.ejected_at = now
                record.ejected_until = now + verdict.ejection_time + delay
                record.on_trial = False
        self._enforce(record, was_unavailable)

    def _enforce(self, record: _Record, was_unavailable: bool) -> None:
        record.enforce()
        if record.is_unavailable != was_unavailable:
            record.since = time.time()
        up = self._runtime.metrics.upstream_up
        if record.streaks and record.check_verdict is not None:
            up[record.address] = int(not record.is_unavailable)
        else:
            up.pop(record.address, None)

    # For people

    def states(self) -> list[TargetState]:
        """What is known of each target in the table that was used, checked or judged."""
        now = self._runtime.clock()
        return [
            self._state(record, now)
            for address, record in self._records.items()
            if address not in self._early_verdicts
        ]

    def _state(self, record: _Record, now: float) -> TargetState:
        target = record.target
        name = target.pool.name if target is not None else None
        if record.fails_checks:
            state = "unhealthy"
        elif record.request_verdict is not None or (target and target.unavailable_until > now):
            state = "ejected"
        elif record.streaks and record.check_verdict is not None:
            state = "healthy"
        else:
            state = "unchecked"
        return TargetState(
            record.address,
            state,
            record.reason,
            record.since,
            target.in_flight if target is not None else 0,
            target.pool.idle if target is not None else 0,
            name.addresses if name is not None else (),
            name.error if name is not None else "",
        )
