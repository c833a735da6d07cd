"""A report of JSON lines, written on this machine first, so that its destination only ever sees a whole one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from airflow_provider_polar.engine.files.packages import FilePath
from airflow_provider_polar.engine.files.storage import Directory


class LinesReport:
    """JSON lines on their way to one file.

    :param path: ``ObjectStoragePath`` of the file; None for a report that nobody wants.
    """

    def __init__(self, path: FilePath | None) -> None:
        self._path = path
        self._file = tempfile.NamedTemporaryFile(prefix="polar-report-")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds one line."""
        if self._path is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")

    def publish(self) -> str | None:
        """Writes the file, also an empty one, in the place of an earlier one; its path.

        :raises PolarDestinationError: the store refuses it; a retry may help.
        """
        if self._path is None:
            return None
        self._file.flush()
        Directory(self._path.parent).upload(self._file.name, self._path.name)
        return str(self._path)
