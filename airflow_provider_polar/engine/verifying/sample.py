"""Which customers are compared one by one in a run that does not compare all."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from airflow_provider_polar.engine.metering.quantities import Customer
from airflow_provider_polar.engine.window import EventWindow

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MONTH_DAYS = 30.44
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """A share of the customers: of 20 groups one, say.

    :param groups: into how many groups customers fall; 0 for a sample of nobody.
    :param turn: which group's turn it is.
    """

    groups: int
    turn: int

    @classmethod
    def of(cls, share: float, window: EventWindow) -> Self:
        """The sample of a window. In adjacent windows, as a schedule makes them, each group has its turn.

        :param share: 0 to 1, at least so many; 1 for all customers.
        """
        groups = math.floor(1 / share) if share else 0
        return cls(groups, _number(window) % groups if groups else 0)

    @property
    def is_everybody(self) -> bool:
        """Whether all customers are in it."""
        return self.groups == 1

    def __contains__(self, customer: Customer) -> bool:
        if self.groups <= 1:
            return self.is_everybody
        key = customer.external_id or customer.id or ""
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % self.groups == self.turn


def _number(window: EventWindow) -> int:
    """The number of a window among those of its length: days of 23 hours are days, months are months."""
    start, days = window.start + window.duration / 2, round(window.duration / _DAY)
    if days >= 28:
        months = max(1, round(days / _MONTH_DAYS))
        return (start.year * 12 + start.month) // months
    if days:
        return int((start - _EPOCH) / _DAY) // days
    return int((start - _EPOCH) / max(window.duration, timedelta(minutes=1)))
