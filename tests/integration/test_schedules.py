"""What each kind of schedule exports, from runs that Airflow's scheduler made, over both changes of the clocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import DAG, Asset
from pendulum import timezone

try:
    from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, DeltaDataIntervalTimetable
except ImportError:  # Airflow before 3.2
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable

from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from tests.airflow_env import Run, register
from tests.integration.scheduling import Scheduling

BERLIN = ZoneInfo("Europe/Berlin")
CHANGES = {"spring": datetime(2026, 3, 29, tzinfo=BERLIN), "autumn": datetime(2026, 10, 25, tzinfo=BERLIN)}


@pytest.fixture(params=CHANGES.values(), ids=CHANGES)
def day(request: pytest.FixtureRequest) -> datetime:
    """A midnight in Berlin after which the clocks change."""
    return request.param


def midnight(day: datetime, days: int) -> datetime:
    """Midnight some days later, by the clock on the wall, in UTC."""
    return (day + timedelta(days=days)).astimezone(UTC)


@pytest.fixture
def events(polar_server: Any, polar_connection: Any, day: datetime) -> dict[str, datetime]:
    """Events every 20 minutes of five days, and on both sides of every hour, to the microsecond."""
    start, end = midnight(day, -2), midnight(day, 3)
    moments = [start + timedelta(minutes=20 * n) for n in range(int((end - start) / timedelta(minutes=20)))]
    moments += [m - timedelta(microseconds=1) for m in moments if m.minute == 0]
    ids = polar_server.add_events(
        {"name": "call", "timestamp": moment, "external_customer_id": "a"} for moment in moments
    )
    return dict(zip(ids, moments, strict=True))


def exports(folder: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    for path in sorted(folder.glob("*.manifest.json")):
        manifest = json.loads(path.read_text())
        lines = [line for file in manifest["files"] for line in (folder / file["path"]).read_text().splitlines()]
        yield manifest, [json.loads(line)["id"] for line in lines]


def make_dag(name: str, schedule: Any, folder: Path, first: datetime, last: datetime, **options: Any) -> DAG:
    with DAG(
        f"{name}_{first:%m%d}",
        schedule=schedule,
        start_date=first.astimezone(timezone("Europe/Berlin")),
        end_date=last,
        catchup=True,
    ) as dag:
        PolarExportEventsOperator(
            task_id="export", destination=f"file://{folder}", requests_per_minute=60_000, max_concurrency=1, **options
        )
    return dag


def check(folder: Path, events: dict[str, datetime], start: datetime, end: datetime, windows: int) -> None:
    """The exports meet, and together are every event of [start, end), each once."""
    found = list(exports(folder))
    bounds = [(m["window"]["start"], m["window"]["end"]) for m, _ in found]
    text = [moment.replace(tzinfo=None).isoformat() + "Z" for moment in (start, end)]
    assert [bounds[0][0], bounds[-1][1]] == text
    assert [b[0] for b in bounds[1:]] == [b[1] for b in bounds[:-1]]
    assert len(found) == windows
    ids = [event for _, some in found for event in some]
    assert len(ids) == len(set(ids))
    assert set(ids) == {event for event, moment in events.items() if start <= moment < end}


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What each schedule exported, printed when the module is done."""
    rows: list[str] = []
    yield rows
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n\n{'schedule':48}{'windows':>8}{'events':>8}  from, to", *rows, sep="\n")


@pytest.fixture(autouse=True)
def tabulated(request: pytest.FixtureRequest, table: list[str], tmp_path: Path) -> Iterator[None]:
    """A row of the table for every directory that a test has exported to."""
    yield
    name = request.node.name.removeprefix("test_").replace("_", " ")
    for folder in sorted({path.parent for path in tmp_path.rglob("*.manifest.json")}):
        manifests = [manifest for manifest, _ in exports(folder)]
        first, last = manifests[0]["window"]["start"], manifests[-1]["window"]["end"]
        rows = sum(manifest["rows"] for manifest in manifests)
        title = name if folder == tmp_path else f"{name}, {folder.name}"
        table.append(f"{title:48}{len(manifests):8}{rows:8}  {first}, {last}")


CRON = "0 0 * * *"


def hours_of(day: datetime) -> int:
    return int((midnight(day, 1) - midnight(day, 0)) / timedelta(hours=1))


