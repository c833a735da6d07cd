"""Exported windows in tables of real databases."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.loading.databases import database_of
from airflow_provider_polar.engine.loading.load import Loaded, TableLoad
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarDatabaseError, PolarError, PolarSourceError, PolarTableError
from airflow_provider_polar.transfers.events_to_sql import PolarEventsToSqlOperator
from tests.integration.databases import Target, target
from tests.integration.mariadb import mariadb
from tests.integration.postgres import postgres
from tests.unit.engine.loading.exports import events_of, exported, hour
from tests.unit.engine.rows import HOUR, START, event

__all__ = ["mariadb", "postgres", "target"]

SERVERS = ["postgres", "mariadb"]
SECRET = "it's a 'secret' \"value\""


def values(target: Target, column: str, table: str = "events") -> list[Any]:
    return [value for (value,) in target.query(f'SELECT "{column}" FROM {table} ORDER BY "timestamp", "id"')]


def moment(value: Any) -> datetime:
    """A moment as each database gives it."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def strange_events() -> list[dict[str, Any]]:
    """Events with all that text, numbers and moments can be."""
    events = events_of(HOUR, 8)
    texts = ["a,b", 'say "hi"', "two\nlines\r\n", "back\\slash \\N", "snow ☃ 🎈", "%s %% ?", "NULL", " spaced "]
    for one, text in zip(events, texts, strict=True):
        one["label"] = text
        one["metadata"] = {"text": text, "n": 2**53 - 1, "price": 0.1, "on": True, "distance": 2.5}
    events[0]["metadata"] = {}
    events[1]["customer"] = None
    events[2]["external_customer_id"] = ""
    events[3]["a_new_field"] = {"deep": [1, None]}
    return events


def test_every_value_arrives_as_it_was(target: Target, tmp_path: Path) -> None:
    due = strange_events()
    columns = {"distance": "double", "n": "bigint", "on": "boolean", "text": "text", "price": "json"}
    (loaded,) = target.load(exported(tmp_path, due), metadata_columns=columns)
    assert loaded == Loaded(8, inserted=8)
    assert target.ids() == [one["id"] for one in due]
    assert [moment(value) for value in values(target, "timestamp")] == [moment(one["timestamp"]) for one in due]
    assert (moment(values(target, "timestamp")[0]), moment(values(target, "timestamp")[-1])) == (
        HOUR.start,
        HOUR.end - timedelta(microseconds=1),
    )
    for column in ("label", "name", "external_customer_id", "member_id", "child_count"):
        assert values(target, column) == [one[column] for one in due]
    for column in ("metadata", "customer"):
        assert [as_json(value) for value in values(target, column)] == [one[column] for one in due]
    assert [as_json(value) for value in values(target, "extra")] == [
        {"a_new_field": one["a_new_field"]} if "a_new_field" in one else None for one in due
    ]
    for column in columns:
        of = as_json if column == "price" else (lambda value: value)
        assert [of(value) for value in values(target, column)] == [one["metadata"].get(column) for one in due]


@pytest.mark.parametrize(
    "layout", [{"file_format": "csv", "compression": "gzip"}, {"file_format": "parquet", "max_file_rows": 3}], ids=str
)
def test_every_format_loads_the_same(target: Target, tmp_path: Path, layout: dict[str, Any]) -> None:
    due = [one | {"external_customer_id": "c"} for one in strange_events()]  # in csv, empty text is no text
    target.load(exported(tmp_path / "jsonl", due), table="one")
    target.load(exported(tmp_path / "other", due, **layout), table="two")
    for column in ("id", "timestamp", "label", "child_count", "external_customer_id"):
        assert values(target, column, "one") == values(target, column, "two")
    for column in ("metadata", "customer", "extra"):
        one, two = ([as_json(value) for value in values(target, column, table)] for table in ("one", "two"))
        assert one == two


