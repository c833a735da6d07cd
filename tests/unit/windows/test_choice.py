"""Which window a run means, without Airflow's database: every source, their order, and both changes of the clocks."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.timetables.events import EventsTimetable
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.simple import NullTimetable, OnceTimetable
from airflow.timetables.trigger import CronTriggerTimetable, DeltaTriggerTimetable, MultipleCronTriggerTimetable
from dateutil.relativedelta import relativedelta
from hypothesis import given, settings
from hypothesis import strategies as st
from pendulum import instance

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows import CalendarWindow, check_schedule
from airflow_provider_polar.windows.choice import choose_window
from airflow_provider_polar.windows.facts import RunFacts, Watermark
from airflow_provider_polar.windows.filling import filling_window
from airflow_provider_polar.windows.lengths import parse_length, zone
from airflow_provider_polar.windows.partitions import parse_key
from airflow_provider_polar.windows.schedules import Schedule
from airflow_provider_polar.windows.ticks import Ticks

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def schedule(cron: str | None = None, where: str = "UTC", **rest: Any) -> Schedule:
    kind = rest.pop("kind", "CronTriggerTimetable" if cron else "NullTimetable")
    ticks = Ticks(zone(rest.pop("ticks_zone", where)), (cron,) if cron else (), rest.pop("delta", None))
    return Schedule(kind, cron or "none", zone(where), ticks, moments="Trigger" in kind, **rest)


def facts(cron: str | None = "0 * * * *", where: str = "UTC", **rest: Any) -> RunFacts:
    made = rest.pop("schedule", None) or schedule(cron, where)
    return RunFacts(**{"dag_id": "dag", "run_id": "run", "run_type": "scheduled", "schedule": made} | rest)


def moment(text: str) -> dict[str, Any]:
    """What a run of a plain cron schedule has: an empty data interval."""
    return {"moment": at(text)}


FULL = {
    "interval": EventWindow(at("2026-01-01"), at("2026-01-02")),
    "moment": at("2026-03-01"),
    "partition_date": at("2026-02-01"),
    "run_after": at("2026-05-01"),
    "asset_events": [("a", {"window": {"start": "2026-04-01T00:00:00Z", "end": "2026-04-02T00:00:00Z"}})],
    "run_type": "manual",
    "watermarks": lambda: [Watermark(EventWindow(at("2026-04-29"), at("2026-04-30")), "earlier")],
}


def test_the_first_source_that_says_a_window_wins() -> None:
    """Each source is taken away in turn; the next one must answer."""
    given = dict(FULL)
    asked: dict[str, Any] = {"start": at("2026-01-01"), "end": at("2026-01-05"), "now": NOW}
    answers = [choose_window(facts(**given), **asked)]
    asked |= {"start": None, "end": None, "window": "3 hours"}
    answers.append(choose_window(facts(**given), **asked))
    del given["interval"]
    answers.append(choose_window(facts(**given), **asked))
    del given["partition_date"]
    answers.append(choose_window(facts(**given), **asked))
    del given["moment"]
    answers.append(choose_window(facts(**given), **asked))
    del given["asset_events"]
    answers.append(choose_window(facts(**given), **asked))
    assert [(a.origin, str(a.window)) for a in answers] == [
        ("parameters", "[2026-01-01T00:00:00Z, 2026-01-05T00:00:00Z)"),
        ("data interval", "[2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z)"),
        ("partition", "[2026-02-01T00:00:00Z, 2026-02-01T03:00:00Z)"),
        ("window=", "[2026-02-28T21:00:00Z, 2026-03-01T00:00:00Z)"),
        ("asset event", "[2026-04-01T00:00:00Z, 2026-04-02T00:00:00Z)"),
        ("watermark", "[2026-04-30T00:00:00Z, 2026-05-01T00:00:00Z)"),
    ]
    del given["watermarks"]
    with pytest.raises(PolarWindowError, match=r"0 \* \* \* \*"):
        choose_window(facts(**given), **asked)


class TestParameters:
    def test_one_bound_and_a_length(self) -> None:
        first = choose_window(facts(), start="2026-01-01T00:00:00Z", window="1 month")
        last = choose_window(facts(), end="2026-03-01T00:00:00Z", window=HOUR)
        assert first.window == EventWindow(at("2026-01-01"), at("2026-02-01"))
        assert last.window == EventWindow(at("2026-02-28T23:00"), at("2026-03-01"))

    @pytest.mark.parametrize("bounds", [{"start": "2026-01-01T00:00:00Z"}, {"end": "2026-01-01T00:00:00Z"}])
    def test_one_bound_alone_is_refused_although_the_run_has_an_interval(self, bounds: dict[str, str]) -> None:
        with pytest.raises(PolarWindowError, match="given without"):
            choose_window(facts(**FULL), **bounds)  # type: ignore[arg-type]

    def test_three_that_disagree_are_refused(self) -> None:
        with pytest.raises(PolarWindowError, match="leave one of the three out"):
            choose_window(facts(), start="2026-01-01T00:00:00Z", end="2026-01-02T00:00:00Z", window=HOUR)

    @pytest.mark.parametrize("rendered", ["", "None", "2026-01-01", "2026-01-01T00:00:00"])
    def test_a_template_that_rendered_to_nothing_or_to_a_naive_moment_is_refused(self, rendered: str) -> None:
        with pytest.raises(PolarWindowError):
            choose_window(facts(**FULL), start=rendered, end="2026-01-02T00:00:00Z")

    def test_an_empty_data_interval_given_as_start_and_end_is_refused(self) -> None:
        with pytest.raises(PolarWindowError, match="empty"):
            choose_window(facts(), start=at("2026-01-01"), end=at("2026-01-01"))


class TestLengths:
    @pytest.mark.parametrize(
        ("text", "length"),
        [
            ("1 hour", HOUR),
            ("90 minutes", timedelta(minutes=90)),
            ("1 day", CalendarWindow(days=1)),
            ("day", CalendarWindow(days=1)),
            ("2 Weeks", CalendarWindow(weeks=2)),
            ("1 quarter", CalendarWindow(months=3)),
            ("1 month Europe/Berlin", CalendarWindow(months=1, timezone="Europe/Berlin")),
            ("1 day in Asia/Tokyo", CalendarWindow(days=1, timezone="Asia/Tokyo")),
            (str(CalendarWindow(days=2, timezone="Asia/Tokyo")), CalendarWindow(days=2, timezone="Asia/Tokyo")),
        ],
    )
    def test_text(self, text: str, length: Any) -> None:
        assert parse_length(text) == length

    @pytest.mark.parametrize(
        "value",
        ["", "0 days", "1 fortnight", "-1 day", "1 day Mars/Base", "1 hour Europe/Berlin", timedelta(0), -3600, -HOUR],
    )
    def test_refused(self, value: Any) -> None:
        with pytest.raises(PolarWindowError):
            parse_length(value)

    def test_a_pendulum_month_is_a_month_and_not_thirty_days(self) -> None:
        import pendulum

        assert parse_length(pendulum.duration(months=1, days=2)) == CalendarWindow(months=1, days=2)
        assert parse_length(pendulum.duration(days=2)) == timedelta(days=2)
        with pytest.raises(PolarWindowError, match="without hours"):
            parse_length(pendulum.duration(months=1, hours=3))

    def test_a_month_after_the_31st(self) -> None:
        chosen = choose_window(facts(**moment("2026-03-31")), window="1 month")
        assert chosen.window == EventWindow(at("2026-02-28"), at("2026-03-31"))


ZONES = [
    ("Europe/Berlin", "2026-03-26", "2026-10-22"),
    ("America/New_York", "2026-03-05", "2026-10-29"),
    ("Africa/Cairo", "2026-04-21", "2026-10-27"),  # midnight itself is skipped in April
    ("Australia/Lord_Howe", "2026-04-02", "2026-10-01"),  # half an hour
    ("UTC", "2026-03-26", "2026-10-22"),
]
CRONS = ["0 0 * * *", "30 2 * * *", "0 2 * * *", "0 3 * * *", "15 1 * * *", "30 0 * * *"]


def ticks(cron: str, where: str, first: str, days: int) -> list[datetime]:
    """The moments at which Airflow's own timetable runs the DAG."""
    timetable = CronTriggerTimetable(cron, timezone=where)
    found, moment, last = [], instance(at(first)), at(first) + timedelta(days=days)
    while (moment := timetable._get_next(moment)) <= last:
        found.append(datetime.fromtimestamp(moment.timestamp(), UTC))
    return found


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize("change", [1, 2], ids=["spring", "autumn"])
@pytest.mark.parametrize("place", ZONES, ids=[place[0] for place in ZONES])
def test_daily_windows_meet_over_both_changes_of_the_clocks(
    cron: str, change: int, place: tuple[str, str, str]
) -> None:
    where, runs = place[0], ticks(cron, place[0], place[change], 8)
    windows = [choose_window(facts(cron, where, moment=tick), window="1 day").window for tick in runs]
    assert [w.end for w in windows] == runs
    assert [w.start for w in windows[1:]] == [w.end for w in windows[:-1]]
    lengths = {w.duration for w in windows}
    assert lengths == {timedelta(days=1)} if where == "UTC" else len(lengths) > 1


