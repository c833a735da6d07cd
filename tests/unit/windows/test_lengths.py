"""Lengths as settle=, lookback= and window= take them: one parser for all three."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
import pytest

from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows import CalendarWindow
from airflow_provider_polar.windows.lengths import parse_duration, parse_length

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("parse", [parse_length, parse_duration])
@pytest.mark.parametrize(
    "value", [HOUR, 3600, 3600.0, "3600", " 3600 ", "1 hour", "60 minutes", pendulum.duration(hours=1)]
)
def test_seconds_text_and_timedelta_are_alike(parse: Any, value: Any) -> None:
    assert parse(value, "settle") == HOUR


@pytest.mark.parametrize(
    "value",
    ["", "None", "1h", "1 fortnight", "1 day Mars/Base", "1 hour Europe/Berlin", -1, "-1", True, float("nan"), "inf",
     1e300, "9999999999999 hours", [3600], object()],
)  # fmt: skip
def test_what_is_no_length_is_refused_by_the_parameter_s_name(value: Any) -> None:
    with pytest.raises(PolarWindowError, match="^window=" if value != "1 day Mars/Base" else "Mars/Base"):
        parse_length(value)
    with pytest.raises(PolarWindowError, match="^settle=" if value != "1 day Mars/Base" else "Mars/Base"):
        parse_duration(value, "settle")


@pytest.mark.parametrize("value", [0, "0", "0 days", timedelta(0)])
def test_nothing_is_a_duration_and_no_window(value: Any) -> None:
    assert parse_duration(value, "settle") == timedelta(0)
    with pytest.raises(PolarWindowError, match=r"window=.* is not positive"):
        parse_length(value)


def test_a_duration_does_not_depend_on_the_calendar() -> None:
    assert parse_duration("2 days", "lookback") == timedelta(hours=48)
    assert parse_duration(CalendarWindow(weeks=1, days=1), "lookback") == timedelta(days=8)
    for value in ("1 month", "1 year", "1 day Europe/Berlin", CalendarWindow(months=1), pendulum.duration(months=1)):
        with pytest.raises(PolarWindowError, match=r"lookback=.* depends on the calendar"):
            parse_duration(value, "lookback")