def test_the_same_manifest_again_is_nothing_to_do(target: Target, tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR))
    assert target.load(window, window, run="first") == [Loaded(20, inserted=20), Loaded(20, skipped=True)]
    (tmp_path / window.manifest.files[0].path).unlink()  # not even read
    assert target.load(window, mode="replace_window") == [Loaded(20, skipped=True)]
    ((destination, number, sha256, rows, url, filters, run, *moments),) = target.query(
        'SELECT "destination", "number", "manifest_sha256", "rows", "manifest", "filters", "run", '
        '"window_start", "window_end", "loaded_at" FROM polar_loads'
    )
    assert destination.endswith("events")
    assert (number, sha256, rows, url, filters, run) == (1, window.sha256, 20, window.url, "{}", "first")
    assert [moment(value) for value in moments[:2]] == [HOUR.start, HOUR.end]
    assert abs(moment(moments[2]) - datetime.now(UTC)) < timedelta(minutes=10)


def test_late_events_are_inserted_and_gone_ones_told_or_replaced(target: Target, tmp_path: Path) -> None:
    events = [*events_of(hour(0)), *events_of(hour(1))]
    first, second = exported(tmp_path, events[:19], hour(0)), exported(tmp_path, events[20:], hour(1))
    late = exported(tmp_path / "late", events[:20], hour(0))
    gone = exported(tmp_path / "gone", events[2:20], hour(0))
    assert target.load(first, second, late) == [Loaded(19, 19), Loaded(20, 20), Loaded(20, 1)]
    with pytest.raises(PolarTableError) as caught:
        target.load(gone)
    assert (
        "would hold, in [2026-01-01T00:00:00Z, 2026-01-01T01:00:00Z), 2 events that the manifest does not have ("
        in (str(caught.value))
    )
    assert events[0]["id"] in str(caught.value)
    assert str(caught.value).endswith("which mode='replace_window' removes. The table is as it was")
    assert target.ids() == [one["id"] for one in events]
    changed = [events[2] | {"label": "another"}, *events[3:20], event(HOUR.start + timedelta(seconds=1), 99)]
    replaced = exported(tmp_path / "replaced", changed, hour(0))
    assert target.load(replaced, mode="replace_window") == [Loaded(19, inserted=1, removed=2)]
    assert sorted(target.ids()) == sorted(one["id"] for one in (*changed, *events[20:]))
    assert values(target, "label").count("another") == 1


def test_what_was_emptied_or_dropped_since_is_loaded_again(target: Target, tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR))
    target.load(window)
    target.query("DELETE FROM events")
    assert target.load(window) == [Loaded(20, inserted=20)]
    target.query("DROP TABLE events")
    assert target.load(window) == [Loaded(20, inserted=20)]
    assert len(set(target.ids())) == 20


def test_an_older_manifest_and_overlapping_windows(target: Target, tmp_path: Path) -> None:
    events = [*events_of(hour(0)), *events_of(hour(1))]
    both = EventWindow(hour(0).start, hour(1).end)
    hours = [exported(tmp_path, events, hour(n)) for n in (0, 1)]
    day, less = exported(tmp_path, events, both), exported(tmp_path / "less", events[1:], both)
    assert target.load(*hours, day) == [Loaded(20, 20), Loaded(20, 20), Loaded(40)]
    assert target.load(less, day, less, mode="replace_window") == [Loaded(39, 0, 1), Loaded(40, 1), Loaded(39, 0, 1)]
    # What was said of the hours is no longer what the table holds.
    assert target.load(*hours) == [Loaded(20, 1), Loaded(20)]
    assert target.ids() == [one["id"] for one in events]


