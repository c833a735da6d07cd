"""Events as they pass through an export: the id and the time are read, every other value stays the bytes it came as."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded down (also before 1970): how Polar compares timestamps."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    """The aware UTC datetime of a whole millisecond."""
    return _EPOCH + timedelta(milliseconds=ms)


class EventRow:
    """One event of a list response.

    :ivar id: the event's UUID as text.
    :ivar timestamp: aware, UTC, microseconds.
    :ivar ms: the timestamp in whole milliseconds since 1970, which is what Polar orders and compares by.
    :ivar values: top-level field to its JSON bytes, untouched, in the API's order.
    """

    __slots__ = ("id", "ms", "timestamp", "values")

    def __init__(self, values: dict[str, msgspec.Raw]) -> None:
        self.values = values
        self.id = msgspec.json.decode(values["id"], type=str)
        moment = datetime.fromisoformat(msgspec.json.decode(values["timestamp"], type=str))
        self.timestamp = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        self.ms = to_ms(self.timestamp)

    def to_dict(self) -> dict[str, Any]:
        """The API's own JSON object, decoded."""
        return {key: msgspec.json.decode(raw) for key, raw in self.values.items()}

    def get(self, field: str) -> Any:
        """One field, decoded; None where the event lacks it."""
        raw = self.values.get(field)
        return None if raw is None else msgspec.json.decode(raw)


class _Pagination(msgspec.Struct):
    total_count: int


class _Page(msgspec.Struct):
    items: list[dict[str, msgspec.Raw]]
    pagination: _Pagination


@dataclass(slots=True)
class RowPage:
    """A list response: its rows in the order given, and the API's count for the whole request.

    :param total_count: what the analytics store counts; 0 on a page beyond the last.
    """

    rows: list[EventRow]
    total_count: int

    @classmethod
    def decode(cls, body: bytes) -> RowPage:
        """Reads the body of a response.

        :raises ValueError: the body is not a list response (truncated, broken, another shape).
        """
        try:
            # The values stay bytes and are not looked into, so what is no text must be found here.
            body.decode()
            page = _PAGE.decode(body)
            return cls([EventRow(values) for values in page.items], page.pagination.total_count)
        except (msgspec.MsgspecError, KeyError, OverflowError, UnicodeDecodeError) as error:
            raise ValueError(f"not a list of events: {error}") from None


_PAGE = msgspec.json.Decoder(_Page)
