"""A window exported in shards by several workers: divided into balanced shards, and put together again with a proof."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.engine.exporting.contents import Contents
from airflow_provider_polar.engine.exporting.manifest import (
    ExportName,
    Manifest,
    exports_in,
    read_manifest_or_none,
    remove_unnamed,
    write_manifest,
)
from airflow_provider_polar.engine.exporting.staging import remove_staging
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError, PolarSourceError
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow_provider_polar.engine.reading.reader import CompleteReader

ROUNDS = 3
"""How often shards that gained events meanwhile are exported again before the rest is left to a retry."""

log = logging.getLogger(__name__)


def plan_shards(reader: CompleteReader, window: EventWindow, shards: int) -> list[tuple[EventWindow, int]]:
    """At most ``shards`` adjacent windows of about equally many events, and how many each holds."""
    # Four slices a shard: a shard is then at most an eighth off, at few requests.
    plan = reader.plan(window, target_rows=lambda total: max(MAX_LIMIT, total // (4 * shards)))
    return balance(plan.slices, shards)


def balance(slices: Sequence[tuple[EventWindow, int]], shards: int) -> list[tuple[EventWindow, int]]:
    """Adjacent slices joined into at most ``shards`` windows, each ending where the sum is nearest to its share."""
    sums = [0]
    for _, count in slices:
        sums.append(sums[-1] + count)
    ends = sorted({min(range(len(sums)), key=lambda i: abs(sums[i] - sums[-1] * k / shards)) for k in range(1, shards)})
    edges = [0, *(end for end in ends if 0 < end < len(slices)), len(slices)]
    return [
        (EventWindow(slices[first][0].start, slices[last - 1][0].end), sums[last] - sums[first])
        for first, last in pairwise(edges)
    ]


class Assembly:
    """Makes one export of the exports of a window's shards.

    The manifest of the whole takes the place of the manifests of its shards, so that each file is named once. It
    keeps what they said, so that the assembly can be repeated after any of them was exported again.

    :param shards: the planned windows, in any order.
    :param export: exports a shard again, for one that changed since.
    :raises PolarSourceError: the shards do not meet, or are not exported in one layout.
    """

    def __init__(
        self,
        reader: CompleteReader,
        directory: Directory,
        shards: Sequence[EventWindow],
        filters: EventFilters,
        export: Callable[[EventWindow, Manifest], Manifest],
    ) -> None:
        self.reader = reader
        self.directory = directory
        self.shards = sorted(shards)
        self.window = _whole(self.shards)
        self.filters = filters
        self._export = export
        self._manifests = self._find()
        self.name = ExportName.of(self.window, filters, self._manifests[0].layout)

    def run(self) -> Manifest:
        """Checks the shards against Polar's count and publishes the manifest of the whole.

        :raises PolarIncompleteError: events keep arriving faster than they are exported; a retry goes on.
        :raises PolarDestinationError: the store refuses something, or another run exports the same window.
        """
        manifests = [self._uninterrupted(manifest) for manifest in self._manifests]
        for _ in range(ROUNDS):
            counted = self.reader.count(self.window)
            if counted == sum(manifest.counted for manifest in manifests):
                whole = self._join(manifests)
                self._publish(whole)
                return whole
            manifests = [self._up_to_date(manifest) for manifest in manifests]
        raise PolarIncompleteError(
            f"the shards of {self.window} hold {sum(m.counted for m in manifests)} events, Polar counts {counted}: "
            "events keep arriving in it. A retry goes on; settle= on the planning task lets them arrive first"
        )

    def _find(self) -> list[Manifest]:
        """The manifest of each shard: its own, or else what the whole said of it when it was assembled before."""
        there = exports_in(self.directory, self.filters)
        kept: dict[ExportName, Manifest] = {}
        for name in there:
            earlier = read_manifest_or_none(self.directory, name.manifest) if name.window == self.window else None
            if earlier is not None:
                kept |= {self._name_of(manifest): manifest for manifest in (earlier, *(earlier.pieces or ()))}
        self._earlier = set(kept)
        of_shards = [name for name in {*there, *kept} if name.window in self.shards]
        layouts = {name.layout_tag for name in of_shards}
        whole = {tag for tag in layouts if sum(name.layout_tag == tag for name in of_shards) == len(self.shards)}
        # A layout was exported since it was last assembled, where a shard has a manifest of its own.
        recent = {tag for tag in whole if any(name in there and name.layout_tag == tag for name in of_shards)} or whole
        if len(recent) == 1:
            chosen = sorted((name for name in of_shards if name.layout_tag in recent), key=lambda name: name.window)
            return [self._manifest_of(name, kept) for name in chosen]
        if len(layouts) > 1:
            raise PolarSourceError(
                f"the shards of {self.window} in {self.directory.url} are laid out differently, in {len(layouts)} "
                "layouts: export all of them in one, and each further one to a directory of its own"
            )
        exported = {name.window for name in of_shards}
        missing = next(shard for shard in self.shards if shard not in exported)
        raise PolarSourceError(
            f"the shard {missing} of {self.window} has no manifest in {self.directory.url}: it is not exported. Clear "
            "its export task; destination= and filters= must be the same there as here"
        )

    def _name_of(self, manifest: Manifest) -> ExportName:
        return ExportName.of(manifest.window, self.filters, manifest.layout)

    def _manifest_of(self, name: ExportName, kept: dict[ExportName, Manifest]) -> Manifest:
        manifest = read_manifest_or_none(self.directory, name.manifest) or kept.get(name)
        if manifest is None:
            raise PolarSourceError(
                f"{self.directory.url_of(name.manifest)} is missing or torn: clear the export task of {name.window}"
            )
        return manifest

    def _uninterrupted(self, manifest: Manifest) -> Manifest:
        """A shard's export that was killed goes on here, so that nothing of it stays behind."""
        if self.directory.size(self._name_of(manifest).staging_record) is None:
            return manifest
        return self._export(manifest.window, manifest)

    def _up_to_date(self, manifest: Manifest) -> Manifest:
        counted = self.reader.count(manifest.window)
        if counted == manifest.counted:
            return manifest
        log.info("%s has %s now, not %s: again", manifest.window, number_of(counted, "event"), f"{manifest.counted:,}")
        return self._export(manifest.window, manifest)

    def _join(self, manifests: Sequence[Manifest]) -> Manifest:
        contents = [manifest.contents for manifest in manifests if manifest.contents is not msgspec.UNSET]
        return Manifest(
            schema_version=min(manifest.schema_version for manifest in manifests),
            window=self.window,
            filters=self.filters.to_dict(),
            **manifests[0].layout.to_dict(),
            rows=sum(manifest.rows for manifest in manifests),
            counted=sum(manifest.counted for manifest in manifests),
            repeated=sum(manifest.repeated for manifest in manifests),
            contents=Contents.joined(contents) if len(contents) == len(manifests) else msgspec.UNSET,
            missing=[found for manifest in manifests for found in manifest.missing],
            files=[file for manifest in manifests for file in manifest.files],
            pieces=[replace(m, pieces=msgspec.UNSET) for m in manifests] if len(manifests) > 1 else msgspec.UNSET,
        )

    def _publish(self, whole: Manifest) -> None:
        # The shards of an earlier plan are in the whole that is there until this one replaces it.
        for name in self._earlier:
            if name != self.name and name.is_like(self.name) and name.window not in self.shards:
                remove_staging(self.directory, name)
                self.directory.remove(name.manifest)
        write_manifest(self.directory, self.name.manifest, whole)
        for name in exports_in(self.directory, self.filters, whole.layout):
            if name != self.name and name.window in self.shards and self._is_assembled(name, whole):
                self.directory.remove(name.manifest)
        remove_unnamed(self.directory, self.name)

    def _is_assembled(self, name: ExportName, whole: Manifest) -> bool:
        """Whether a shard's manifest says nothing new: it may have been exported again just now."""
        shard = read_manifest_or_none(self.directory, name.manifest)
        return shard is None or {file.path for file in shard.files} <= {file.path for file in whole.files}


def _whole(shards: Sequence[EventWindow]) -> EventWindow:
    """The window that shards make up.

    :raises PolarSourceError: the shards do not meet.
    """
    if not shards:
        raise PolarSourceError("there is no shard to put together: hand over the plan's output")
    for before, after in pairwise(shards):
        if before.end != after.start:
            raise PolarSourceError(f"the shards {before} and {after} do not meet: they are not of one plan")
    return EventWindow(shards[0].start, shards[-1].end)


def window_of(shard: Any) -> EventWindow:
    """The window of a planned shard.

    :raises PolarSourceError: it is none.
    """
    try:
        return EventWindow(shard["start"], shard["end"])
    except (KeyError, TypeError) as error:
        raise PolarSourceError(f"{shard!r} is no shard of a plan: it has no start and end") from error
