"""Rows from memory or from files, one at a time: a file is never held whole.

Formats by the file's name: ``.jsonl`` or ``.ndjson``, ``.json`` (an array of objects), ``.csv``, ``.parquet``; all but
the last also as ``.gz`` or ``.zst``. A row that cannot be read is a rejected row, with its place; a file that cannot be
read is an error.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, Protocol

import msgspec

from airflow_provider_polar.engine.files.packages import missing
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError, PolarSourceUnavailableError

_GLOB = frozenset("*?[")
_COMPRESSIONS = (".gz", ".zst")
_ROWS_AT_ONCE = 1000
_CHUNK = 1 << 16
_COMPRESSED_CHUNK = 1 << 14
_MAX_ELEMENT = 16 << 20
_FIRST_ROWS = 1000
_SHOWN = 500
_EMPTY = "the file is empty; not even an empty file is so when it is compressed"
_LINE = msgspec.json.Decoder()


class _StreamError(Exception):
    """A stream that is not what it claims to be."""


_BROKEN = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    RecursionError,
    _StreamError,
)


class Row(NamedTuple):
    """One row as it was read.

    :param source: number of its source.
    :param number: from 1: the line of a jsonl or csv file, else the position.
    :param value: the row; where it could not be read, what there was of it.
    :param error: why it could not be read.
    """

    source: int
    number: int
    value: Any
    error: str | None = None


class SourcePath(Protocol):
    """What is needed of a path (``ObjectStoragePath``, ``UPath`` and ``pathlib.Path`` have it)."""

    def open(self, mode: str) -> IO[bytes]: ...


class GlobPath(Protocol):
    """What is needed of a pattern (``ObjectStoragePath``, ``UPath``)."""

    @property
    def fs(self) -> Any:
        """The fsspec file system."""

    @property
    def path(self) -> str:
        """The pattern within it."""


def rows_in_memory(events: Iterable[Any]) -> Iterator[Row]:
    """Rows of a list, or of a generator, which is read once and not held."""
    return (Row(0, number, value) for number, value in enumerate(events, 1))


ColumnCheck = Callable[[str, Collection[str], bool], None]
"""Raises PolarSourceError for a file with wrong columns: its name, its columns, whether every row has all of them."""


def rows_of_files(paths: Sequence[SourcePath], check: ColumnCheck | None = None) -> Iterator[Row]:
    """Rows of files, one file after the other; ``Row.source`` is the position in ``paths``.

    :param check: is told the columns of each file: those of a table before its first row, or the keys that the first
        thousand JSON objects have, after these.
    :raises PolarSourceError: a file is missing, is not what its name says, ends too early; or what ``check`` raises.
    :raises PolarSourceUnavailableError: its store has failed; a retry may help.
    """
    for source, path in enumerate(paths):
        name = str(path)
        read = _READERS[format_of(name)]
        check_columns = partial(check, name) if check else _any_columns
        with _saying(name), path.open("rb") as raw, _decompressed(raw, name) as data:
            for number, value, error in read(data, check_columns):
                yield Row(source, number, value, error)


def _any_columns(_columns: Collection[str], _every_row: bool) -> None:
    """Takes a file whatever its columns are."""


def matching(path: GlobPath) -> list[str]:
    """The files that a pattern stands for, with their scheme, sorted by name.

    :raises PolarSourceError: there is none.
    """
    with _saying(str(path)):
        found = path.fs.glob(path.path, detail=True)
        names = sorted(name for name, info in found.items() if info["type"] != "directory")
        if not names:
            raise PolarSourceError(f"no file matches {path}")
        return [path.fs.unstrip_protocol(name) for name in names]


@contextlib.contextmanager
def _saying(name: str) -> Iterator[None]:
    """Tells a file that is not there or is broken from a store that has failed."""
    try:
        yield
    except (PolarSourceError, PolarConfigurationError, GeneratorExit):
        raise
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise PolarSourceError(f"{name} cannot be read: {reason}") from error
    except Exception as error:  # stores raise their own SDKs' errors
        raise PolarSourceUnavailableError(f"{name} cannot be read: {type(error).__name__}: {error}") from error


def format_of(name: str) -> str:
    """The format that a file's name stands for.

    :raises PolarConfigurationError: for a name that says no known format.
    """
    path = PurePosixPath(name.lower())
    suffix = PurePosixPath(path.stem).suffix if path.suffix in _COMPRESSIONS else path.suffix
    if suffix not in _READERS or (suffix == ".parquet" and path.suffix in _COMPRESSIONS):
        raise PolarConfigurationError(
            f"{name!r} does not say its format: names end in {', '.join(_READERS)}; all but parquet "
            "also with .gz or .zst"
        )
    return suffix


def is_glob(name: str) -> bool:
    """Whether a path is a pattern."""
    return not _GLOB.isdisjoint(name)


@contextlib.contextmanager
def _decompressed(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    name = name.lower()
    if name.endswith(".gz"):
        with gzip.open(raw) as data:
            if not data.peek(1) and not raw.tell():
                raise _StreamError(_EMPTY)
            yield data  # type: ignore[misc]
    elif name.endswith(".zst"):
        yield io.BufferedReader(_ZstdFrames(raw), _CHUNK)
    else:
        yield raw


class _ZstdFrames(io.RawIOBase):
    """The content of a Zstandard file, frame by frame: zstandard's own reader takes a file that is cut for whole."""

    def __init__(self, raw: IO[bytes]) -> None:
        try:
            import zstandard
        except ImportError:
            raise missing("reading .zst files", "zstd") from None
        self._raw = raw
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._error: type[Exception] = zstandard.ZstdError
        self._frame: Any = None
        self._compressed = self._content = b""
        self._empty = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            if not self._compressed and not (compressed := self._raw.read(_COMPRESSED_CHUNK)):
                return self._end()
            self._decompress(self._compressed or compressed)
        size = min(len(buffer), len(self._content))
        buffer[:size], self._content = self._content[:size], self._content[size:]
        return size

    def _decompress(self, compressed: bytes) -> None:
        self._empty = False
        if self._frame is None:
            self._frame = self._new_frame()
        try:
            self._content = self._frame.decompress(compressed)
        except self._error as error:
            raise _StreamError(str(error)) from None
        self._compressed = b""
        if self._frame.eof:
            self._compressed, self._frame = self._frame.unused_data, None

    def _end(self) -> int:
        if self._empty:
            raise _StreamError(_EMPTY)
        if self._frame is not None:
            raise _StreamError("the compressed data ends before its end mark: the file is cut short")
        return 0


