"""Deaths of a process at each operation that changes a store, and what has to hold at each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_polar.engine.files.storage import Directory
from tests.unit.engine.rows import named_by


class Killed(BaseException):
    """Stands for the death of the process: nothing runs after it."""


def die_at(number: int, patch: Any, check: Callable[[], None] = lambda: None) -> list[str]:
    """Makes the n-th operation that changes the store the last one; after each that was done, ``check`` runs."""
    done: list[str] = []

    def counted(operation: str) -> None:
        original = getattr(Directory, operation)

        def run(self: Directory, *args: Any) -> Any:
            if len(done) >= number:
                raise Killed
            done.append(operation)
            result = original(self, *args)
            check()
            return result

        patch.setattr(Directory, operation, run)

    for operation in ("write", "upload", "copy", "remove"):
        counted(operation)
    return done


def objects(target: Path) -> dict[str, bytes]:
    """Every object of a directory, by its name in it."""
    return {str(p.relative_to(target)): p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()}


def named(target: Path) -> set[str]:
    """Every manifest and staging record, and what they name."""
    found = set()
    for path in target.rglob("*.json"):
        found.add(str(path.relative_to(target)))
        content = json.loads(path.read_text())
        if path.name == "staging.json":
            found |= set(content["published"])
        found |= {str((path.parent / name).relative_to(target)) for name in named_by(content)}
    return found


def events_of(manifest: Path) -> list[dict[str, Any]]:
    """The events of a manifest, its files being what it says."""
    content = json.loads(manifest.read_text())
    lines = []
    for file in content["files"]:
        data = (manifest.parent / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert (len(data), data.count(b"\n")) == (file["bytes"], file["rows"])
        lines += [json.loads(line) for line in data.splitlines()]
    assert len(lines) == content["rows"]
    return lines
