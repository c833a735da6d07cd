"""Rows from memory or from files, one at a time: a file is never held whole.

The format goes by the file's name, see :mod:`airflow_provider_polar.engine.files.formats`. A row that cannot be read
is a rejected row, with its place; a file that cannot be read is an error.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import IO, Any, NamedTuple, Protocol

from airflow_provider_polar.engine.files.compression import StreamError, codec_of
from airflow_provider_polar.engine.files.formats import format_of
from airflow_provider_polar.engine.files.packages import StoragePath
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError, PolarSourceUnavailableError

_GLOB = frozenset("*?[")
_BROKEN = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    RecursionError,
    StreamError,
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
        read = format_of(name).read
        check_columns = partial(check, name) if check else _any_columns
        with _saying(name), path.open("rb") as raw, codec_of(name).read(raw) as data:
            for number, value, error in read(data, check_columns):
                yield Row(source, number, value, error)


def _any_columns(_columns: Collection[str], _every_row: bool) -> None:
    """Takes a file whatever its columns are."""


def matching(path: StoragePath) -> list[str]:
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


def is_glob(name: str) -> bool:
    """Whether a path is a pattern."""
    return not _GLOB.isdisjoint(name)
