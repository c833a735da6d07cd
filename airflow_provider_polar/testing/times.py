"""Moments as Polar keeps and writes them: whole microseconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(moment: datetime | str) -> int:
    """Microseconds since 1970 of an aware datetime or ISO 8601 text; raises ValueError for a naive one."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return (moment - EPOCH) // _MICROSECOND


def to_text(microseconds: int) -> str:
    """The moment as Polar writes it: no fraction when it is zero, and no zone in year 1."""
    moment = EPOCH + timedelta(microseconds=microseconds)
    text = moment.replace(tzinfo=None).isoformat()
    return text if moment.year == 1 else text + "Z"
