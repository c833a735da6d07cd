"""The index of a directory: one small object beside the manifests that says how much each of them names.

It is for who wants to see all windows and not to read all manifests. It is no proof: only manifests count, and nothing
that exports decides by it. Of two exports that end at the same moment it may miss one, until it is rebuilt.
"""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest, manifests_in, read_manifest_or_none
from airflow_provider_polar.engine.files.storage import Directory

INDEX = "_ledger/index.json"
_VERSION = 1

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """What an index says of an export.

    :param at: when it was published; None where the entry was made of the manifest, which does not say it.
    """

    rows: int
    files: int
    complete: bool
    at: datetime | None = None

    @classmethod
    def of(cls, manifest: Manifest, at: datetime | None = None) -> Entry:
        """The entry of an export."""
        return cls(manifest.rows, len(manifest.files), manifest.complete, at)


class _Index(msgspec.Struct):
    version: int = _VERSION
    exports: dict[str, Entry] = msgspec.field(default_factory=dict)


def read_index(directory: Directory) -> dict[ExportName, Entry]:
    """The exports that the index knows; none where it is lost, torn or of another version.

    :raises PolarDestinationError: the store does not respond.
    """
    content = directory.read(INDEX)
    try:
        index = _Index() if content is None else msgspec.json.decode(content, type=_Index)
    except msgspec.DecodeError as error:
        log.warning("%s is no index (%s): it is rebuilt", directory.url_of(INDEX), type(error).__name__)
        index = _Index()
    if index.version != _VERSION:
        return {}
    # The names of objects have more behind the name of the export, and are read by that.
    return {name: entry for text, entry in index.exports.items() if (name := ExportName.parse(f"{text}."))}


def add_to_index(directory: Directory, export: ExportName, manifest: Manifest, at: datetime) -> None:
    """Puts an export into the index.

    :raises PolarDestinationError: the store refuses it; the export itself is whole.
    """
    _write(directory, {**read_index(directory), export: Entry.of(manifest, at)})


def rebuild_index(directory: Directory) -> None:
    """Makes the index name the manifests that there are, of which it reads those that it does not know.

    :raises PolarDestinationError: the store does not respond.
    """
    known = read_index(directory)
    entries = {}
    for export in manifests_in(directory):
        if entry := known.get(export):
            entries[export] = entry
        elif manifest := read_manifest_or_none(directory, export.manifest):
            entries[export] = Entry.of(manifest)
    if entries != known:
        _write(directory, entries)


def _write(directory: Directory, entries: dict[ExportName, Entry]) -> None:
    index = _Index(exports={str(export): entry for export, entry in entries.items()})
    directory.write(INDEX, msgspec.json.encode(index))
