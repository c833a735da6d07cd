"""Rows set aside, each with its reasons, as one JSONL file that is published whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from airflow_provider_polar.events.exporting.storage import Directory, StoragePath
from airflow_provider_polar.events.ingesting.validation import FieldProblem


class FilePath(StoragePath, Protocol):
    """What is needed of the destination (``ObjectStoragePath`` or any ``UPath``)."""

    @property
    def parent(self) -> StoragePath:
        """Its directory."""

    @property
    def name(self) -> str:
        """Its name there."""


class RejectedRows:
    """Collects rejected rows in a temporary file without a name. Not thread-safe.

    A line is ``{"row", "problems": [{"field", "message"}], "event"}``, and for rows of files ``"source"``; ``event`` is
    the row as it was read, or, where Polar itself refused it, the event as it was sent.

    :param destination: the file to publish; None to count only.
    """

    def __init__(self, destination: FilePath | None) -> None:
        self._destination = destination
        self._file = tempfile.TemporaryFile(prefix="polar-rejected-")  # noqa: SIM115
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, source: str, number: int, problems: Sequence[FieldProblem], event: Any) -> None:
        """Sets one row aside."""
        self.count += 1
        if self._destination is None:
            return
        line: dict[str, Any] = {"row": number}
        if source:
            line["source"] = source
        line["problems"] = [{"field": field, "message": message} for field, message in problems]
        line["event"] = event
        self._file.write(_json(line) + b"\n")

    def publish(self) -> str | None:
        """The destination's path; None where no row was set aside, and then nothing is written.

        :raises PolarDestinationError: the destination cannot be written.
        """
        if not self.count or self._destination is None:
            return None
        directory, name = Directory(self._destination.parent), self._destination.name
        self._file.seek(0)
        with tempfile.NamedTemporaryFile(prefix="polar-rejected-") as whole:
            shutil.copyfileobj(self._file, whole)
            whole.flush()
            size = whole.tell()
            directory.upload(whole.name, f"next-{name}")
        directory.move(f"next-{name}", name, size)
        return str(self._destination)


def _json(line: dict[str, Any]) -> bytes:
    try:
        return json.dumps(line, default=str).encode()
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, or a row that holds itself: shown as Python writes it.
        return json.dumps({**line, "event": repr(line["event"])}).encode()
