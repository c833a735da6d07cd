"""Loads that a full disk ends, in each database; once there is room, the same load goes through."""

from __future__ import annotations

import random
import shutil
import string
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.engine.loading.load import Loaded
from airflow_provider_polar.exceptions import PolarDatabaseError
from tests.integration import databases
from tests.integration.databases import Target
from tests.integration.mariadb import mariadb_server, programs_of_mariadb
from tests.integration.postgres import postgres
from tests.integration.small_disk import SmallDisk, small_disk
from tests.unit.engine.loading.exports import events_of, exported, hour

__all__ = ["postgres", "small_disk"]

MEGABYTE = 1 << 20


def large_events(number: int) -> list[dict[str, Any]]:
    """Events of ten kilobytes each that cannot be compressed."""
    chance = random.Random(1)
    text = ["".join(chance.choices(string.ascii_letters, k=500)) for _ in range(20 * number)]
    events = events_of(hour(1), number)
    for n, event in enumerate(events):
        event["metadata"] = {f"key{i}": text[20 * n + i] for i in range(20)}
    return events


@pytest.fixture(params=["sqlite", "duckdb", "postgres"])
def target(request: pytest.FixtureRequest, small_disk: SmallDisk) -> Target:
    """A database whose table of events is on the small disk, and holds an hour."""
    made = databases.new_target(request, request.param, small_disk.path)
    if made.kind == "postgres":
        shutil.chown(small_disk.path, "postgres")
        server = request.getfixturevalue("postgres")
        name = made.airflow["schema"]
        server.run(f"CREATE TABLESPACE {name} LOCATION '{small_disk.path}'")
        server.run(f"ALTER DATABASE {name} SET default_tablespace = {name}")
    return made


@pytest.fixture
def first_hour(target: Target, tmp_path: Path) -> list[str]:
    """The ids that it holds."""
    target.load(exported(tmp_path, events_of(hour(0)), hour(0)))
    return target.ids()


def assert_told(error: PolarDatabaseError, target: Target) -> None:
    told = str(error)
    assert told.startswith(f"cannot load {hour(1)} into the table events in the test's {target.kind}: ")
    assert "full" in told.partition(". The table")[0] or "space" in told, told
    assert told.endswith("The table is as it was; a retry helps if the database was away or full")


def test_a_full_disk_leaves_the_table(
    target: Target, first_hour: list[str], small_disk: SmallDisk, tmp_path: Path
) -> None:
    used = 64 * MEGABYTE - small_disk.free()
    small_disk.resize(used // MEGABYTE + 2)
    window = exported(tmp_path, large_events(600), hour(1))
    with pytest.raises(PolarDatabaseError) as caught:
        target.load(window)
    assert_told(caught.value, target)
    assert target.ids() == first_hour
    assert target.query("SELECT count(*) FROM polar_loads") == [(1,)]
    small_disk.resize(64)
    assert target.load(window) == [Loaded(600, inserted=600)]
    assert len(target.ids()) == 620


def test_a_full_table_space_of_mariadb(tmp_path: Path) -> None:
    """On a full file system that server ends; what it is allowed of the disk it minds."""
    programs = programs_of_mariadb()
    if programs is None:
        pytest.skip("MariaDB is not installed: no table space of it is filled")
    space = ("--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:16M")
    with mariadb_server(*programs, *space) as server:
        target = databases.new_mariadb(server)
        target.load(exported(tmp_path, events_of(hour(0)), hour(0)))
        before = target.ids()
        with pytest.raises(PolarDatabaseError) as caught:
            target.load(exported(tmp_path, large_events(1500), hour(1)))
        assert_told(caught.value, target)
        assert target.ids() == before
        assert target.query("SELECT count(*) FROM polar_loads") == [(1,)]
