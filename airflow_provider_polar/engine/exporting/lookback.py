"""Which windows of an earlier export are compared with Polar again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.comparison import CompareBy, Comparison, compare, counts_are_equal
from airflow_provider_polar.engine.exporting.manifest import exports_in
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarConfigurationError

if TYPE_CHECKING:
    from airflow_provider_polar.engine.reading.reader import CompleteReader


def check_lookback(lookback: timedelta | int | None) -> None:
    """Checks that a look-back is a positive length of time or a positive number of windows.

    :raises PolarConfigurationError: it is neither.
    """
    if lookback is None:
        return
    if isinstance(lookback, bool) or not isinstance(lookback, (int, timedelta)):
        raise PolarConfigurationError(f"lookback is {lookback!r}; it is a timedelta or a number of windows")
    if (lookback if isinstance(lookback, int) else lookback.total_seconds()) <= 0:
        raise PolarConfigurationError(f"lookback is {lookback}; it reaches back by more than nothing")


def look_back(
    reader: CompleteReader,
    directory: Directory,
    filters: EventFilters,
    layout: FileLayout,
    window: EventWindow,
    lookback: timedelta | int,
    by: CompareBy | None = None,
) -> Comparison:
    """Compares the exported windows before ``window``.

    They need not be of its length: days of 23 hours and months are found by their manifests. Those of other filters
    or another layout are not looked at.

    :param lookback: how far back from the window's start; as a number, so many windows, one without a manifest
        being taken as long as ``window``.
    :param by: what is counted besides each window as a whole.
    """
    earlier = [export for export in exports_in(directory, filters, layout) if export.window.end <= window.start]
    windows = [export.window for export in earlier]
    start = _windows_back(windows, window, lookback) if isinstance(lookback, int) else _back(window.start, lookback)
    within = EventWindow(start, window.start)
    exports = [export for export in earlier if export.window.start >= start]
    return compare(directory, exports, within, counts_are_equal(reader, by))


def _windows_back(earlier: Sequence[EventWindow], window: EventWindow, number: int) -> datetime:
    cursor = window.start
    candidates = sorted(earlier, key=lambda w: w.end, reverse=True)
    while number > 0:
        before = next((w for w in candidates if w.end <= cursor), None)
        gap = cursor - before.end if before else window.duration * number
        if before is None or math.ceil(gap / window.duration) >= number:
            return _back(cursor, window.duration * number)
        number -= math.ceil(gap / window.duration) + 1
        cursor = before.start
    return cursor


def _back(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment - by
    except OverflowError:
        return datetime.min.replace(tzinfo=moment.tzinfo)
