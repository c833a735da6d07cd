"""Files of events: formats, fields, compression and size, chosen once as a :class:`FileLayout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, Self

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.compression import SUFFIXES, check_zstd
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS, EXTRA, FieldChoice
from airflow_provider_polar.exceptions import PolarConfigurationError

__all__ = ["EVENT_FIELDS", "EXTRA", "FILE_FORMATS", "FieldChoice", "FileLayout", "RowWriter"]

FILE_FORMATS = ("jsonl", "csv", "parquet")


class RowWriter(Protocol):
    """What each format's writer does; the same rows in the same order give the same bytes."""

    def write(self, row: EventRow) -> int:
        """Writes one event and returns its size in bytes before compression."""

    def close(self) -> None:
        """Ends the file; the stream given stays open."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How exported events are laid out in files.

    :param file_format: ``jsonl``, ``csv`` or ``parquet``.
    :param compression: None, ``gzip`` or ``zstd``; inside a parquet file it is the codec (None: snappy).
    :param fields: the fields kept.
    :param max_file_rows: a file is closed once it has this many events.
    :param max_file_bytes: a file is closed once its events' bytes, before compression, reach this.
    """

    file_format: str = "jsonl"
    compression: str | None = None
    fields: FieldChoice = field(default_factory=FieldChoice)
    max_file_rows: int | None = None
    max_file_bytes: int | None = None

    @classmethod
    def choose(
        cls,
        *,
        file_format: str = "jsonl",
        compression: str | None = None,
        include_fields: Sequence[str] | None = None,
        exclude_fields: Sequence[str] | None = None,
        max_file_rows: int | None = None,
        max_file_bytes: int | None = None,
    ) -> Self:
        """A checked layout; what must be installed for it is not looked at, see :meth:`check_installed`.

        :raises PolarConfigurationError: something in it is unknown or impossible.
        """
        if file_format not in FILE_FORMATS:
            raise PolarConfigurationError(
                f"file_format {file_format!r} is unknown; there are {', '.join(FILE_FORMATS)}"
            )
        if compression not in SUFFIXES:
            raise PolarConfigurationError(f"compression {compression!r} is unknown; there are None, 'gzip' and 'zstd'")
        for what, limit in (("max_file_rows", max_file_rows), ("max_file_bytes", max_file_bytes)):
            if limit is not None and limit < 1:
                raise PolarConfigurationError(f"{what} is {limit}; a file holds at least 1")
        fields = FieldChoice.choose(include_fields, exclude_fields)
        return cls(file_format, compression, fields, max_file_rows, max_file_bytes)

    def check_installed(self) -> None:
        """Checks that the packages of the format and the compression are there.

        :raises PolarConfigurationError: one of them is not installed.
        """
        if self.file_format == "parquet":
            from airflow_provider_polar.engine.files.parquet import check_parquet

            check_parquet()
        elif self.compression == "zstd":
            check_zstd()

    @property
    def extension(self) -> str:
        """What a file's name ends in, e.g. ``.jsonl.gz``."""
        return f".{self.file_format}" + ("" if self.file_format == "parquet" else SUFFIXES[self.compression])

    def open(self, raw: IO[bytes]) -> RowWriter:
        """A writer of one file on a binary stream."""
        if self.file_format == "parquet":
            from airflow_provider_polar.engine.files.parquet import ParquetRowWriter

            return ParquetRowWriter(raw, self.fields, self.compression)
        from airflow_provider_polar.engine.files.text import LineWriter, csv_encoder, jsonl_encoder

        if self.file_format == "csv":
            header = ",".join(self.fields.columns).encode() + b"\n"
            return LineWriter(raw, csv_encoder(self.fields), self.compression, header)
        return LineWriter(raw, jsonl_encoder(self.fields), self.compression)

    def is_full(self, rows: int, size: int) -> bool:
        """Whether a file with so many events and bytes is to be closed."""
        return bool(
            (self.max_file_rows and rows >= self.max_file_rows) or (self.max_file_bytes and size >= self.max_file_bytes)
        )

    def to_dict(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "file_format": self.file_format,
            "compression": self.compression,
            "fields": list(self.fields.columns),
            "max_file_rows": self.max_file_rows,
            "max_file_bytes": self.max_file_bytes,
        }
