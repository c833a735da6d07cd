"""The moment and the length that a partition key names."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from airflow_provider_polar.windows.lengths import CalendarWindow, Length, at_wall_clock
from airflow_provider_polar.windows.schedules import MAPPER_LENGTHS, Schedule

_DATE = r"(\d{4})-(\d{2})-(\d{2})"


def parse_key(key: str, schedule: Schedule) -> tuple[datetime, Length | None] | None:
    """What a partition key says: where its period starts (UTC) and, where its form tells, how long it is.

    Keys are read as Airflow's timetables and partition mappers write them, in the schedule's time zone. A composite
    key (``eu|2026-01-05``) is read where exactly one of its parts is a moment. None where the key is none.
    """
    found = [moment for part in key.split("|") if (moment := _parse_part(part.strip(), schedule))]
    return found[0] if len(found) == 1 else None


def _parse_part(text: str, schedule: Schedule) -> tuple[datetime, Length | None] | None:
    where = schedule.timezone
    if schedule.key_format:
        try:
            moment = datetime.strptime(text, schedule.key_format)  # noqa: DTZ007 - placed below
        except ValueError:
            pass
        else:
            return _tick_of_utc_key(text, moment, schedule) or _placed(moment, where), None
    try:
        return _by_form(text, where, years="StartOfYearMapper" in schedule.mappers)
    except ValueError:
        return None


def _tick_of_utc_key(text: str, moment: datetime, schedule: Schedule) -> datetime | None:
    """The tick that Airflow 3.2 writes this key of; None where it writes no such key, as when someone typed it."""
    if not schedule.utc_keys or schedule.key_format is None or moment.tzinfo is not None:
        return None
    tick = schedule.next_tick(moment.replace(tzinfo=UTC) - timedelta(microseconds=1))
    return tick if tick is not None and tick.strftime(schedule.key_format) == text else None


def _by_form(text: str, where: tzinfo, *, years: bool) -> tuple[datetime, Length | None] | None:
    if years and re.fullmatch(r"\d{4}", text):
        return _start(date(int(text), 1, 1), where), MAPPER_LENGTHS["StartOfYearMapper"]
    if match := re.fullmatch(r"(\d{4})-(\d{2})", text):
        return _start(date(int(match[1]), int(match[2]), 1), where), MAPPER_LENGTHS["StartOfMonthMapper"]
    if match := re.fullmatch(r"(\d{4})-Q([1-4])", text):
        return _start(date(int(match[1]), 3 * int(match[2]) - 2, 1), where), MAPPER_LENGTHS["StartOfQuarterMapper"]
    if match := re.fullmatch(r"(\d{4})-W(\d{2})", text):
        return _start(date.fromisocalendar(int(match[1]), int(match[2]), 1), where), MAPPER_LENGTHS["StartOfWeekMapper"]
    if match := re.fullmatch(rf"{_DATE} \(W\d{{2}}\)", text):
        return _start(date(int(match[1]), int(match[2]), int(match[3])), where), MAPPER_LENGTHS["StartOfWeekMapper"]
    if re.fullmatch(_DATE, text):
        return _start(date.fromisoformat(text), where), CalendarWindow(days=1)
    if re.fullmatch(rf"{_DATE}[T ]\d{{2}}", text):
        return _placed(datetime.fromisoformat(text), where), timedelta(hours=1)
    if re.match(rf"{_DATE}[T ]", text):
        return _placed(datetime.fromisoformat(text), where), None
    return None


def _start(day: date, where: tzinfo) -> datetime:
    return at_wall_clock(datetime.combine(day, time()), where)


def _placed(moment: datetime, where: tzinfo) -> datetime:
    return at_wall_clock(moment, where) if moment.tzinfo is None else moment.astimezone(UTC)
