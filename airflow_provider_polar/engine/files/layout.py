"""Files of events: formats, fields, compression and size, chosen once as a :class:`FileLayout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Self

from airflow_provider_polar.engine.files.compression import CODECS
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.formats import FORMATS, WRITTEN
from airflow_provider_polar.engine.files.packages import installed
from airflow_provider_polar.engine.files.streams import RowWriter
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.parameters import optional, positive_count


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
        cls, *, include_fields: Sequence[str] | None = None, exclude_fields: Sequence[str] | None = None, **options: Any
    ) -> Self:
        """A checked layout; what must be installed for it is not looked at, see :meth:`check_installed`.

        :param include_fields: the only fields to keep.
        :param exclude_fields: the fields to leave out.
        :param options: the other parameters of the class.
        :raises PolarConfigurationError: something in it is unknown or impossible.
        """
        for what in ("max_file_rows", "max_file_bytes"):
            options[what] = optional(positive_count)(options.get(what), what)
        chosen = cls(fields=FieldChoice.choose(include_fields, exclude_fields), **options)
        for what, known in (("file_format", WRITTEN), ("compression", CODECS)):
            if (value := getattr(chosen, what)) not in known:
                there_are = ", ".join(map(str, known))
                raise PolarConfigurationError(f"{what} {value!r} is unknown; there are {there_are}")
        return chosen

    def check_installed(self) -> None:
        """Looks whether what the layout needs is installed.

        :raises PolarConfigurationError: the format or the compression needs a package that is not installed.
        """
        file_format, codec = FORMATS[self.file_format], CODECS[self.compression]
        if file_format.package:
            installed(*file_format.package, f"file_format={self.file_format!r}")
        if codec.package and not file_format.compresses:
            installed(*codec.package, f"compression={self.compression!r}")

    @property
    def extension(self) -> str:
        """What a file's name ends in, e.g. ``.jsonl.gz``."""
        file_format = FORMATS[self.file_format]
        return file_format.endings[0] + ("" if file_format.compresses else CODECS[self.compression].ending)

    def open(self, raw: IO[bytes]) -> RowWriter:
        """A writer of one file on a binary stream."""
        writer = FORMATS[self.file_format].writer
        assert writer is not None
        return writer(raw, self.fields, self.compression)

    def is_full(self, rows: int, size: int) -> bool:
        """Whether a file with so many events and bytes is to be closed."""
        return bool(
            (self.max_file_rows and rows >= self.max_file_rows) or (self.max_file_bytes and size >= self.max_file_bytes)
        )

    def to_dict(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {**asdict(self), "fields": list(self.fields.columns)}