_Read = Iterator[tuple[int, Any, str | None]]
_CheckColumns = Callable[[Collection[str], bool], None]
_Reader = Callable[[IO[bytes], _CheckColumns], _Read]


def _of_objects(read: Callable[[IO[bytes]], _Read]) -> _Reader:
    """A reader of JSON, where each row has keys of its own: what none of the first rows has is not in the file."""

    def reader(data: IO[bytes], check: _CheckColumns) -> _Read:
        keys: dict[str, None] = {}
        number = 0
        for number, row in enumerate(read(data), 1):
            if number <= _FIRST_ROWS and isinstance(row[1], dict):
                keys |= dict.fromkeys(row[1])
            yield row
            if number == _FIRST_ROWS and keys:
                check(keys, False)
        if number < _FIRST_ROWS and keys:
            check(keys, False)

    return reader


def _jsonl(data: IO[bytes]) -> _Read:
    # Not every file that Airflow opens can be iterated over: those of 3.0 have no __iter__.
    for number, line in enumerate(iter(data.readline, b""), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        yield number, *_json_value(line)


def _json_value(line: bytes) -> tuple[Any, str | None]:
    try:
        return _LINE.decode(line), None
    except (ValueError, RecursionError):
        pass
    # Python's own decoder takes what the fast one refuses, NaN and half surrogate pairs: the value is told then.
    try:
        return json.loads(line.decode()), None
    except UnicodeDecodeError:
        return line[:_SHOWN].decode(errors="replace"), "is not UTF-8"
    except (ValueError, RecursionError) as error:
        return line[:_SHOWN].decode(errors="replace").rstrip("\n"), f"is not JSON: {error}"


def _json_array(data: IO[bytes]) -> _Read:
    """The elements of an array, decoded as they come; nothing but the element at hand is held."""
    decoder = json.JSONDecoder()
    text = io.TextIOWrapper(data, encoding="utf-8-sig")
    buffer, ended, position, number = "", False, 0, 0

    def fill() -> bool:
        nonlocal buffer, ended, position
        chunk = "" if ended else text.read(_CHUNK)
        ended = not chunk
        buffer, position = buffer[position:] + chunk, 0
        if len(buffer) > _MAX_ELEMENT:
            raise _StreamError(f"after element {number}: no complete JSON value in {_MAX_ELEMENT} characters")
        return not ended

    def skip_space() -> str:
        nonlocal position
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n":
                position += 1
            if position < len(buffer):
                return buffer[position]
            if not fill():
                return ""

    if skip_space() != "[":
        raise _StreamError("a .json file holds one array of events; for one event a line call it .jsonl")
    position += 1
    if skip_space() == "]":
        position += 1
    else:
        while True:
            skip_space()
            while True:
                try:
                    value, end = decoder.raw_decode(buffer, position)
                    # "1" may go on as "1.5" in the next chunk: a value is whole once its end mark is in sight.
                    if buffer[end:].lstrip(" \t\r\n")[:1] in (",", "]") or not fill():
                        break
                except ValueError as error:
                    if not fill():
                        raise _StreamError(f"after element {number}: {error}") from None
            position = end
            number += 1
            yield number, value, None
            mark = skip_space()
            position += 1
            if mark == "]":
                break
            if mark != ",":
                raise _StreamError(f"after element {number}: neither a comma nor the end of the array")
    if skip_space():
        raise _StreamError("something follows the end of the array")


def _csv(data: IO[bytes], check: _CheckColumns) -> _Read:
    """Values are text, and an empty cell is no value."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_ELEMENT))
    reader = csv.reader(io.TextIOWrapper(data, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) != len(header):
            raise _StreamError(f"two columns have one name: {', '.join(header)}")
        check(header, True)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                told = f"has {len(cells)} cells, the header has {len(header)}"
                yield reader.line_num, cells, told
                continue
            row = {column: cell if cell else None for column, cell in zip(header, cells, strict=True)}
            yield reader.line_num, *_gathered(row)
    except csv.Error as error:
        raise _StreamError(f"line {reader.line_num}: {error}") from None


def _gathered(row: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """``metadata.KEY`` columns as one object, and a ``metadata`` column of JSON text as the object that it is."""
    event: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for column, cell in row.items():
        if column == "metadata" and isinstance(cell, str):
            cell, error = _json_value(cell.encode(errors="surrogatepass"))
            if error or not isinstance(cell, dict):
                return row, "metadata is not a JSON object"
        if column == "metadata" and isinstance(cell, Mapping):
            gathered: Mapping[str, Any] = cell
        elif column.startswith("metadata."):
            gathered = {} if cell is None else {column.removeprefix("metadata."): cell}
        else:
            event[column] = cell
            continue
        if twice := metadata.keys() & gathered.keys():
            return row, f"metadata has {min(twice)!r} twice: in the column metadata and in one of its own"
        metadata.update(gathered)
    return ({**event, "metadata": metadata}, None) if metadata else (event, None)


def _parquet(data: IO[bytes], check: _CheckColumns) -> _Read:
    """A null inside a struct is a key that is not there: a struct column has the keys of all its rows."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise missing("reading parquet files", "parquet") from None
    number = 0
    try:
        file = parquet.ParquetFile(data)
        check(file.schema_arrow.names, True)
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                number += 1
                yield number, *_gathered(_without_nulls(row))
    except (ArrowException, KeyError) as error:  # KeyError: a key that a map has twice
        raise _StreamError(str(error)) from None


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {
        column: {key: v for key, v in value.items() if v is not None} if isinstance(value, Mapping) else value
        for column, value in row.items()
    }


_READERS: dict[str, _Reader] = {
    ".jsonl": _of_objects(_jsonl),
    ".ndjson": _of_objects(_jsonl),
    ".json": _of_objects(_json_array),
    ".csv": _csv,
    ".parquet": _parquet,
}
