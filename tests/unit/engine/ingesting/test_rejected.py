"""Rejected rows of two ingests in one place."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from upath import UPath

from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.exceptions import EventProblem


def publish(path: Path, owner: str) -> str | None:
    with closing(RejectedRows(UPath(f"file://{path}"), [""], owner)) as rejected:
        rejected.add(1, [EventProblem("name", "is missing")], {"of": owner})
        return rejected.publish()


def owners(paths: list[str | None]) -> list[str]:
    return sorted(json.loads(Path(str(path).removeprefix("file://")).read_text())["event"]["of"] for path in paths)


@pytest.mark.parametrize("step", ["upload", "move"])
def test_one_that_publishes_while_another_does_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    paths: list[str | None] = []
    real = getattr(Directory, step)

    def with_another_before(*args: Any) -> None:
        monkeypatch.setattr(Directory, step, real)
        paths.append(publish(tmp_path / "rejected.jsonl", "second"))
        real(*args)

    monkeypatch.setattr(Directory, step, with_another_before)
    paths.append(publish(tmp_path / "rejected.jsonl", "first"))
    assert owners(paths) == ["first", "second"]
    assert len(list(tmp_path.iterdir())) == 2


def test_many_at_once_all_keep_their_rows(tmp_path: Path) -> None:
    names = [f"run {n}" for n in range(8)]
    together, paths = Barrier(len(names)), list[str | None]()

    def run(name: str) -> None:
        together.wait()
        paths.append(publish(tmp_path / "rejected.jsonl", name))

    threads = [Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert owners(paths) == names
    assert len(list(tmp_path.iterdir())) == len(names)
