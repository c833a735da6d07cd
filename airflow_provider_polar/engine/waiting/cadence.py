"""When to look again: jitter, a growing interval, and backing off after faults. Plain decisions without I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass

from airflow_provider_polar.exceptions import PolarRateLimitError

_FIRST, _LONGEST = 5.0, 600.0
_JITTER = 0.05
_SHORTEST = 1 - 0.5 / (1 - _JITTER)
"""What the nearest tick leaves of a pause of one interval at least, whatever its jitter."""


@dataclass(slots=True)
class Cadence:
    """The pauses of one loop of polls.

    :param interval: seconds between two polls.
    :param growing: double the interval after each poll that found nothing.
    :param longest: seconds that a growing interval may reach; None for no limit.
    """

    interval: float
    growing: bool = False
    longest: float | None = None
    polls: int = 0
    faults: int = 0

    def to_tick(self, pause: float, now: float) -> float:
        """A pause, made longer or shorter, by half an interval at most, to end when others of this interval end, too.

        One that is shorter than the interval stays as it is where the tick would leave too little of it.

        :param now: in the seconds of a clock that they share.
        """
        aligned = round((now + pause) / self.interval) * self.interval - now
        return aligned if aligned >= _SHORTEST * pause else pause

    def after_poll(self) -> float:
        """Seconds to wait after a response."""
        self.faults = 0
        pause = self.interval * 2.0 ** min(self.polls, 30) if self.growing else self.interval
        self.polls += 1
        return _jittered(pause if self.longest is None else min(pause, self.longest))

    def after_fault(self, error: Exception) -> float:
        """Seconds to wait after a fault.

        Never less than the interval, longer with each further one, and as long as a 429 says."""
        self.faults += 1
        pause = max(self.interval, min(_FIRST * 2.0 ** min(self.faults - 1, 30), max(_LONGEST, self.interval)))
        if isinstance(error, PolarRateLimitError):
            pause = max(pause, error.retry_after)
        return _jittered(pause)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
