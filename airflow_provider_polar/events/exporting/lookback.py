"""Whether exported windows are still what Polar counts: one request a window.

Events never change and are never deleted, so a window whose count is the manifest's holds the same events.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.events.exporting.manifest import manifest_name, read_manifest, windows_exported
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarConfigurationError

Lookback = timedelta | int


class Counter(Protocol):
    """What is needed of :class:`~airflow_provider_polar.events.reading.driver.CompleteReader`."""

    def count(self, window: EventWindow) -> int: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison of exported windows with Polar found.

    :param equal: windows whose count is their manifest's.
    :param changed: windows whose count is another one: late events came in.
    :param unexported: spans of time without a manifest.
    """

    equal: tuple[EventWindow, ...]
    changed: tuple[EventWindow, ...]
    unexported: tuple[EventWindow, ...]


def compare(
    counter: Counter, directory: Directory, filters: EventFilters, windows: Sequence[EventWindow], within: EventWindow
) -> Comparison:
    """Asks for the count of each exported window.

    :param windows: exported windows, adjacent or not, overlapping or not.
    :param within: the span of time in which what none of them covers is unexported.
    """
    equal: list[EventWindow] = []
    changed: list[EventWindow] = []
    unexported: list[EventWindow] = []
    cursor = within.start
    for window in sorted(windows):
        manifest = read_manifest(directory, manifest_name(window, filters))
        if manifest is None:
            continue
        (equal if counter.count(window) == manifest.counted else changed).append(window)
        if cursor < window.start:
            unexported.append(EventWindow(cursor, window.start))
        cursor = max(cursor, window.end)
    if cursor < within.end:
        unexported.append(EventWindow(cursor, within.end))
    return Comparison(tuple(equal), tuple(changed), tuple(unexported))


def check_lookback(lookback: Lookback | None) -> None:
    """
    :raises PolarConfigurationError: it is neither a positive length of time nor a positive number of windows.
    """
    if lookback is None:
        return
    if isinstance(lookback, bool) or not isinstance(lookback, (int, timedelta)):
        raise PolarConfigurationError(f"lookback is {lookback!r}; it is a timedelta or a number of windows")
    if (lookback if isinstance(lookback, int) else lookback.total_seconds()) <= 0:
        raise PolarConfigurationError(f"lookback is {lookback}; it reaches back by more than nothing")


def look_back(
    counter: Counter, directory: Directory, filters: EventFilters, window: EventWindow, lookback: Lookback
) -> Comparison:
    """Compares the exported windows before ``window``.

    They need not be of its length: days of 23 hours and months are found by their manifests.

    :param lookback: how far back from the window's start; as a number, so many windows, one without a manifest
        being taken as long as ``window``.
    """
    earlier = [w for w in windows_exported(directory, filters) if w.end <= window.start]
    start = _windows_back(earlier, window, lookback) if isinstance(lookback, int) else _back(window.start, lookback)
    within = EventWindow(start, window.start)
    return compare(counter, directory, filters, [w for w in earlier if w.start >= start], within)


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
