"""The formats of files of events. To add one, add it to ``FORMATS``, with a module that reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from airflow_provider_polar.engine.files import csv_table, json_array, jsonl, parquet
from airflow_provider_polar.engine.files.compression import CODECS
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.streams import Reader, RowWriter
from airflow_provider_polar.exceptions import PolarConfigurationError


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format.

    :param endings: what names of files end in; the first one is that of written files.
    :param read: the rows of a stream.
    :param writer: a writer to a stream; None for a format that is only read.
    :param package: the module that is needed, and the extra that brings it.
    :param compresses: whether compression is inside the file, and no matter of its name.
    """

    endings: tuple[str, ...]
    read: Reader
    writer: Callable[[IO[bytes], FieldChoice, str | None], RowWriter] | None = None
    package: tuple[str, str] | None = None
    compresses: bool = False


FORMATS = {
    "jsonl": FileFormat((".jsonl", ".ndjson"), jsonl.read, jsonl.writer),
    "json": FileFormat((".json",), json_array.read),
    "csv": FileFormat((".csv",), csv_table.read, csv_table.writer),
    "parquet": FileFormat(
        (".parquet",), parquet.read, parquet.ParquetWriter, ("pyarrow.parquet", "parquet"), compresses=True
    ),
}
WRITTEN = tuple(name for name, one in FORMATS.items() if one.writer is not None)
_BY_ENDING = {ending: one for one in FORMATS.values() for ending in one.endings}
_COMPRESSED = tuple(codec.ending for codec in CODECS.values() if codec.ending)


def format_of(name: str) -> FileFormat:
    """The format that a file's name stands for.

    :raises PolarConfigurationError: for a name that says no known format.
    """
    path = PurePosixPath(name.lower())
    compressed = path.suffix in _COMPRESSED
    found = _BY_ENDING.get(PurePosixPath(path.stem).suffix if compressed else path.suffix)
    if found is None or (found.compresses and compressed):
        raise PolarConfigurationError(
            f"{name!r} does not say its format: names end in {', '.join(_BY_ENDING)}; all but parquet "
            f"also with {' or '.join(_COMPRESSED)}"
        )
    return found
