"""Rows set aside, each with its reasons, as one JSONL file that is published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, Any

from airflow_provider_polar.engine.files.packages import FilePath
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.places import Flaws, Place, place_of, where
from airflow_provider_polar.exceptions import EventProblem
from airflow_provider_polar.wording import number_of

_REASONS = 20
_HEAD = 4096


class RejectedRows:
    """Collects rejected rows in a temporary file without a name. Not thread-safe.

    A line is ``{"row", "ingest", "problems": [{"field", "message"}], "event"}``, and for rows of files ``"source"``;
    ``event`` is the row as it was read, or, where Polar itself refused it, the event as it was sent. ``ingest`` tells
    one ingest's file from another's: a file of another one is never replaced, a name of its own is taken instead.

    :param destination: the file to publish; None to count only.
    :param sources: the names of the sources that places refer to by number.
    :param owner: what is the same for all attempts of one ingest, and different for all others.
    :ivar rows: which they are.
    """

    def __init__(self, destination: FilePath | None, sources: Sequence[str], owner: str = "") -> None:
        self.sources = sources
        self.rows = Flaws(sources)
        self._destination = destination
        self._ingest = hashlib.sha256(owner.encode()).hexdigest()[:12]
        self._next = f"next-{self._ingest}-{destination.name}" if destination is not None else ""
        self._file = tempfile.TemporaryFile(prefix="polar-rejected-")  # noqa: SIM115
        self._reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.rows)

    def close(self) -> None:
        """Forgets what is not published."""
        self._file.close()

    def add(self, place: Place, problems: Sequence[EventProblem], event: Any) -> None:
        """Sets one row aside."""
        self.rows.add(place, problems)
        for problem in problems:
            reason = re.sub(r"\d[\d.,]*", "N", str(problem))
            self._reasons[reason if reason in self._reasons or len(self._reasons) < _REASONS else "other reasons"] += 1
        source, row = where(place, self.sources)
        line: dict[str, Any] = {"row": row, "ingest": self._ingest}
        if source:
            line["source"] = source
        line["problems"] = [{"field": one.field, "message": one.message} for one in problems]
        line["event"] = event
        self._file.write(_json(line) + b"\n")

    def lines(self) -> IO[bytes]:
        """All of them as lines of JSON; see :meth:`restore`."""
        self._file.seek(0)
        return self._file

    def restore(self, line: Mapping[str, Any]) -> None:
        """Sets one row aside again, of which an earlier attempt has kept the line.

        :param line: decoded; of the first source, for files are not kept.
        """
        problems = [EventProblem(one["field"], one["message"]) for one in line["problems"]]
        self.add(place_of(0, line["row"]), problems, line["event"])

    def tell_reasons(self, log: Any) -> None:
        """Logs each reason with how often it was given, numbers in it left out; the most frequent first."""
        for reason, times in self._reasons.most_common():
            log.warning("Rejected for one reason, %s: %s", number_of(times, "time"), reason)

    def publish(self) -> str | None:
        """Writes the file, or removes that of an earlier attempt where no row is rejected any more.

        :return: its path; None where no row was set aside.
        :raises PolarDestinationError: the destination cannot be read or written.
        """
        if self._destination is None:
            return None
        directory, name = Directory(self._destination.parent), self._destination.name
        path = PurePosixPath(name)
        own = f"{path.stem}-{self._ingest}{path.suffix}"
        if not self:
            for earlier in (name, own):
                if self._ingest_of(directory, earlier) == self._ingest:
                    directory.remove(earlier)
            return None
        with tempfile.NamedTemporaryFile(prefix="polar-rejected-") as whole:
            shutil.copyfileobj(self.lines(), whole)
            whole.flush()
            size = whole.tell()
            directory.upload(whole.name, self._next)
        if self._is_of_another(directory, name):
            name = own
        directory.move(self._next, name, size)
        return str(self._destination) if name == self._destination.name else directory.url_of(name)

    def _is_of_another(self, directory: Directory, name: str) -> bool:
        """Whether another ingest has written the file, or is about to.

        Each uploads its next file first and looks for those of others then, so that of two at once at least one sees
        the other and takes a name of its own."""
        others = (one for one in directory.sizes("next-") if one != self._next)
        if any(re.fullmatch(rf"next-[0-9a-f]{{12}}-{re.escape(name)}", one) for one in others):
            return True
        return self._ingest_of(directory, name) not in (None, self._ingest)

    def expect_writable(self) -> None:
        """Puts an empty object beside the file and removes it.

        :raises PolarDestinationError: the destination cannot be written.
        """
        if self._destination is not None:
            directory = Directory(self._destination.parent)
            directory.write(self._next, b"")
            directory.remove(self._next)

    def _ingest_of(self, directory: Directory, name: str) -> str | None:
        """Which ingest wrote a file; None where there is none, "" where it does not say."""
        size = directory.size(name)
        if size is None:
            return None
        head = directory.read(name, end=min(size, _HEAD)) if size else b""
        found = re.match(rb'\{"row": \d+, "ingest": "([0-9a-f]+)"', head or b"")
        return found[1].decode() if found else ""


def is_rejected_file(name: str, rejected: str) -> bool:
    """Whether a path is that of rejected rows, of this ingest or of another one with the same ``rejected_path``.

    :param name: a path without a scheme.
    :param rejected: the same of ``rejected_path``.
    """
    path, other = PurePosixPath(name), PurePosixPath(rejected)
    own = rf"(next-[0-9a-f]{{12}}-)?{re.escape(other.stem)}(-[0-9a-f]{{12}})?{re.escape(other.suffix)}"
    return path.parent == other.parent and re.fullmatch(own, path.name) is not None


def _json(line: dict[str, Any]) -> bytes:
    try:
        return json.dumps(line, default=str).encode()
    except (TypeError, ValueError, RecursionError):
        # Keys that are no text, or a row that holds itself: shown as Python writes it.
        return json.dumps({**line, "event": repr(line["event"])}).encode()
