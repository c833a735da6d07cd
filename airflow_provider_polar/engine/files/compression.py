"""Compressed streams whose bytes depend on the content alone: no write time, no file name."""

from __future__ import annotations

import gzip
from typing import IO, Literal, cast

from airflow_provider_polar.engine.files.packages import missing

Compression = Literal["gzip", "zstd"]
SUFFIXES = {None: "", "gzip": ".gz", "zstd": ".zst"}


def check_zstd() -> None:
    """Checks that Zstandard can be used.

    :raises PolarConfigurationError: zstandard is not installed.
    """
    try:
        import zstandard  # noqa: F401
    except ImportError:
        raise missing("compression='zstd'", "zstd") from None


def compressed(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    """A stream that writes compressed to ``raw``; closing it leaves ``raw`` open."""
    if compression == "gzip":
        return cast(IO[bytes], gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0))
    if compression == "zstd":
        import zstandard

        return cast(IO[bytes], zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False))
    return raw