class TestUnionsOverTheChange:
    """``first`` and ``last`` are the moments that the schedule's runs stand for."""

    def test_hourly_preset_with_a_length(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        first, last = midnight(day, 0), midnight(day, 1)
        dag = make_dag("hourly", "@hourly", tmp_path, first + timedelta(minutes=1), last, window=timedelta(hours=1))
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, first, last, hours_of(day))
        assert hours_of(day) in (23, 25)

    def test_daily_preset_with_a_calendar_length(
        self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime
    ) -> None:
        first, last = midnight(day, -1), midnight(day, 2)
        dag = make_dag("daily", "@daily", tmp_path, first + timedelta(minutes=1), last, window="1 day")
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, first, last, 3)

    def test_cron_in_the_hour_that_changes(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        start = (day - timedelta(days=1)).replace(hour=2, minute=30).astimezone(UTC)
        last = (day + timedelta(days=1)).replace(hour=2, minute=30).astimezone(UTC)
        dag = make_dag("half_past_two", "30 2 * * *", tmp_path, start + timedelta(minutes=1), last, window="1 day")
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, start, last, 2)

    def test_cron_data_interval(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        first, last = midnight(day, -1), midnight(day, 2)
        timetable = CronDataIntervalTimetable(CRON, timezone="Europe/Berlin")
        dag = make_dag("interval", timetable, tmp_path, first, last - timedelta(minutes=1))
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, first, last, 3)

    def test_delta_data_interval(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        first = midnight(day, 0)
        last = first + timedelta(hours=24)
        timetable = DeltaDataIntervalTimetable(timedelta(hours=6))
        dag = make_dag("delta", timetable, tmp_path, first, last - timedelta(minutes=1))
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, first, last, 4)

    def test_cron_partition(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        sdk = pytest.importorskip("airflow.sdk")
        if not hasattr(sdk, "CronPartitionTimetable"):
            pytest.skip("partitions came with Airflow 3.2")
        first, last = midnight(day, -1), midnight(day, 2)
        timetable = sdk.CronPartitionTimetable(CRON, timezone="Europe/Berlin", run_offset=-1)
        dag = make_dag("partition", timetable, tmp_path, first + timedelta(minutes=1), last)
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, first, last, 3)

    def test_cron_partition_in_the_hour_that_changes(
        self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime
    ) -> None:
        """In spring Airflow gives the first of the two runs the partition of the second."""
        sdk = pytest.importorskip("airflow.sdk")
        if not hasattr(sdk, "CronPartitionTimetable"):
            pytest.skip("partitions came with Airflow 3.2")
        start, last = ((day + timedelta(days=n)).replace(hour=2).astimezone(UTC) for n in (-1, 1))
        timetable = sdk.CronPartitionTimetable("0 2 * * *", timezone="Europe/Berlin", run_offset=-1)
        dag = make_dag("partition_at_two", timetable, tmp_path, start + timedelta(minutes=1), last)
        assert {run.state for run in Scheduling(dag).run_all()} == {"success"}
        check(tmp_path, events, start, last, 2)

    def test_asset(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        """A DAG that an export's asset starts works on the same windows."""
        first, last = midnight(day, -1), midnight(day, 2)
        asset = Asset(f"polar://acme/events/{day:%m}")
        upstream = make_dag("upstream", "@daily", tmp_path / "up", first + timedelta(minutes=1), last, window="1 day")
        upstream.task_dict["export"].outlets.append(asset)
        downstream = make_dag("downstream", [asset], tmp_path / "down", first, datetime(2099, 1, 1, tzinfo=UTC))
        runs = Scheduling(upstream, downstream).run_all()
        assert [run.state for run in runs] == ["success"] * 6
        check(tmp_path / "up", events, first, last, 3)
        check(tmp_path / "down", events, first, last, 3)

    def test_asset_or_time(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        """Its timed runs have the schedule's intervals, its other runs the windows of the assets' events."""
        first, last = midnight(day, -1), midnight(day, 2)
        asset = Asset(f"polar://acme/events/or{day:%m}")
        upstream = make_dag("upstream2", "@daily", tmp_path / "up", last - timedelta(hours=1), last, window="1 hour")
        upstream.task_dict["export"].outlets.append(asset)
        timetable = AssetOrTimeSchedule(
            timetable=CronDataIntervalTimetable(CRON, timezone="Europe/Berlin"), assets=[asset]
        )
        either = make_dag("either", timetable, tmp_path / "down", first, last - timedelta(minutes=1))
        runs = Scheduling(upstream, either).run_all()
        assert [run.state for run in runs] == ["success"] * 5
        hourly = tmp_path / "down" / next(p.name for p in (tmp_path / "up").glob("*.manifest.json"))
        assert json.loads(hourly.read_text())["rows"] == 4
        hourly.unlink()
        check(tmp_path / "down", events, first, last, 3)

    def test_partitioned_asset(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        """The partition keys that an export emits make downstream runs that work on the right days."""
        sdk = pytest.importorskip("airflow.sdk")
        if not hasattr(sdk, "PartitionedAtRuntime"):
            pytest.skip("partition keys of asset events came with Airflow 3.3")
        first, last = midnight(day, -1), midnight(day, 2)
        asset = Asset(f"polar://acme/events/partitioned{day:%m}")
        options = {"window": "1 day", "partition_key": "%Y-%m-%dT%H:%M:%S"}
        upstream = make_dag("upstream3", "@daily", tmp_path / "up", first + timedelta(minutes=1), last, **options)
        upstream.task_dict["export"].outlets.append(asset)
        timetable = sdk.PartitionedAssetTimetable(
            assets=asset, default_partition_mapper=sdk.StartOfDayMapper(timezone="Europe/Berlin")
        )
        downstream = make_dag("downstream3", timetable, tmp_path / "down", first, datetime(2099, 1, 1, tzinfo=UTC))
        runs = Scheduling(upstream, downstream).run_all()
        assert [run.state for run in runs] == ["success"] * 6
        keys = sorted(run.dag_run.partition_key for run in runs if run.dag_run.partition_key)
        assert keys == [f"{day + timedelta(days=n):%Y-%m-%d}" for n in (-1, 0, 1)]
        check(tmp_path / "down", events, first, last, 3)

    def test_backfill(self, airflow_db: Any, tmp_path: Path, events: Any, day: datetime) -> None:
        from airflow.models.backfill import ReprocessBehavior, _create_backfill

        first, last = midnight(day, -1), midnight(day, 2)
        dag = make_dag("backfilled", "@daily", tmp_path, first, last, window="1 day")
        scheduling = Scheduling(dag)
        who = (
            {"triggering_user_name": "test"} if "triggering_user_name" in signature(_create_backfill).parameters else {}
        )
        _create_backfill(
            dag_id=dag.dag_id,
            from_date=first + timedelta(minutes=1),
            to_date=last,
            max_active_runs=3,
            reverse=True,
            dag_run_conf={},
            reprocess_behavior=ReprocessBehavior.NONE,
            **who,
        )
        assert {run.state for run in scheduling.run_queued()} == {"success"}
        check(tmp_path, events, first, last, 3)


def test_hourly_preset_without_a_length_is_refused_when_the_file_is_read(airflow_db: Any, tmp_path: Path) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    dag = make_dag("no_window", "@hourly", tmp_path, first, first + timedelta(minutes=1))
    with pytest.raises(PolarWindowError, match="gives its runs no window"):
        register(dag)


def test_a_manual_run_of_an_interval_schedule(
    tmp_path: Path, polar_server: Any, polar_connection: Any, run_dag: Any
) -> None:
    """As ``airflow dags test`` runs it: the last interval that was over at its logical date."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    timetable = CronDataIntervalTimetable("0 * * * *", timezone="UTC")
    dag = make_dag("manual", timetable, tmp_path, first, datetime(2099, 1, 1, tzinfo=UTC))
    run = run_dag(dag, logical_date=datetime(2026, 1, 5, 10, 30, tzinfo=UTC))
    assert run.state == "success"
    result = run.xcom("export")
    assert (result["start"], result["end"]) == ("2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z")


def test_a_manual_run_with_a_length(tmp_path: Path, polar_server: Any, polar_connection: Any, run_dag: Any) -> None:
    dag = make_dag(
        "manual_length",
        None,
        tmp_path,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2099, 1, 1, tzinfo=UTC),
        window="1 hour",
    )
    result = run_dag(dag, logical_date=datetime(2026, 1, 5, 10, 30, tzinfo=UTC)).xcom("export")
    assert (result["start"], result["end"]) == ("2026-01-05T09:30:00Z", "2026-01-05T10:30:00Z")


def test_runs_without_any_window_go_on_from_the_watermark(
    tmp_path: Path, polar_server: Any, polar_connection: Any, run_dag: Any
) -> None:
    """Manual runs without a logical date, each from where the one before ended, up to their own time less settle."""
    pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="state stores came with Airflow 3.3")
    with DAG("watermark", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        PolarExportEventsOperator(
            task_id="export",
            destination=f"file://{tmp_path}",
            window="1 day",
            settle=timedelta(minutes=5),
            outlets=[Asset("polar://acme/events/watermark")],
        )
    register(dag)
    moments = [datetime(2026, 1, 5, 12, 5, tzinfo=UTC), datetime(2026, 1, 5, 17, 5, tzinfo=UTC)]
    windows = []
    for moment in moments:  # dag.test() clears the runs before
        result = Run(dag.test(logical_date=None, run_after=moment)).xcom("export")
        windows.append((result["start"], result["end"]))
    assert windows == [
        ("2026-01-04T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("2026-01-05T12:00:00Z", "2026-01-05T17:00:00Z"),
    ]
