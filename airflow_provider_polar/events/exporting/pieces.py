"""A window exported in pieces by several workers: cut into balanced pieces, and put together again with a proof."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.requests import MAX_LIMIT
from airflow_provider_polar.events.exporting.manifest import Manifest, manifest_name, read_manifest
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.reading.slices import Plan
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError, PolarSourceError

ROUNDS = 3
"""How often pieces that gained events meanwhile are exported again before the rest is left to a retry."""

log = logging.getLogger(__name__)


class Planner(Protocol):
    """What planning needs of :class:`~airflow_provider_polar.events.reading.driver.CompleteReader`."""

    def count(self, window: EventWindow) -> int: ...
    def plan(self, window: EventWindow, *, target_rows: int) -> Plan: ...


def plan_pieces(reader: Planner, window: EventWindow, pieces: int) -> list[tuple[EventWindow, int]]:
    """At most ``pieces`` adjacent windows of about equally many events, and how many each holds."""
    total = reader.count(window)
    # Four slices a piece: a piece is then at most an eighth off, at few requests.
    return balance(reader.plan(window, target_rows=max(MAX_LIMIT, total // (4 * pieces))).slices, pieces)


def balance(slices: Sequence[tuple[EventWindow, int]], pieces: int) -> list[tuple[EventWindow, int]]:
    """Adjacent slices joined into at most ``pieces`` windows, each cut where the sum is nearest to its share."""
    sums = [0]
    for _, count in slices:
        sums.append(sums[-1] + count)
    cuts = sorted({min(range(len(sums)), key=lambda i: abs(sums[i] - sums[-1] * k / pieces)) for k in range(1, pieces)})
    edges = [0, *(cut for cut in cuts if 0 < cut < len(slices)), len(slices)]
    return [
        (EventWindow(slices[first][0].start, slices[last - 1][0].end), sums[last] - sums[first])
        for first, last in pairwise(edges)
    ]


class Assembly:
    """Makes one export of the exports of a window's pieces.

    The manifest of the whole takes the place of the manifests of its pieces, so that each file is named once. It
    keeps what they said, so that the assembly can be repeated after any of them was exported again.

    :param pieces: the planned windows, in any order.
    :param export: exports a piece again, for one that gained events since.
    """

    def __init__(
        self,
        reader: Planner,
        directory: Directory,
        pieces: Sequence[EventWindow],
        filters: EventFilters,
        export: Callable[[EventWindow, Manifest], Manifest],
    ) -> None:
        self.reader = reader
        self.directory = directory
        self.pieces = sorted(pieces)
        self.window = _whole(self.pieces)
        self.filters = filters
        self.manifest_name = manifest_name(self.window, filters)
        self._export = export
        self._earlier = self._read_earlier()

    def run(self) -> Manifest:
        """Checks the pieces against Polar's count and publishes the manifest of the whole.

        :raises PolarSourceError: a piece has no manifest, or they do not belong together.
        :raises PolarIncompleteError: events keep arriving faster than they are exported; a retry goes on.
        """
        manifests = [self._manifest_of(piece) for piece in self.pieces]
        self._check_alike(manifests)
        for _ in range(ROUNDS):
            counted = self.reader.count(self.window)
            if counted == sum(manifest.counted for manifest in manifests):
                whole = self._join(manifests)
                self._publish(whole, manifests)
                return whole
            self._unfold(manifests)
            manifests = [self._up_to_date(manifest) for manifest in manifests]
        raise PolarIncompleteError(
            f"the pieces of {self.window} hold {sum(m.counted for m in manifests)} events, Polar counts {counted}: "
            "events keep arriving in it. A retry goes on; settle= on the planning task lets them arrive first"
        )

    def _manifest_of(self, piece: EventWindow) -> Manifest:
        name = manifest_name(piece, self.filters)
        manifest = read_manifest(self.directory, name) if name != self.manifest_name else None
        manifest = manifest or self._earlier.get(piece)
        if manifest is None:
            raise PolarSourceError(
                f"{self.directory.url_of(name)} is missing: the piece {piece} of {self.window} is not exported. Clear "
                "its export task; destination= and filters= must be the same there as here"
            )
        return manifest

    def _check_alike(self, manifests: Sequence[Manifest]) -> None:
        first = manifests[0]
        for other in manifests[1:]:
            if other.layout != first.layout:
                raise PolarSourceError(
                    f"the pieces {first.window} and {other.window} are laid out differently ({first.layout} and "
                    f"{other.layout}): export them again in one way"
                )

    def _unfold(self, manifests: Sequence[Manifest]) -> None:
        """A manifest never names files that are not what it says: before files of the whole are replaced, it gives
        way to the manifests of its pieces again."""
        if len(manifests) > 1 and self._earlier:
            for manifest in manifests:
                self.directory.write(manifest_name(manifest.window, self.filters), manifest.to_bytes())
            self.directory.remove(self.manifest_name)

    def _up_to_date(self, manifest: Manifest) -> Manifest:
        counted = self.reader.count(manifest.window)
        if counted == manifest.counted:
            return manifest
        log.info("%s has %s events now, %s when exported: again", manifest.window, counted, manifest.counted)
        return self._export(manifest.window, manifest)

    def _join(self, manifests: Sequence[Manifest]) -> Manifest:
        return Manifest(
            window=self.window,
            filters=self.filters.to_dict(),
            layout=manifests[0].layout,
            rows=sum(manifest.rows for manifest in manifests),
            counted=sum(manifest.counted for manifest in manifests),
            repeated=sum(manifest.repeated for manifest in manifests),
            missing=[spot for manifest in manifests for spot in manifest.missing],
            files=[file for manifest in manifests for file in manifest.files],
        )

    def _publish(self, whole: Manifest, manifests: Sequence[Manifest]) -> None:
        content = whole.to_dict()
        if len(manifests) > 1:
            content["pieces"] = [manifest.to_dict() for manifest in manifests]
        encoded = json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"
        self.directory.write(self.manifest_name, encoded)
        named = {file.path for file in whole.files}
        # Pieces of an earlier plan, of other windows, are in the whole that was here before.
        for manifest in [*self._earlier.values(), *manifests]:
            names = [manifest_name(manifest.window, self.filters), *(file.path for file in manifest.files)]
            for name in names:
                if name not in named and name != self.manifest_name:
                    self.directory.remove(name)

    def _read_earlier(self) -> dict[EventWindow, Manifest]:
        content = self.directory.read(self.manifest_name)
        if content is None:
            return {}
        where = self.directory.url_of(self.manifest_name)
        whole = Manifest.from_bytes(content, where)
        pieces = [Manifest.from_bytes(json.dumps(p).encode(), where) for p in json.loads(content).get("pieces", ())]
        return {manifest.window: manifest for manifest in pieces or [whole]}


def _whole(pieces: Sequence[EventWindow]) -> EventWindow:
    """
    :raises PolarSourceError: the pieces do not meet.
    """
    if not pieces:
        raise PolarSourceError("there is no piece to put together: hand over the plan's output")
    for before, after in pairwise(pieces):
        if before.end != after.start:
            raise PolarSourceError(f"the pieces {before} and {after} do not meet: they are not of one plan")
    return EventWindow(pieces[0].start, pieces[-1].end)


def window_of(piece: Any) -> EventWindow:
    """The window of a planned piece.

    :raises PolarSourceError: it is none.
    """
    try:
        return EventWindow(piece["start"], piece["end"])
    except (KeyError, TypeError) as error:
        raise PolarSourceError(f"{piece!r} is no piece of a plan: it has no start and end") from error
