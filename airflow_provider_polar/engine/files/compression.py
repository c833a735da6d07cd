"""Compressed streams. What is written depends on the content alone: no write time, no file name.

To add a compression, add its :class:`Codec` to ``CODECS``.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO, Any, cast

from airflow_provider_polar.engine.files.packages import installed

_BUFFER = 1 << 16
_COMPRESSED = 1 << 14
_EMPTY = "the file is empty; not even an empty file is so when it is compressed"


class StreamError(Exception):
    """A stream that is not what it claims to be."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression.

    :param ending: what names of files end in.
    :param write: a stream that writes compressed to another one; closing it leaves that one open.
    :param read: the content of a compressed stream.
    :param package: the module that is needed, and the extra that brings it.
    """

    ending: str
    write: Callable[[IO[bytes]], IO[bytes]]
    read: Callable[[IO[bytes]], AbstractContextManager[IO[bytes]]]
    package: tuple[str, str] | None = None


def codec_of(name: str) -> Codec:
    """The codec that a file's name stands for."""
    return next((codec for codec in CODECS.values() if codec.ending and name.lower().endswith(codec.ending)), _PLAIN)


def _write_gzip(raw: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0))


@contextmanager
def _read_gzip(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    with gzip.open(raw) as data:
        if not data.peek(1) and not raw.tell():
            raise StreamError(_EMPTY)
        yield cast(IO[bytes], data)


def _write_zstd(raw: IO[bytes]) -> IO[bytes]:
    import zstandard

    return cast(IO[bytes], zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False))


class _ZstdFrames(io.RawIOBase):
    """The content of a Zstandard file, frame by frame: zstandard's own reader takes a file that is cut for whole."""

    def __init__(self, raw: IO[bytes]) -> None:
        zstandard = installed("zstandard", "zstd", "reading .zst files")
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
            if not self._compressed and not (compressed := self._raw.read(_COMPRESSED)):
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
            raise StreamError(str(error)) from None
        self._compressed = b""
        if self._frame.eof:
            self._compressed, self._frame = self._frame.unused_data, None

    def _end(self) -> int:
        if self._empty:
            raise StreamError(_EMPTY)
        if self._frame is not None:
            raise StreamError("the compressed data ends before its end mark: the file is cut short")
        return 0


_PLAIN = Codec("", lambda raw: raw, nullcontext)
CODECS: dict[str | None, Codec] = {
    None: _PLAIN,
    "gzip": Codec(".gz", _write_gzip, _read_gzip),
    "zstd": Codec(".zst", _write_zstd, lambda raw: io.BufferedReader(_ZstdFrames(raw), _BUFFER), ("zstandard", "zstd")),
}
