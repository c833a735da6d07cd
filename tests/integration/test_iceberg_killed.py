"""Loads into an Iceberg table that are killed at any moment, while a reader looks; see test_loads_killed."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyiceberg", reason="PyIceberg is not installed: loads into its tables are not tested")

from pyiceberg.catalog import Catalog

from tests.integration.iceberg_worker import NAME, catalog_in, load
from tests.integration.test_loads_killed import KILLS, WINDOWS, Reader, versions


class Lake:
    """What the reader asks."""

    kind = "iceberg"

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def query(self, _: str) -> list[tuple[str, str]]:
        """Id and window of each row of one state of the table."""
        columns = ("id", "external_customer_id")
        found = self._catalog.load_table(NAME.parts).scan(selected_fields=columns).to_arrow()
        return list(zip(*(found[column].to_pylist() for column in columns), strict=True))


def test_a_reader_never_sees_a_part_of_a_window(tmp_path: Path) -> None:
    exports, states = versions(tmp_path)
    chance = random.Random(14)
    (lake := tmp_path / "lake").mkdir()
    processes: Any = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.integration.iceberg_worker"])

    def killed(version: int, after: float | None) -> bool:
        windows = exports[version]
        folder = windows[0].directory.url.removeprefix("file://")
        process = processes.Process(target=load, args=(str(lake), folder, [window.name for window in windows]))
        process.start()
        process.join(after if after is not None else 120)
        ended = process.exitcode is not None
        process.kill()
        process.join()
        assert not ended or process.exitcode == 0
        return ended

    assert killed(0, None)  # also begins what the others are forked from
    started = time.monotonic()
    assert killed(1, None)
    whole = time.monotonic() - started
    kills, reader = 0, Reader(Lake(catalog_in(lake)), states)  # type: ignore[arg-type]
    with reader:
        while kills < KILLS:
            kills += not killed(chance.randrange(3), chance.uniform(0, whole))
    assert reader.partial == []
    assert reader.looks > 0
    # What the killed ones have left is in no load's way.
    assert killed(2, None)
    due = [event["id"] for window in range(WINDOWS) for event in exports[2][window].events()]
    assert sorted(id_ for id_, _ in Lake(catalog_in(lake)).query("")) == sorted(due)
