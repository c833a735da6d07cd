"""Whether exported windows are still what Polar counts: one request a window.

A count that is the manifest's is a good sign, and no proof: Polar's operators delete and restore events now and then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.manifest import ExportName, TornManifestError, exports_in, read_manifest
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarConfigurationError

if TYPE_CHECKING:
    from airflow_provider_polar.engine.reading.reader import CompleteReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison of exported windows with Polar found.

    :param equal: windows that were exported completely and whose count is their manifest's.
    :param changed: windows whose count is another one: late events came in, or events went.
    :param incomplete: windows whose manifest says that events are missing, or is torn.
    :param unexported: windows of time without a manifest.
    """

    equal: tuple[EventWindow, ...] = ()
    changed: tuple[EventWindow, ...] = ()
    incomplete: tuple[EventWindow, ...] = ()
    unexported: tuple[EventWindow, ...] = ()


def compare(
    reader: CompleteReader, directory: Directory, exports: Sequence[ExportName], within: EventWindow
) -> Comparison:
    """Requests the count of each window that was exported completely.

    :param exports: what was exported, adjacent or not, overlapping or not, in one layout or several.
    :param within: the window in which what none of them covers is unexported.
    :raises PolarSourceError: a manifest has a newer schema.
    """
    found: dict[str, list[EventWindow]] = {"equal": [], "changed": [], "incomplete": [], "unexported": []}
    cursor = within.start
    for window, names in groupby(sorted(exports, key=lambda e: e.window), key=lambda export: export.window):
        state = _state(reader, directory, window, list(names))
        if state is None:
            continue
        found[state].append(window)
        if cursor < window.start:
            found["unexported"].append(EventWindow(cursor, window.start))
        cursor = max(cursor, window.end)
    if cursor < within.end:
        found["unexported"].append(EventWindow(cursor, within.end))
    return Comparison(**{state: tuple(windows) for state, windows in found.items()})


def _state(
    reader: CompleteReader, directory: Directory, window: EventWindow, exports: Sequence[ExportName]
) -> str | None:
    """What a window is, None if its manifests have gone since they were listed."""
    manifests = []
    for export in exports:
        try:
            manifests.append(read_manifest(directory, export.manifest))
        except TornManifestError as error:
            log.warning("%s", error)
            return "incomplete"
    there = [manifest for manifest in manifests if manifest is not None]
    if not there:
        return None
    if not all(manifest.complete for manifest in there):
        return "incomplete"
    return "equal" if {reader.count(window)} == {manifest.counted for manifest in there} else "changed"


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
) -> Comparison:
    """Compares the exported windows before ``window``.

    They need not be of its length: days of 23 hours and months are found by their manifests. Those of other filters
    or another layout are not looked at.

    :param lookback: how far back from the window's start; as a number, so many windows, one without a manifest
        being taken as long as ``window``.
    """
    earlier = [export for export in exports_in(directory, filters, layout) if export.window.end <= window.start]
    windows = [export.window for export in earlier]
    start = _windows_back(windows, window, lookback) if isinstance(lookback, int) else _back(window.start, lookback)
    within = EventWindow(start, window.start)
    return compare(reader, directory, [export for export in earlier if export.window.start >= start], within)


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
