"""What is loaded: exported windows, by their manifests, each file proved to be what its manifest says."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Self

import msgspec

from airflow_provider_polar.engine.exporting.local_files import using_local_disk
from airflow_provider_polar.engine.exporting.manifest import FileEntry, Manifest
from airflow_provider_polar.engine.files.compression import codec_of
from airflow_provider_polar.engine.files.fields import EXTRA
from airflow_provider_polar.engine.files.formats import format_of
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.files.uris import MANIFEST_ENDING
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError


def manifest_paths(given: Any, name: str = "manifest") -> list[Any]:
    """The manifests that a parameter means, in the order given, each once.

    :param given: a path, the result of an export (with the windows that its look-back exported again) or of a
        reconciliation that exports again, or a list of such, as a mapped export returns.
    :param name: the parameter's name, for the error.
    :raises PolarConfigurationError: something in it is neither.
    """
    paths = {str(path): path for path in _paths(given, name)}
    for text in paths:
        if text.lstrip().startswith(("{", "[")):
            raise PolarConfigurationError(
                f"{name} is the text of an export's result, as a template makes of it: hand the result itself over, as "
                "in export.output, or its path, as in {{ ti.xcom_pull('export')['manifest'] }}"
            )
        if not text.endswith(MANIFEST_ENDING):
            raise PolarConfigurationError(f"{name} is {text!r}; the path of a manifest ends in {MANIFEST_ENDING}")
    return list(paths.values())


def _paths(given: Any, name: str) -> Iterator[Any]:
    if isinstance(given, Mapping):
        if not given.keys() & {"manifest", "exported"}:
            raise PolarConfigurationError(f"{name} is a dict without 'manifest': it is not the result of an export")
        # What a reconciliation exported again is in "exported", and in "changed" what it found changed.
        again = given["exported"] if "exported" in given else given.get("changed", ())
        for one in (again, given.get("manifest", ())):
            yield from _paths(one, name)
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        for one in given:
            yield from _paths(one, name)
    elif isinstance(given, str) or hasattr(given, "joinpath"):
        yield given
    else:
        raise PolarConfigurationError(f"{name} is {given!r}; it is the path of a manifest, or the result of an export")


@dataclass(frozen=True, slots=True)
class ExportedWindow:
    """A window as it was exported.

    :param manifest: what its manifest says.
    :param sha256: of the manifest's own bytes, hexadecimal: the same export has the same.
    :param directory: where manifest and files lie.
    :param name: of the manifest, in the directory.
    """

    manifest: Manifest
    sha256: str
    directory: Directory
    name: str

    @classmethod
    def read(cls, directory: Directory, name: str) -> Self:
        """Reads a manifest.

        :raises PolarSourceError: there is none, it is torn, of a newer schema, or of an export without ``id`` or
            ``timestamp``; a retry helps once it is exported (again).
        :raises PolarDestinationError: the store does not respond; a retry may help.
        """
        where = directory.url_of(name)
        content = directory.read(name)
        if content is None:
            raise PolarSourceError(f"there is no manifest {where}: export its window first")
        manifest = Manifest.from_bytes(content, where)
        for needed in ("id", "timestamp"):
            if needed not in manifest.fields:
                raise PolarSourceError(
                    f"the export {where} has no {needed}, so its events cannot be told apart in a table: export the "
                    f"window with {needed} among its fields"
                )
        return cls(manifest, hashlib.sha256(content).hexdigest(), directory, name)

    @property
    def url(self) -> str:
        """The manifest's full path."""
        return self.directory.url_of(self.name)

    def events(self, within: EventWindow | None = None) -> Iterator[dict[str, Any]]:
        """Each event of the window. A file lies on this machine's disk, one at a time, and is proved before it is read.

        It has the API's own fields. Of ``csv`` and ``parquet`` ``customer`` is JSON text, of ``csv`` numbers are text.

        :param within: only of the files that have events of this window.
        :raises PolarSourceError: a file is gone, or not what the manifest says. What was given before does not count
            then; a retry helps once the window is exported again.
        :raises PolarDestinationError: the store does not respond; a retry may help.
        :raises PolarLocalDiskError: this machine's disk is full; a retry helps once there is room.
        """
        unfold = self.manifest.file_format != "jsonl"  # which has what the API added since under its own names
        for entry in self.manifest.files:
            if within is not None and not entry.reaches_into(within):
                continue
            rows = 0
            with self._local(entry) as local, codec_of(entry.path).read(local) as data:
                for number, event, error in format_of(entry.path).read(data, _any_columns):
                    rows += 1
                    if error:
                        raise PolarSourceError(f"row {number} of {self.directory.url_of(entry.path)} {error}")
                    if unfold and (extra := event.pop(EXTRA, None)):
                        event |= msgspec.json.decode(extra)
                    yield event
            if rows != entry.rows:
                raise self._differs(entry, f"it holds {rows:,} rows, the manifest says {entry.rows:,}")

    @contextmanager
    def _local(self, entry: FileEntry) -> Iterator[IO[bytes]]:
        """A copy of a file on this machine, its bytes being what the manifest says."""
        digest = hashlib.sha256()
        with tempfile.TemporaryDirectory(prefix="polar-load-") as folder:
            local = os.path.join(folder, "file")
            blocks = self.directory.blocks(entry.path)
            with using_local_disk(folder), open(local, "wb") as file:
                for block in blocks:
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != entry.sha256:
                raise self._differs(entry, "it is gone, cut short or changed: its SHA-256 is not the manifest's")
            with open(local, "rb") as file:
                yield file

    def _differs(self, entry: FileEntry, how: str) -> PolarSourceError:
        return PolarSourceError(
            f"{self.directory.url_of(entry.path)} is not the file that {self.url} names: {how}. If its window was "
            "exported again meanwhile, a retry helps; else export it again"
        )


def _any_columns(_columns: Any, _every_row: bool) -> None:
    """The columns of a file are known from its manifest."""