def test_of_a_hundred_windows_only_the_changed_one_is_touched(target: Target, tmp_path: Path) -> None:
    length = timedelta(minutes=1)
    windows = [EventWindow(START + length * n, START + length * (n + 1)) for n in range(100)]
    events = {window: events_of(window, 3) for window in windows}
    exports = [exported(tmp_path, events[window], window) for window in windows]
    assert sum(loaded.inserted for loaded in target.load(*exports)) == 300
    exports[41] = exported(tmp_path, events[windows[41]][:2], windows[41])
    loaded = target.load(*exports, mode="replace_window")
    assert loaded[41] == Loaded(2, removed=1)
    assert all(one == Loaded(3, skipped=True) for one in loaded[:41] + loaded[42:])
    assert target.query("SELECT count(*) FROM polar_loads") == [(101,)]
    assert target.query("SELECT count(*) FROM events") == [(299,)]


def test_exports_with_other_filters_want_a_table_of_their_own(target: Target, tmp_path: Path) -> None:
    plain = exported(tmp_path, events_of(HOUR))
    named = exported(tmp_path, events_of(HOUR)[:5], filters=EventFilters(name="call"))
    target.load(plain)
    with pytest.raises(PolarTableError, match=r'holds exports with the filters \{\}, .* has \{"name": \["call"\]\}'):
        target.load(named)
    assert len(target.ids()) == 20
    target.load(named, table="calls")
    assert len(target.ids("calls")) == 5


def test_an_empty_window_takes_all_away(target: Target, tmp_path: Path) -> None:
    assert target.load(exported(tmp_path, [], HOUR)) == [Loaded(0)]
    target.load(exported(tmp_path / "full", events_of(HOUR)))
    assert target.load(exported(tmp_path, [], HOUR), mode="replace_window") == [Loaded(0, removed=20)]
    assert target.ids() == []


# Tables that are there already


def test_columns_that_are_missing_are_told_with_what_adds_them(target: Target, tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR))
    target.load(exported(tmp_path / "less", events_of(hour(1)), hour(1), exclude_fields=["label", "customer"]))
    with pytest.raises(PolarTableError) as caught:
        target.load(window, metadata_columns={"tokens": "bigint"})
    told = str(caught.value)
    assert "it has no column 'label': ALTER TABLE " in told
    assert "or leave it out by exclude_fields=['label']" in told
    for statement in re.findall(r"ALTER TABLE .*? ADD COLUMN \S+ \w+", told):
        target.query(statement)
    assert target.load(window, metadata_columns={"tokens": "bigint"}) == [Loaded(20, inserted=20)]
    assert values(target, "tokens")[:20] == list(range(20))
    assert (
        target.load(exported(tmp_path / "c", events_of(hour(2)), hour(2)), exclude_fields=["label"])[0].inserted == 20
    )


WRONG = {
    "sqlite": {"timestamp": "INTEGER", "id": "INTEGER"},
    "duckdb": {"timestamp": "TIMESTAMP", "id": "BIGINT"},
    "postgres": {"timestamp": "timestamp without time zone", "id": "bigint"},
    "mariadb": {"timestamp": "DATETIME", "id": "BIGINT"},
}


def test_columns_of_another_type_are_told(target: Target, tmp_path: Path) -> None:
    wrong = WRONG[target.kind]
    target.query(f'CREATE TABLE events ("id" {wrong["id"]}, "timestamp" {wrong["timestamp"]}, "name" VARCHAR(200))')
    window = exported(tmp_path, events_of(HOUR), include_fields=["id", "timestamp", "name"])
    with pytest.raises(PolarTableError) as caught:
        target.load(window)
    assert re.search(r"its column 'id' is \S+, which does not hold every text: it has to be", str(caught.value))
    assert re.search(r"its column 'timestamp' is .+, which does not hold every timestamp", str(caught.value))
    assert "'name'" not in str(caught.value)


