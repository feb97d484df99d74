"""Owns the check of Basic credentials: beside the loop, once each, bounded, and remembered.

A check takes tens of milliseconds of a core on purpose. So it runs in a thread, one at a time; what
came of it is remembered by a keyed digest, and a client whose password was right once costs one
look-up per request. Wrong passwords cannot occupy the machine: a client may try a few, and the
thread is throttled after each.
"""

import binascii
import logging
import time
from asyncio import Future
from base64 import b64decode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from secrets import token_bytes
from typing import Final

from edge.errors import HttpError
from edge.proxy.ports import AdmissibleExchange, WaitingExchange
from edge.rules import password
from edge.rules.client_ip import client_name
from edge.rules.rate_limit import Limit, RateTable
from edge.runtime import Runtime

logger = logging.getLogger(__name__)

# Credentials that are remembered, right ones and wrong ones apart: no flood of guesses makes a
# user's password forgotten. An entry is 100 bytes.
MAX_REMEMBERED: Final = 4096
# Checks that are under way or wait for the thread, and requests that wait for them.
MAX_CHECKS: Final = 32
MAX_WAITING: Final = 1024
# Seconds that a request waits for its check.
CHECK_TIMEOUT: Final = 10.0

# Wrong passwords of one client: 20 at once, then 20 a minute.
GUESS_LIMIT: Final = Limit.of(1 / 3, 20)

# After a wrong password the thread sleeps for this many times the CPU time that it took, at most
# for so many seconds: guessing takes a fifth of one core, however many try it.
THROTTLE_FACTOR: Final = 4.0
MAX_THROTTLE: Final = 0.5

_RETRY_SOON: Final = (b"Retry-After: 1",)


class _PendingCheck:
    """One check, and those who wait for it."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[WaitingExchange, None] = {}

    def cancel_wait(self, exchange: WaitingExchange) -> None:
        """`exchange` waits no longer."""
        self.waiting.pop(exchange, None)

    def timeout_error(self) -> HttpError:
        """What a request gets whose time is over."""
        return HttpError(503, "the password could not be checked in time, try again", _RETRY_SOON)


class BasicAuthenticator:
    """Checks and remembers the credentials of all routes of one worker.

    Wrong passwords count in `rates`, for all workers.
    """

    def __init__(self, runtime: Runtime, rates: RateTable) -> None:
        self._runtime = runtime
        self._rates = rates
        self._key = token_bytes(64)
        self._accepted: dict[bytes, None] = {}
        self._rejected: dict[bytes, None] = {}
        self._checks: dict[bytes, _PendingCheck] = {}
        self._waiting = 0  # an upper bound: those that left count until their check is done
        self._thread: ThreadPoolExecutor | None = None

    def check(
        self,
        exchange: AdmissibleExchange,
        users: Mapping[str, str],
        realm: bytes,
        authorization: bytes,
    ) -> bool | None:
        """Whether `authorization` (the field's value) is that of one of `users`.

        `realm` is a digest of `users`. None: `exchange` is held, and will be restarted when it is
        known. Raises HttpError where it cannot be checked now.
        """
        name = blake2b(realm + authorization, digest_size=32, key=self._key).digest()
        for known, verdict in ((self._accepted, True), (self._rejected, False)):
            if name in known:
                del known[name]  # the last one that was asked for is the last to be forgotten
                known[name] = None
                return verdict
        credentials = parse_basic(authorization)
        if credentials is None:
            return False
        now = self._runtime.clock()
        check = self._checks.get(name)
        if self._waiting >= MAX_WAITING or (check is None and len(self._checks) >= MAX_CHECKS):
            raise HttpError(503, "too many passwords are being checked, try again", _RETRY_SOON)
        if check is None:
            check = self._begin(name, exchange, users, *credentials, now)
        check.waiting[exchange] = None
        self._waiting += 1
        exchange.wait_in(check, now + CHECK_TIMEOUT)
        return None

    def close(self) -> None:
        """Check nothing more."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _begin(
        self,
        name: bytes,
        exchange: AdmissibleExchange,
        users: Mapping[str, str],
        user: str,
        secret: bytes,
        now: float,
    ) -> _PendingCheck:
        guesser = b"guess\0" + client_name(exchange.client_address)
        rates = self._rates
        wait = rates.take(guesser, GUESS_LIMIT, now)
        if wait:
            raise HttpError(429, "too many wrong passwords from this address", (retry_after(wait),))
        check = self._checks[name] = _PendingCheck()
        stored = users.get(user)
        # A user who is not there takes as long as one who is: the time must not tell them apart.
        work = _check_work(stored or next(iter(users.values())), secret, stored is not None)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        future = self._runtime.loop.run_in_executor(self._thread, work)

        def checked(future: Future[bool]) -> None:
            del self._checks[name]
            waiting = list(check.waiting)
            self._waiting = sum(len(other.waiting) for other in self._checks.values())
            if future.cancelled():
                return
            cause = future.exception()
            if cause is not None:
                logger.error("internal error: a password could not be checked", exc_info=cause)
                for one in waiting:
                    one.reject(
                        HttpError(503, "the password could not be checked, try again", _RETRY_SOON)
                    )
                return
            right = future.result()
            if right:
                rates.give_back(guesser, GUESS_LIMIT, self._runtime.clock())
            _remember(self._accepted if right else self._rejected, name)
            for one in waiting:
                one.resume()

        future.add_done_callback(checked)
        return check


def parse_basic(authorization: bytes) -> tuple[str, bytes] | None:
    """User and password of Basic credentials (RFC 7617 section 2); None if it is nothing such."""
    scheme, _, text = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, secret = b64decode(text.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    if not colon:
        return None
    return password.prepare(user).decode(errors="replace"), password.prepare(secret)


def retry_after(seconds: float) -> bytes:
    """The field that says when to come again (RFC 9110 section 10.2.3)."""
    return b"Retry-After: %d" % max(1, -int(-seconds // 1))


def _check_work(stored: str, secret: bytes, is_user: bool) -> Callable[[], bool]:
    def check() -> bool:
        began = time.thread_time()
        right = password.verify(stored, secret) and is_user
        if not right:
            time.sleep(min(THROTTLE_FACTOR * (time.thread_time() - began), MAX_THROTTLE))
        return right

    return check


def _remember(known: dict[bytes, None], name: bytes) -> None:
    known[name] = None
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]
