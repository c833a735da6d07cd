"""Whether exported windows are still what Polar has, by what a request or a few can tell."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from airflow_provider_polar.engine.exporting.contents import Contents
from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest, TornManifestError, read_manifest
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow

if TYPE_CHECKING:
    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.reading.reader import CompleteReader

CompareBy = Literal["name", "hour"]
"""What besides the whole is counted again: the events of each name, or of each hour, that the manifest knows of."""

Manifests = Mapping[str, Manifest]
"""The manifests of one window, one for each layout that it was exported in, by their names."""
IsEqual = Callable[[EventWindow, Manifests], bool]
"""Tells whether a window is still what its manifests, all of which are complete, say."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison of exported windows with Polar found.

    :param equal: windows that were exported completely and in which no change was found.
    :param changed: windows in which late events came in, or events went.
    :param incomplete: windows whose manifest says that events are missing, or is torn.
    :param unexported: windows of time without a manifest.
    """

    equal: tuple[EventWindow, ...] = ()
    changed: tuple[EventWindow, ...] = ()
    incomplete: tuple[EventWindow, ...] = ()
    unexported: tuple[EventWindow, ...] = ()


def compare(directory: Directory, exports: Sequence[ExportName], within: EventWindow, is_equal: IsEqual) -> Comparison:
    """Compares each window that was exported completely.

    :param exports: what was exported, adjacent or not, overlapping or not, in one layout or several.
    :param within: the window in which what none of them covers is unexported.
    :raises PolarSourceError: a manifest has a newer schema.
    """
    found: dict[str, list[EventWindow]] = {"equal": [], "changed": [], "incomplete": [], "unexported": []}
    cursor = within.start
    for window, names in groupby(sorted(exports, key=lambda e: e.window), key=lambda export: export.window):
        state = _state(directory, window, [name.manifest for name in names], is_equal)
        if state is None:
            continue
        found[state].append(window)
        if cursor < window.start:
            found["unexported"].append(EventWindow(cursor, window.start))
        cursor = max(cursor, window.end)
    if cursor < within.end:
        found["unexported"].append(EventWindow(cursor, within.end))
    return Comparison(**{state: tuple(windows) for state, windows in found.items()})


def _state(directory: Directory, window: EventWindow, names: Sequence[str], is_equal: IsEqual) -> str | None:
    """What a window is, None if its manifests have gone since they were listed."""
    try:
        read = {name: read_manifest(directory, name) for name in names}
    except TornManifestError as error:
        log.warning("%s", error)
        return "incomplete"
    there = {name: manifest for name, manifest in read.items() if manifest is not None}
    if not there:
        return None
    if not all(manifest.complete for manifest in there.values()):
        return "incomplete"
    return "equal" if is_equal(window, there) else "changed"


def counts_are_equal(reader: CompleteReader, by: CompareBy | None = None) -> IsEqual:
    """Compares what Polar counts now: one request a window, and with ``by`` one more a name or hour.

    Where Polar counts an event twice, or a bound lies within a millisecond, it counts more than the files hold, and by
    what it counts too much of a name or an hour cannot be told. So the whole must count as it did, and no name or hour
    less than the files hold; where nothing is counted too much, each then counts exactly that.
    """

    def is_equal(window: EventWindow, manifests: Manifests) -> bool:
        if {reader.count(window)} != {manifest.counted for manifest in manifests.values()}:
            return False
        known = [manifest.contents for manifest in manifests.values() if manifest.contents]
        for what, part, filters, rows in _parts(window, known, reader.filters, by):
            if (counted := reader.count(part, filters)) < rows:
                log.info("%s counts %s events of %s, its export has %s", window, counted, what, rows)
                return False
        return True

    return is_equal


def _parts(
    window: EventWindow, known: Sequence[Contents], filters: EventFilters, by: CompareBy | None
) -> Iterator[tuple[str, EventWindow, EventFilters, int]]:
    """The parts of a window that are counted: what each is, how it is requested, and the events that exports have."""
    rows: Counter[tuple[str, str]] = Counter()
    if by == "name":
        for contents in known:
            rows |= Counter({(s, name): n for s, names in contents.names.items() for name, n in names.items()})
        for (source, name), number in rows.items():
            yield name, window, filters.model_copy(update={"source": [source], "name": [name]}), number
    elif by == "hour":
        for contents in known:
            rows |= Counter({("", hour): n for hour, n in contents.hours.items()})
        for (_, text), number in rows.items():
            start = datetime.fromisoformat(text)
            hour = EventWindow(max(start, window.start), min(start + timedelta(hours=1), window.end))
            yield text, hour, filters, number