def test_columns_of_the_users_own_stay_as_they_are(target: Target, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    window = exported(tmp_path, events_of(HOUR))
    target.load(window)
    target.query('ALTER TABLE events ADD COLUMN "note" VARCHAR(20)')
    target.query("""UPDATE events SET "note" = 'mine'""")
    target.load(exported(tmp_path / "2", [*events_of(HOUR), event(HOUR.start, 99)]))
    assert values(target, "note").count("mine") == 20
    assert "columns that this load does not fill: note" in caplog.text


def test_new_fields_of_the_api_are_told(target: Target, tmp_path: Path, caplog: Any) -> None:
    target.load(exported(tmp_path, strange_events()))
    assert "have fields that this version does not know: a_new_field; they are in the column extra" in caplog.text
    target.load(exported(tmp_path, strange_events()), table="less", exclude_fields=["extra"])
    assert "a_new_field; they are left out, as exclude_fields says" in caplog.text


def test_names_are_quoted_whatever_is_in_them(target: Target, tmp_path: Path) -> None:
    key, table = 'di%s"t`an;ce', 'we`ird\'; DROP TABLE ""x""; --%s'
    due = events_of(HOUR, metadata={key: 1.5})
    (loaded,) = target.load(exported(tmp_path, due), table=f'"{table}"', metadata_columns={key: "double"})
    assert loaded.inserted == 20
    with closing(target.connect()) as connection:
        database = database_of(connection, "the test's")
        name = database.quote(TableName.parse(f'"{table}"'))
        assert database.run(f"SELECT DISTINCT {database.quote(key)} FROM {name}") == [(1.5,)]
    assert target.load(exported(tmp_path, due), table=f'"{table}"', metadata_columns={key: "double"})[0].skipped


def test_a_schema_before_the_table(target: Target, tmp_path: Path) -> None:
    if target.kind == "sqlite":
        table, loads = "main.events", "main.polar_loads"
    else:
        schema = "usage_of_" + (target.airflow["schema"] if target.kind == "mariadb" else "polar")
        target.query(f"CREATE SCHEMA {schema}")
        table, loads = f"{schema}.events", f"{schema}.polar_loads"
    target.load(exported(tmp_path, events_of(HOUR)), table=table)
    assert len(target.ids(table)) == 20
    assert target.query(f'SELECT "destination" FROM {loads}') == [(table,)]
    with pytest.raises(PolarError, match="nowhere"):
        target.load(exported(tmp_path, events_of(HOUR)), table="nowhere.events")


# Two at once


def test_two_loads_at_once_wait_or_fail_cleanly(target: Target, tmp_path: Path) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(4)]
    start, outcomes = threading.Barrier(3), []

    def load() -> None:
        start.wait(timeout=60)
        for window in windows:
            try:
                outcomes.append(target.load(window)[0])
            except PolarError as error:
                outcomes.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    failed = [one for one in outcomes if isinstance(one, PolarError)]
    assert len(outcomes) == 12
    # DuckDB has no lock that one could wait for.
    assert not failed or target.kind == "duckdb"
    assert all(one.retryable for one in failed), failed
    assert (
        sum(one.inserted for one in target.load(*windows))
        + sum(one.inserted for one in outcomes if isinstance(one, Loaded))
        == 80
    )
    assert len(target.ids()) == len(set(target.ids())) == 80
    assert target.query("SELECT count(*) FROM polar_loads") == [(4,)]


