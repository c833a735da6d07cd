"""An export made of shards, whoever is killed when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest
from airflow_provider_polar.engine.exporting.shards import Assembly
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.exporting.deaths import Killed, die_at, events_of, named, objects
from tests.unit.engine.rows import HOUR, START, MemoryReader, event, minutes

EVENTS = minutes(60)
LATE = sorted([*EVENTS, event(START + timedelta(seconds=1), 99)], key=lambda e: e["timestamp"])
LATER = sorted([*LATE, event(HOUR.end - timedelta(seconds=1), 99)], key=lambda e: e["timestamp"])
PLAIN = EventFilters()
# Two files a shard.
LAYOUT = FileLayout(max_file_rows=10)


def directory(target: Path) -> Directory:
    return Directory(ObjectStoragePath(f"file://{target}"))


def export(target: Path, events: list[dict[str, Any]], *windows: EventWindow) -> Manifest:
    for window in windows:
        reader = MemoryReader(events, pieces=1)
        manifest = WindowExport(reader, directory(target), window, PLAIN, LAYOUT, max_concurrency=1).run()
    return manifest


def assemble(target: Path, events: list[dict[str, Any]], shards: list[EventWindow]) -> Manifest:
    return Assembly(
        MemoryReader(events), directory(target), shards, PLAIN, lambda shard, _: export(target, events, shard)
    ).run()


def check(target: Path) -> None:
    """Every moment of the window is of a manifest, and every manifest's files are there as it says."""
    names = [path.name for path in target.glob("*.manifest.json")]
    for name in names:
        events_of(target / name)
    windows = sorted(of.window for of in map(ExportName.parse, names) if of)
    covered = START
    for window in windows:
        assert window.start <= covered
        covered = max(covered, window.end)
    assert covered == HOUR.end


def assert_whole(target: Path, events: list[dict[str, Any]]) -> None:
    """One manifest holds all events, and no object is there that it does not name."""
    (manifest,) = target.glob("*.manifest.json")
    assert events_of(manifest) == events
    assert set(objects(target)) == named(target)


def at_each_death(patch: Any, target: Path, run: Callable[[Path], Any], step: int = 1) -> Iterator[Path]:
    """Kills ``run`` after each of its operations in turn, in a directory of its own, given before and after."""
    for number in range(0, 200, step):
        folder = target / str(number)
        yield folder
        with patch.context() as patched:
            die_at(number, patched, lambda folder=folder: check(folder))
            try:
                run(folder)
                done = True
            except Killed:
                done = False
        check(folder)
        yield folder
        if done:
            return
    pytest.fail("it never came to its end")


def again_and_again(
    patch: Any, folder: Path, run: Callable[[Path], Any], between: Callable[[Path], Any] = lambda _: None
) -> None:
    """Repeats ``run``, killed a little later each time, until it ends; something else happens after its deaths."""
    for number in range(0, 200, 5):
        with patch.context() as patched:
            die_at(number, patched, lambda: check(folder))
            try:
                run(folder)
                return
            except Killed:
                pass
        between(folder)
        check(folder)
    pytest.fail("it never came to its end")


def fresh(target: Path) -> None:
    export(target, EVENTS, *HOUR.split(3))


def assembled(target: Path) -> None:
    fresh(target)
    assemble(target, EVENTS, HOUR.split(3))


def of_another_plan(target: Path) -> None:
    assembled(target)
    export(target, EVENTS, *HOUR.split(2))


def partly_exported_again(target: Path) -> None:
    assembled(target)
    export(target, LATE, HOUR.split(3)[0])


SITUATIONS = [
    (fresh, EVENTS, 3),
    (fresh, LATER, 3),
    (assembled, EVENTS, 3),
    (assembled, LATER, 3),
    (of_another_plan, LATER, 2),
    (partly_exported_again, LATER, 3),
]
IDS = [f"{prepare.__name__}-{len(events)}" for prepare, events, _ in SITUATIONS]


@pytest.mark.parametrize(("prepare", "events", "shards"), SITUATIONS, ids=IDS)
def test_an_assembly_killed_anywhere_is_only_repeated(
    tmp_path: Path, monkeypatch: Any, prepare: Any, events: list[dict[str, Any]], shards: int
) -> None:
    """Eight of forty-four deaths ended in a shard that was said to be missing."""
    plan = HOUR.split(shards)
    deaths = at_each_death(monkeypatch, tmp_path, lambda folder: assemble(folder, events, plan))
    for folder in deaths:
        prepare(folder)
        assert next(deaths) == folder
        assemble(folder, events, plan)
        assert_whole(folder, events)


def test_another_plan_after_a_killed_assembly_leaves_nothing_of_the_one_before(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Shards of the first plan kept their manifests for good, and their events were in the directory twice."""
    first, second = HOUR.split(3), HOUR.split(2)
    deaths = at_each_death(monkeypatch, tmp_path, lambda folder: assemble(folder, LATER, first), step=3)
    for folder in deaths:
        assembled(folder)
        next(deaths)
        export(folder, LATER, *second)
        again_and_again(monkeypatch, folder, lambda folder: assemble(folder, LATER, second))
        assert_whole(folder, LATER)


@pytest.mark.parametrize("prepare", [fresh, assembled], ids=lambda prepare: prepare.__name__)
def test_shards_exported_again_between_two_attempts_and_killed_then(
    tmp_path: Path, monkeypatch: Any, prepare: Any
) -> None:
    plan = HOUR.split(3)
    deaths = at_each_death(monkeypatch, tmp_path, lambda folder: assemble(folder, LATE, plan), step=4)
    for folder in deaths:
        prepare(folder)
        next(deaths)
        again_and_again(
            monkeypatch,
            folder,
            lambda folder: export(folder, LATER, plan[-1]),
            between=lambda folder: assemble(folder, LATER, plan),
        )
        assemble(folder, LATER, plan)
        assert_whole(folder, LATER)
