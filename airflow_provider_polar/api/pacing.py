"""A request budget, shared by everything in this process that uses one connection.

Polar counts requests in fixed windows, for the organization as a whole: its shop, its tokens, this provider.
Short work goes at once, longer work is spread evenly, no 60 seconds ever hold more than the budget, and a 429 makes
all who share the account wait and go slower.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_MINUTE = 60.6
"""Seconds that hold the budget: one percent more than a minute, for a request delayed on the network must not slip
into a full one."""
AT_ONCE = 0.1
"""Share of the budget that may go at once, unless a client says otherwise."""
_SLOWER, _SLOWEST, _FASTER = 0.75, 0.1, 1.02
_LONG = 10.0
"""A wait of more seconds than this is told in the log."""


@dataclass(slots=True)
class Gate:
    """Closed by a 429 for all pacers of an account.

    :ivar closed_until: in the clock's seconds.
    """

    closed_until: float = float("-inf")


class Pacer:
    """Hands out the moments at which requests may be sent. Thread-safe; it never sleeps itself.

    :param requests_per_minute: the budget; None for no pacing (a 429 still makes everybody wait).
    :param at_once: share of the budget that may go at once; the rest is spread evenly.
    :param clock: monotonic seconds.
    :param gate: what a 429 closes; shared by the pacers of an account.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        *,
        at_once: float = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
        gate: Gate | None = None,
    ) -> None:
        if requests_per_minute is not None and requests_per_minute <= 0:
            raise ValueError("requests_per_minute must be positive")
        self.requests_per_minute = requests_per_minute
        self._most = max(1, int(requests_per_minute)) if requests_per_minute else None
        self._at_once = int((self._most or 0) * at_once)
        # A budget below one request a minute makes the span longer and not the request smaller.
        self._span = _MINUTE / min(1.0, requests_per_minute or 1.0)
        self._clock = clock
        self._gate = gate or Gate()
        self._lock = threading.Lock()
        self._moments: deque[float] = deque()
        self._next = float("-inf")
        self._pace = 1.0
        self._in_long_wait = False

    @property
    def interval(self) -> float:
        """Seconds between two requests at the present pace; 0 without a budget."""
        return self._span / self._most / self._pace if self._most else 0.0

    def reserve(self) -> float:
        """Takes the next moment and returns it, in the clock's seconds."""
        with self._lock:
            moment = max(self._clock(), self._gate.closed_until)
            if self._most is None:
                return moment
            taken, interval = self._moments, self.interval
            while taken and taken[0] <= moment - self._span:
                taken.popleft()
            if len(taken) < self._at_once and self._pace == 1.0:
                self._next = moment + interval
            else:
                moment = max(moment, self._next)
                if len(taken) >= self._most:
                    moment = max(moment, taken[-self._most] + self._span)
                # A caller that comes late by up to one interval has not lost its moment.
                self._next = max(self._next, moment - interval) + interval
            taken.append(moment)
            return moment

    def delay(self, moment: float) -> float | None:
        """Seconds until a reserved moment, 0 when it has come; None where a 429 took it back: reserve again."""
        with self._lock:
            if moment < self._gate.closed_until:
                return None
            return max(0.0, moment - self._clock())

    @property
    def load(self) -> float:
        """Share of the budget that the last minute has taken, and what waits for its moment; 0 without a budget."""
        with self._lock:
            since = self._clock() - self._span
            return sum(moment > since for moment in self._moments) / self._most if self._most else 0.0

    def is_new_long_wait(self, delay: float) -> bool:
        """Whether a wait is worth a line in the log: a long one, and the first since the last short one."""
        with self._lock:
            before, self._in_long_wait = self._in_long_wait, delay > _LONG
            return self._in_long_wait and not before

    def throttled(self, retry_after: float) -> None:
        """A 429 came: nobody sends for ``retry_after`` seconds, and the pace goes down."""
        with self._lock:
            now, gate = self._clock(), self._gate
            if now >= gate.closed_until:
                # Further responses to what was sent before the gate closed say nothing new.
                self._pace = max(_SLOWEST, self._pace * _SLOWER)
            gate.closed_until = max(gate.closed_until, now + retry_after)
            # Moments within the closed time are taken back: nothing is sent at them.
            self._moments = deque(m for m in self._moments if not now < m < gate.closed_until)
            self._next = max(self._next, gate.closed_until)

    def succeeded(self) -> None:
        """A response came that was not a 429: the pace recovers slowly."""
        if self._pace < 1.0:
            with self._lock:
                self._pace = min(1.0, self._pace * _FASTER)


_shared: dict[tuple[str, float | None, float], Pacer] = {}
_gates: dict[str, Gate] = {}
_shared_lock = threading.Lock()


def shared_pacer(account: str, requests_per_minute: float | None, at_once: float = AT_ONCE) -> Pacer:
    """The one pacer of this process for an account (a server and a token), a budget and what may go of it at once."""
    with _shared_lock:
        gate = _gates.setdefault(account, Gate())
        key = (account, requests_per_minute, at_once)
        return _shared.setdefault(key, Pacer(requests_per_minute, at_once=at_once, gate=gate))