@pytest.mark.parametrize("target", ["sqlite", *SERVERS], indirect=True)
def test_it_says_that_it_waits(target: Target, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    first, second = (exported(tmp_path, events_of(hour(n)), hour(n)) for n in (0, 1))
    target.load(first)
    with closing(target.connect()) as connection:
        other = database_of(connection, "another")
        other.hold(str(other.describe(TableName(("events",))).name), wait=True)  # type: ignore[union-attr]
        thread = threading.Thread(target=target.load, args=(second,))
        thread.start()
        end = time.monotonic() + 60
        while "waiting for another load of" not in caplog.text:
            assert thread.is_alive()
            assert time.monotonic() < end
            time.sleep(0.01)
        assert len(target.ids()) == 20
        other.rollback()
        thread.join(timeout=60)
    assert len(target.ids()) == 40


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
def test_a_database_with_a_stricter_isolation(target: Target, tmp_path: Path) -> None:
    target.query(f"ALTER DATABASE {target.airflow['schema']} SET default_transaction_isolation = 'serializable'")
    first, second = (exported(tmp_path / name, events_of(HOUR)[n:]) for n, name in enumerate("ab"))
    assert target.load(first, first, second, mode="replace_window")[1:] == [
        Loaded(20, skipped=True),
        Loaded(19, removed=1),
    ]


# What goes wrong


def assert_untouched(target: Target, before: list[str]) -> None:
    assert target.ids() == before
    assert target.query("SELECT count(*) FROM polar_loads") == [(1,)]


@pytest.fixture
def loaded(target: Target, tmp_path: Path) -> list[str]:
    """A table that holds an hour; its ids."""
    target.load(exported(tmp_path, events_of(hour(0)), hour(0)))
    return target.ids()


def test_a_file_that_is_not_the_manifests_leaves_the_table(target: Target, tmp_path: Path, loaded: list[str]) -> None:
    window = exported(tmp_path, events_of(hour(1)), hour(1), max_file_rows=4)
    last = tmp_path / window.manifest.files[-1].path
    last.write_bytes(last.read_bytes()[:-5])
    with pytest.raises(PolarSourceError, match="its SHA-256 is not the manifest's"):
        target.load(window)
    assert_untouched(target, loaded)


def test_a_value_of_another_kind_leaves_the_table(target: Target, tmp_path: Path, loaded: list[str]) -> None:
    target.query(
        'ALTER TABLE events ADD COLUMN "tokens" ' + ("double precision" if target.kind == "postgres" else "DOUBLE")
    )
    events = [*events_of(hour(1))[:-1], event(hour(1).end - timedelta(microseconds=1), 5, metadata={"tokens": SECRET})]
    with pytest.raises(PolarSourceError) as caught:
        target.load(exported(tmp_path, events, hour(1)), metadata_columns={"tokens": "double"})
    assert events[-1]["id"] in str(caught.value)
    assert "secret" not in str(caught.value)
    assert_untouched(target, loaded)


@pytest.mark.parametrize("target", SERVERS, indirect=True)
def test_what_a_column_is_too_short_for_is_refused_without_its_value(target: Target, tmp_path: Path) -> None:
    target.load(exported(tmp_path, events_of(hour(0)), hour(0)))
    target.query(
        "ALTER TABLE events "
        + ("ALTER label TYPE varchar(10)" if target.kind == "postgres" else "MODIFY label varchar(10)")
    )
    with pytest.raises(PolarTableError) as caught:
        target.load(exported(tmp_path, events_of(hour(1), label=SECRET), hour(1)))
    assert "too long" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert len(target.ids()) == 20


@pytest.mark.parametrize("target", SERVERS, indirect=True)
def test_a_connection_lost_in_the_middle_leaves_the_table(
    target: Target, tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    window = exported(tmp_path, events_of(hour(1)), hour(1))
    with closing(target.connect()) as connection:
        database = database_of(connection, "the test's")
        load, original = TableLoad(database, TableName(("events",))), type(database).run
        mine = database.run("SELECT " + ("pg_backend_pid()" if target.kind == "postgres" else "CONNECTION_ID()"))[0][0]

        def run(self: Any, sql: str, parameters: Any = (), **options: Any) -> Any:
            if sql.startswith("INSERT INTO") and "polar_loads" in sql:
                target.query(f"SELECT pg_terminate_backend({mine})" if target.kind == "postgres" else f"KILL {mine}")
            return original(self, sql, parameters, **options)

        monkeypatch.setattr(type(database), "run", run)
        with pytest.raises(PolarDatabaseError, match=r"cannot load .* into the table events in the test's: ") as caught:
            load.load(window)
    assert caught.value.retryable
    assert_untouched(target, loaded)


@pytest.mark.parametrize("target", SERVERS, indirect=True)
def test_a_missing_right_is_told(target: Target, tmp_path: Path, loaded: list[str]) -> None:
    user = f"reader_{target.airflow['schema']}"
    if target.kind == "postgres":
        target.query(f"CREATE ROLE {user} LOGIN")
        target.query(f"GRANT SELECT ON events, polar_loads TO {user}")
    else:
        target.query(f"CREATE USER {user}@'127.0.0.1'")
        target.query(f"GRANT SELECT, CREATE TEMPORARY TABLES ON {target.airflow['schema']}.* TO {user}@'127.0.0.1'")
    window = exported(tmp_path, events_of(hour(1)), hour(1))
    with closing(target.connect(user)) as connection:
        for table, told in (("events", "denied"), ("another", "denied")):
            with pytest.raises(PolarError, match=told) as caught:
                TableLoad(database_of(connection, "the test's"), TableName((table,))).load(window)
            assert table in str(caught.value)
    assert_untouched(target, loaded)


# Through Airflow's connections

HOOKS = {
    "sqlite": "airflow.providers.sqlite.hooks.sqlite",
    "duckdb": "airflow.providers.duckdb.hooks.duckdb",
    "postgres": "airflow.providers.postgres.hooks.postgres",
    "mariadb": "airflow.providers.mysql.hooks.mysql",
}


@pytest.fixture
def warehouse(target: Target, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database as an Airflow connection."""
    reason = f"the Airflow provider for {target.kind} is not installed: its connection is not tried here"
    pytest.importorskip(HOOKS[target.kind], reason=reason, exc_type=ImportError)
    return target.use_in_airflow(monkeypatch)


def test_the_operator_over_each_connection(target: Target, warehouse: str, tmp_path: Path) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(2)]
    operator = PolarEventsToSqlOperator(
        task_id="load",
        manifest=[window.url for window in windows],
        sql_conn_id=warehouse,
        table="events",
        metadata_columns={"tokens": "double"},
    )
    result = {"table": "events", "windows": 2, "rows": 40, "inserted": 40, "removed": 0, "skipped": 0}
    assert operator.execute({}) == result
    assert operator.execute({}) == result | {"inserted": 0, "skipped": 2}
    assert len(set(target.ids())) == 40


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
@pytest.mark.parametrize("cursor", ["dictcursor", "namedtuplecursor"])
def test_a_connection_with_cursors_of_its_own(
    target: Target, warehouse: str, tmp_path: Path, cursor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(target.airflow, "extra", {"cursor": cursor})
    target.use_in_airflow(monkeypatch)
    operator = PolarEventsToSqlOperator(
        task_id="load", manifest=exported(tmp_path, events_of(HOUR)).url, sql_conn_id=warehouse, table="events"
    )
    assert operator.execute({})["inserted"] == 20
    assert operator.execute({})["skipped"] == 1


@pytest.mark.parametrize("target", SERVERS, indirect=True)
def test_a_server_that_is_not_there(target: Target, warehouse: str, tmp_path: Path, monkeypatch: Any) -> None:
    target.airflow.update(port=1, password="hush-hush")
    target.use_in_airflow(monkeypatch)
    operator = PolarEventsToSqlOperator(
        task_id="load", manifest=exported(tmp_path, events_of(HOUR)).url, sql_conn_id=warehouse, table="events"
    )
    with pytest.raises(PolarDatabaseError, match=r"cannot connect in \w+ connection 'warehouse' \(127") as caught:
        operator.execute({})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
def test_the_older_driver_of_postgres(target: Target, tmp_path: Path) -> None:
    psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    known = {"host": target.airflow["host"], "port": target.airflow["port"], "user": "tests"}
    older = Target("postgres", lambda: psycopg2.connect(dbname=target.airflow["schema"], **known))
    due = strange_events()
    assert older.load(exported(tmp_path, due)) == [Loaded(8, inserted=8)]
    assert values(target, "label") == [one["label"] for one in due]
    assert older.load(exported(tmp_path / "less", due[1:]), mode="replace_window") == [Loaded(7, removed=1)]