@pytest.mark.parametrize("change", [1, 2], ids=["spring", "autumn"])
@pytest.mark.parametrize("place", [place for place in ZONES if place[0] != "Australia/Lord_Howe"], ids=lambda p: p[0])
def test_hourly_windows_make_up_the_days(change: int, place: tuple[str, str, str]) -> None:
    where, runs = place[0], ticks("0 * * * *", place[0], place[change], 8)
    windows = [choose_window(facts("0 * * * *", where, moment=t), window="1 hour").window for t in runs]
    assert [w.start for w in windows[1:]] == [w.end for w in windows[:-1]]


class TestTicks:
    """A scheduled run's window that does not begin at the schedule's last tick says so, with the hours."""

    @pytest.mark.parametrize(
        ("tick", "harm"),
        [
            ("2026-03-29T22:00:00", "shares [2026-03-28T22:00:00Z, 2026-03-28T23:00:00Z) (1 hour)"),
            ("2026-10-25T23:00:00", "leaves out [2026-10-24T22:00:00Z, 2026-10-24T23:00:00Z) (1 hour)"),
        ],
    )
    def test_a_day_of_24_hours_where_the_clocks_change(self, tick: str, harm: str) -> None:
        run = facts("0 0 * * *", "Europe/Berlin", **moment(tick))
        (note,) = choose_window(run, window=timedelta(days=1)).notes
        assert harm in note
        assert 'Write window="1 day" on this task.' in note
        assert not choose_window(run, window="1 day").notes
        fixed = EventWindow(at(tick) - timedelta(days=1), at(tick))
        (note,) = choose_window(facts("0 0 * * *", "Europe/Berlin", interval=fixed)).notes
        assert harm in note
        assert 'Write schedule=CronDataIntervalTimetable("0 0 * * *", timezone="Europe/Berlin") on the DAG.' in note
        quiet = facts("0 0 * * *", "Europe/Berlin", **moment("2026-06-01T22:00:00"))
        assert not choose_window(quiet, window=timedelta(days=1)).notes

    def test_a_day_after_a_weekend(self) -> None:
        run = facts("0 2 * * 1-5", "Europe/Berlin", **moment("2026-03-30T00:00:00"))
        (note,) = choose_window(run, window="1 day").notes
        assert "leaves out [2026-03-27T01:00:00Z, 2026-03-29T01:00:00Z) (48 hours)" in note
        assert "start= and end=" in note
        tuesday = facts("0 2 * * 1-5", "Europe/Berlin", **moment("2026-03-31T00:00:00"))
        assert not choose_window(tuesday, window="1 day").notes

    def test_a_length_in_another_zone_than_the_schedules(self) -> None:
        run = facts("0 2 * * *", **moment("2026-03-29T02:00:00"))
        assert not choose_window(run, window="1 day").notes
        assert "(1 hour)" in choose_window(run, window="1 day Europe/Berlin").notes[0]

    def test_days_of_a_zone_given_beside_the_schedule_leave_its_ticks_alone(self) -> None:
        made = schedule("0 2 * * *", "Europe/Berlin", ticks_zone="UTC")
        assert made.ticks.last(at("2026-03-29T02:00")) == at("2026-03-28T02:00")
        assert "(1 hour)" in choose_window(facts(schedule=made, **moment("2026-03-29T02:00")), window="1 day").notes[0]

    @pytest.mark.parametrize("run_type", ["manual", "asset_triggered"])
    def test_a_run_that_the_schedule_did_not_make_stands_for_no_tick(self, run_type: str) -> None:
        run = facts("0 0 * * *", run_type=run_type, **moment("2026-06-01T10:30:00"))
        assert not choose_window(run, window="1 hour").notes

    def test_a_timedelta_schedule_meets_with_its_own_length_only(self) -> None:
        made = schedule(None, "Europe/Berlin", kind="DeltaTriggerTimetable", delta=timedelta(days=1))
        run = facts(schedule=made, **moment("2026-03-29T22:00:00"))
        assert not choose_window(run, window=timedelta(days=1)).notes
        (note,) = choose_window(run, window="1 day").notes
        assert 'Write window="24 hours" on this task.' in note


def test_a_length_beside_a_data_interval_of_another_length_is_told() -> None:
    run = facts("0 0 * * *", interval=EventWindow(at("2026-01-01"), at("2026-01-02")))
    assert "is not used" in choose_window(run, window=HOUR).notes[0]
    assert not choose_window(run, window="1 day").notes


class TestPartitions:
    @pytest.mark.parametrize(
        ("key", "window"),
        [
            ("2026-01-05", "[2026-01-04T23:00:00Z, 2026-01-05T23:00:00Z)"),
            ("2026-03-29", "[2026-03-28T23:00:00Z, 2026-03-29T22:00:00Z)"),
            ("2026-10-25", "[2026-10-24T22:00:00Z, 2026-10-25T23:00:00Z)"),
            ("eu|2026-01-05", "[2026-01-04T23:00:00Z, 2026-01-05T23:00:00Z)"),
            ("2026-01-05T10", "[2026-01-05T09:00:00Z, 2026-01-05T10:00:00Z)"),
            ("2026-02", "[2026-01-31T23:00:00Z, 2026-02-28T23:00:00Z)"),
            ("2026-Q1", "[2025-12-31T23:00:00Z, 2026-03-31T22:00:00Z)"),
            ("2026-W02", "[2026-01-04T23:00:00Z, 2026-01-11T23:00:00Z)"),
            ("2026-01-05 (W02)", "[2026-01-04T23:00:00Z, 2026-01-11T23:00:00Z)"),
        ],
    )
    def test_the_form_of_a_key_says_its_length(self, key: str, window: str) -> None:
        run = facts(None, "Europe/Berlin", partition_key=key, run_type="asset_triggered")
        chosen = choose_window(run, now=NOW)
        assert (chosen.origin, str(chosen.window)) == ("partition", window)

    @pytest.mark.parametrize("key", ["acme", "2026", "2026-13", "2026-02-30", "2026-01-05|2026-01-06", "", "12345"])
    def test_a_key_that_is_no_moment_says_nothing(self, key: str) -> None:
        assert parse_key(key, schedule()) is None

    def test_an_hour_that_comes_twice_keeps_its_offset(self) -> None:
        keys = ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]
        parsed = [parse_key(key, schedule(None, "Europe/Berlin")) for key in keys]
        assert [p and p[0] for p in parsed] == [at("2026-10-25T00:30"), at("2026-10-25T01:30")]

    @pytest.mark.parametrize("change", [1, 2], ids=["spring", "autumn"])
    @pytest.mark.parametrize("cron", [*CRONS, "0 * * * *", "0 0 * * 1", "0 0 1 * *"])
    def test_cron_partitions_meet(self, cron: str, change: int) -> None:
        where = ZONES[0][0]
        runs = ticks(cron, where, ZONES[0][change], 70)
        windows = [
            choose_window(facts(cron, where, partition_date=t, partition_key="x"), now=at("2030-01-01")).window
            for t in runs
        ]
        assert [w.start for w in windows] == runs
        assert [w.start for w in windows[1:]] == [w.end for w in windows[:-1]]

    def test_a_key_in_the_schedules_own_format(self) -> None:
        made = schedule("0 0 * * *", "Europe/Berlin", key_format="%d.%m.%Y", kind="CronPartitionTimetable")
        chosen = choose_window(facts(schedule=made, partition_key="25.10.2026"), now=NOW)
        assert chosen.window.duration == timedelta(hours=25)

    @pytest.mark.parametrize("change", [1, 2], ids=["spring", "autumn"])
    @pytest.mark.parametrize("key_format", ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"])
    @pytest.mark.parametrize("where", ["Europe/Berlin", "America/New_York", "UTC"])
    @pytest.mark.parametrize("given", [None, "Asia/Tokyo"], ids=["", "with timezone="])
    def test_airflow_3_2_writes_its_keys_in_utc(
        self, where: str, key_format: str, change: int, given: str | None
    ) -> None:
        made = schedule(
            "0 0 * * *",
            given or where,
            ticks_zone=where,
            key_format=key_format,
            kind="CronPartitionTimetable",
            utc_keys=True,
        )
        runs = ticks("0 0 * * *", where, ZONES[0][change], 5)
        keys = [instance(run).in_timezone("UTC").strftime(key_format) for run in runs]
        read = [parse_key(key, made) for key in keys]
        assert [parsed and parsed[0] for parsed in read] == runs

    def test_a_key_typed_in_the_schedules_zone_on_airflow_3_2(self) -> None:
        options = {"key_format": "%Y-%m-%dT%H:%M:%S", "utc_keys": True}
        made = schedule("0 0 * * *", "Europe/Berlin", kind="CronPartitionTimetable", **options)
        assert parse_key("2026-03-28T00:00:00", made) == (at("2026-03-27T23:00"), None)

    def test_a_partition_that_is_not_over_is_refused_with_the_schedule_that_waits(self) -> None:
        run = facts("0 0 * * *", partition_date=NOW, partition_key="2026-11-01T00:00:00", run_type="scheduled")
        with pytest.raises(PolarWindowError, match=r"not over yet[\s\S]*run_offset=-1"):
            choose_window(run, now=NOW + HOUR)
        assert choose_window(run, now=NOW + timedelta(days=1)).window.start == NOW

    def test_a_partition_before_its_run_that_is_not_over_is_not_told_to_be_before_its_run(self) -> None:
        made = schedule("0 0 * * *", run_offset=-1, kind="CronPartitionTimetable")
        run = facts(schedule=made, partition_date=NOW, partition_key="x", run_type="scheduled")
        with pytest.raises(PolarWindowError, match="Run it again after 2026-11-08T00:00:00Z") as refused:
            choose_window(run, window="1 week", now=NOW + HOUR)
        assert "run_offset" not in str(refused.value)

    def test_a_partition_that_airflow_names_twice_where_the_clocks_change(self) -> None:
        made = schedule("0 2 * * *", "Europe/Berlin", run_offset=-1, kind="CronPartitionTimetable")
        put_off, key = at("2026-03-29T01:00"), "2026-03-29T03:00:00"  # 02:00, which is skipped
        ends = []
        for tick in (put_off, at("2026-03-30T00:00")):
            run = facts(schedule=made, partition_date=put_off, partition_key=key, run_after=tick, run_type="scheduled")
            chosen = choose_window(run, now=tick)
            ends.append((chosen.window.start, chosen.window.end, len(chosen.notes)))
        assert ends == [
            (at("2026-03-28T01:00"), put_off, 1),
            (put_off, at("2026-03-30T00:00"), 0),
        ]

    def test_a_run_from_before_its_schedule_was_changed_keeps_its_partition(self) -> None:
        made = schedule("0 2 * * *", "Europe/Berlin", run_offset=-1, kind="CronPartitionTimetable")
        run = facts(schedule=made, partition_date=at("2026-03-02"), run_after=at("2026-03-03"), run_type="scheduled")
        assert choose_window(run, window="1 day", now=NOW).window == EventWindow(at("2026-03-02"), at("2026-03-03"))

    @pytest.mark.parametrize(("window", "harm"), [("3 hours", "leaves out"), ("2 days", "shares")])
    def test_a_length_that_is_not_the_partitions_is_told(self, window: str, harm: str) -> None:
        run = facts("0 0 * * *", partition_date=at("2026-01-05"), partition_key="x", run_type="scheduled")
        (note,) = choose_window(run, window=window, now=NOW).notes
        assert f"the partition ends at 2026-01-06T00:00:00Z, so window={parse_length(window)} {harm}" in note
        assert not choose_window(run, window="1 day", now=NOW).notes

    @pytest.mark.parametrize("key", ["2026-01-05T10:20:30", "2026-01-05T10:00:00", "acme"])
    def test_a_key_of_unknown_length_is_refused_without_a_guess(self, key: str) -> None:
        with pytest.raises(PolarWindowError, match=r'how long[\s\S]*window="\.\.\."'):
            choose_window(facts(None, partition_key=key, run_type="manual"), now=NOW)

    def test_a_key_that_is_no_moment_is_not_told_to_write_the_window_that_it_has(self) -> None:
        with pytest.raises(PolarWindowError, match="'acme' is no moment") as refused:
            choose_window(facts(None, partition_key="acme", run_type="manual"), window="1 day", now=NOW)
        assert "window=" not in str(refused.value)


def event(start: str, end: str) -> tuple[str, dict[str, Any]]:
    return "polar://x", {"rows": 1, "window": {"start": start, "end": end}}


class TestAssetEvents:
    def test_collapsed_events_are_read_together(self) -> None:
        events = [
            event("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"),
            event("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        ]
        chosen = choose_window(facts(None, asset_events=events, run_type="asset_triggered"))
        assert chosen.window == EventWindow(at("2026-01-01"), at("2026-01-01T02:00"))
        assert not chosen.notes

    def test_gaps_are_read_too_and_told(self) -> None:
        events = [
            event("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            event("2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z"),
        ]
        chosen = choose_window(facts(None, asset_events=events, run_type="asset_triggered"))
        assert chosen.window == EventWindow(at("2026-01-01"), at("2026-01-01T06:00"))
        assert "[2026-01-01T01:00:00Z, 2026-01-01T05:00:00Z)" in chosen.notes[0]

    def test_start_and_end_beside_other_keys_count_too(self) -> None:
        events = [
            ("a", None),
            ("b", {"x": 1}),
            ("c", {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "names": []}),
        ]
        assert choose_window(facts(None, asset_events=events)).window.duration == timedelta(days=1)

    def test_an_impossible_window_is_refused_by_name(self) -> None:
        events = [event("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z")]
        with pytest.raises(PolarWindowError, match=r"polar://x.*reversed"):
            choose_window(facts(None, asset_events=events))

    def test_two_assets_that_say_the_same(self) -> None:
        said = {"window": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}}
        chosen = choose_window(facts(None, asset_events=[("a", said), ("b", said)]))
        assert chosen.window == EventWindow(at("2026-01-01"), at("2026-01-01T01:00"))

    def test_another_assets_window_joins_only_where_it_is_asked_for(self) -> None:
        ours, theirs = (
            event("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            (
                "s3://else",
                {"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"},
            ),
        )
        run = {"asset_events": [ours, theirs], "run_type": "asset_triggered"}
        with pytest.raises(PolarWindowError, match=r"'polar://x'.*'s3://else'.*inlets="):
            choose_window(facts(None, **run))
        one = choose_window(facts(None, inlets=frozenset({"polar://x"}), **run))
        assert one.window == EventWindow(at("2026-01-01"), at("2026-01-01T01:00"))
        run["asset_events"] = [ours, theirs, ("s3://third", {"start": "yesterday", "end": "today"})]
        assert choose_window(facts(None, inlets=frozenset({"polar://x"}), **run)) == one
        both = choose_window(facts(None, inlets=frozenset({"polar://x", "s3://else"}), **run))
        assert both.window.start == at("2020-01-01")
        assert both.notes

    def test_none_with_a_window(self) -> None:
        run = facts(
            schedule=schedule(None, kind="AssetTriggeredTimetable"),
            asset_events=[("a", {})],
            run_type="asset_triggered",
        )
        with pytest.raises(PolarWindowError, match="AssetTriggeredTimetable"):
            choose_window(run)


class TestWatermark:
    MARKS = (
        Watermark(EventWindow(at("2025-12-31"), at("2026-01-01")), "earlier"),
        Watermark(EventWindow(at("2026-01-01"), at("2026-01-02")), "last"),
    )

    def run(self, *marks: Watermark, **rest: Any) -> RunFacts:
        return facts(None, **{"run_type": "manual", "run_after": at("2026-01-03"), "watermarks": lambda: marks} | rest)

    def test_goes_on_up_to_the_runs_own_time_less_settle(self) -> None:
        assert choose_window(self.run(*self.MARKS), settle=HOUR).window == EventWindow(
            at("2026-01-02"), at("2026-01-02T23:00")
        )

    @pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.run_id)
    def test_the_same_run_again_gets_the_same_window(self, mark: Watermark) -> None:
        chosen = choose_window(self.run(*self.MARKS, run_id=mark.run_id, run_after=mark.window.end))
        assert (chosen.origin, chosen.window) == ("watermark", mark.window)

    def test_an_older_run_is_refused_rather_than_empty(self) -> None:
        with pytest.raises(PolarWindowError, match="was read by the run 'last'"):
            choose_window(self.run(*self.MARKS, run_after=at("2026-01-02")))

    def test_the_first_run(self) -> None:
        with pytest.raises(PolarWindowError, match="no watermark is kept yet"):
            choose_window(self.run())
        assert choose_window(self.run(), window="1 day").window == EventWindow(at("2026-01-02"), at("2026-01-03"))
        begun = choose_window(self.run(beginning=at("2025-01-01")))
        assert begun.window == EventWindow(at("2025-01-01"), at("2026-01-03"))
        assert "first run" in begun.notes[0]

    @pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
    def test_a_run_that_stands_for_a_moment_never_takes_the_watermark(self, run_type: str) -> None:
        run = self.run(*self.MARKS, run_type=run_type, schedule=schedule("0 * * * *"), **moment("2026-01-03"))
        with pytest.raises(PolarWindowError, match="CronDataIntervalTimetable"):
            choose_window(run)


class TestRefusals:
    @pytest.mark.parametrize(
        ("made", "lines"),
        [
            (
                schedule("0 * * * *", "Europe/Berlin"),
                ['window="1 hour"', 'CronDataIntervalTimetable("0 * * * *", timezone="Europe/Berlin")'],
            ),
            (schedule("*/15 * * * *"), ['window="15 minutes"', "CronDataIntervalTimetable"]),
            (schedule("0 0 * * 1"), ['window="1 week"', "CronDataIntervalTimetable"]),
            (schedule("0 0 1 * *"), ['window="1 month"', "CronDataIntervalTimetable"]),
            (schedule("0 0 1 */3 *"), ['window="3 months"', "CronDataIntervalTimetable"]),
            (schedule("0 0 1 1 *"), ['window="1 year"', "CronDataIntervalTimetable"]),
            (schedule("0 2 * * 1-5"), ["CronDataIntervalTimetable", "{{ params.start }}"]),
            (schedule("0 */6 * * *"), ['window="6 hours"', "CronDataIntervalTimetable"]),
            (schedule("0 */6 * * *", "Europe/Berlin"), ["CronDataIntervalTimetable", "{{ params.start }}"]),
            (schedule("0 * * * *", "Australia/Lord_Howe"), ["CronDataIntervalTimetable", "{{ params.start }}"]),
            (
                schedule(kind="DeltaTriggerTimetable", delta=timedelta(hours=2)),
                ['window="2 hours"', "DeltaDataIntervalTimetable"],
            ),
            (
                schedule(None, "Europe/Berlin", kind="DeltaTriggerTimetable", delta=relativedelta(months=1)),
                ["DeltaDataIntervalTimetable(relativedelta(months=+1))", "{{ params.start }}"],
            ),
            (schedule(), ['window="1 day"', "{{ params.start }}"]),
            (schedule(kind="EventsTimetable"), ["{{ params.start }}"]),
        ],
        ids=lambda value: str(value) if isinstance(value, Schedule) else "",
    )
    def test_names_the_schedule_and_the_lines_that_fix_it(self, made: Schedule, lines: list[str]) -> None:
        with pytest.raises(PolarWindowError) as refused:
            choose_window(facts(schedule=made, **moment("2026-01-01")))
        text = str(refused.value)
        fixes = [line for line in text.splitlines() if line.startswith("    ")]
        assert str(made) in text
        assert "'dag'" in text
        assert len(fixes) == len(lines)
        assert all(part in line for part, line in zip(lines, fixes, strict=True))

    @pytest.mark.parametrize(
        ("timetable", "refused"),
        [
            (CronTriggerTimetable("@daily", timezone="UTC"), True),
            (CronTriggerTimetable("@daily", timezone="UTC", interval=HOUR), False),
            (MultipleCronTriggerTimetable("0 1 * * *", "0 5 * * *", timezone="UTC"), True),
            (MultipleCronTriggerTimetable("0 1 * * *", "0 5 * * *", timezone="UTC", interval=HOUR), False),
            (DeltaTriggerTimetable(HOUR), True),
            (CronDataIntervalTimetable("@daily", "UTC"), False),
            (EventsTimetable([instance(NOW)]), True),
            (OnceTimetable(), True),
            (NullTimetable(), False),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_schedule_of_moments_is_known_without_a_run(self, timetable: Any, refused: bool) -> None:
        dag = SimpleNamespace(dag_id="dag", timetable=timetable, timezone=UTC)
        with pytest.raises(PolarWindowError, match=r"'dag'.*no window") if refused else nullcontext():
            check_schedule(dag)


@settings(max_examples=150, deadline=None)
@given(
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo", "Asia/Kathmandu", "UTC"]),
    st.sampled_from(["1 day", "1 week", "1 hour", "2 days", "1 month"]),
)
def test_a_window_ends_at_its_moment_and_is_never_empty(end: datetime, where: str, length: str) -> None:
    chosen = choose_window(facts(None, where, moment=end), window=length).window
    assert chosen.end == end
    parsed = parse_length(length)
    if isinstance(parsed, CalendarWindow):
        shown = [m.astimezone(zone(where)).replace(tzinfo=None) for m in (chosen.start, chosen.end)]
        off = abs(parsed.before(shown[1]) - shown[0])
        assert off <= HOUR  # equal, but where the clocks skip or repeat that very time
    else:
        assert chosen.duration == parsed


def test_what_leaves_a_month_out_is_seen_without_a_look_at_every_minute_before(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[datetime] = []
    following = Ticks.next
    monkeypatch.setattr(Ticks, "next", lambda self, moment: looked_at.append(moment) or following(self, moment))
    assert filling_window(schedule("* * * 1-11 *")) is None
    assert len(looked_at) < 5000


@pytest.mark.parametrize(
    ("given", "run"),
    [
        ({"start": at("2026-01-01"), "window": "99999999 years"}, {}),
        ({"start": at("2026-01-01"), "window": timedelta.max}, {}),
        ({"end": datetime.min.replace(tzinfo=UTC), "window": "1 day"}, {}),
        ({"window": "99999 months"}, moment("2026-01-01")),
    ],
    ids=["years", "timedelta", "before the first day", "a run's"],
)
def test_a_window_that_leaves_the_calendar_is_refused(given: dict[str, Any], run: dict[str, Any]) -> None:
    with pytest.raises(PolarWindowError, match=r"is no time of the calendar|calendar does not have"):
        choose_window(facts(**run), now=NOW, **given)


def test_a_cron_expression_that_never_fires_is_told() -> None:
    never = facts("0 0 31 2 *", **moment("2026-01-01"))
    with pytest.raises(PolarWindowError, match="never fires"):
        choose_window(never, window="1 day", now=NOW)
    with pytest.raises(PolarWindowError, match="never fires"):
        choose_window(never, now=NOW)
