"""The evaluation of meters against PostgreSQL, asked in the shapes of Polar's server, and against the local Polar."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.metering.buckets import Buckets, Interval
from airflow_provider_polar.engine.metering.quantities import Difference, Meter, compare, evaluate
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.testing import LocalPolar
from tests.integration.postgres import Postgres, postgres  # noqa: F401

LAW = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
START = datetime(2026, 3, 28, 22, tzinfo=UTC)
PATHS = ["units", "units", "units", "kind", "_llm.total_tokens", "_llm.prompt", "_llm", "name"]
TEXTS = ["a", "A", "ab", "a%b", "a_b", "t", "f", "true", "1", "1.0", "10", "e", "é", '"', "\\", "api.call", "0"]
NUMBERS = [0, 1, -1, 10, 2**31 - 1, 2**53 + 1, 0.0, -0.0, 1.0, 0.1, 0.25, -1.5, 1e22, 1e-7, 123456.789]
VALUES = st.sampled_from([0, 0.0, 1, 1.0, "1", True]) | st.sampled_from([*TEXTS, *NUMBERS, True, False])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@st.composite
def event(draw: st.DrawFn) -> dict[str, Any]:
    metadata = draw(st.fixed_dictionaries({}, optional={"units": VALUES, "kind": VALUES, "name": VALUES}))
    if draw(st.booleans()):
        prompt = draw(st.sampled_from([None, "a", "true"]))
        metadata["_llm"] = {"vendor": "a", "prompt": prompt, "total_tokens": draw(st.sampled_from(NUMBERS))}
    past = timedelta(
        hours=draw(st.sampled_from([-1, 0, 0, 0, 1, 2])),
        microseconds=draw(st.sampled_from([0, 499_999, 500_000, 999_999])),
    )
    return {
        "timestamp": (START + past).isoformat(),
        "name": draw(st.sampled_from(["api.call", "a%b", "A"])),
        "source": draw(st.sampled_from(["user", "system"])),
        "metadata": metadata,
    }


SECONDS = st.integers(-1, 5).map(lambda half: int(START.timestamp()) + half // 2 * 3600 + half % 2)
OPERATORS = ["eq", "ne", "gt", "gte", "lt", "lte", "like", "not_like"]


def clauses(paths: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"property": st.sampled_from(paths), "operator": st.sampled_from(OPERATORS), "value": values}
    )


TEXT, INTEGER = st.sampled_from(TEXTS), st.sampled_from([0, 1, -1, 10, 2**31 - 1])
CLAUSES = st.one_of(
    clauses(PATHS, TEXT),
    clauses(["metadata.units", *PATHS], INTEGER),
    clauses(PATHS, st.booleans()),
    # PostgreSQL orders an object's keys by their length.
    clauses(["_llm"], st.sampled_from(['null, "vendor"', '"a", "total_tokens": 1', '"total_tokens": 0.0']) | TEXT),
    clauses(["source", "nothing", "kind.deeper"], TEXT | INTEGER | st.booleans()),
    clauses(["timestamp"], SECONDS | SECONDS | TEXT | st.just(74)),
).filter(
    # Polar's server fails to order booleans: there is nothing to compare.
    lambda it: not isinstance(it["value"], bool) or it["operator"] not in ("gt", "gte", "lt", "lte")
)
FILTERS = st.recursive(
    CLAUSES,
    lambda inner: st.builds(
        lambda conjunction, clauses: {"conjunction": conjunction, "clauses": clauses},
        st.sampled_from(["and", "or"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=4,
).map(lambda it: it if "clauses" in it else {"conjunction": "and", "clauses": [it]})
AGGREGATIONS = st.one_of(
    st.just({"func": "count"}),
    st.builds(
        lambda func, path: {"func": func, "property": path},
        st.sampled_from(["sum", "max", "min", "avg", "unique"]),
        st.sampled_from([*PATHS, "source", "timestamp"]),
    ),
)
COUNT = {"id": "1", "name": "All", "filter": {"conjunction": "and", "clauses": []}, "aggregation": {"func": "count"}}
FIELDS = {"name": "name", "source": "source", "timestamp": "cast(extract(epoch from timestamp) as bigint)"}
SIGNS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def contains(text: str, value: str, operator: str) -> str:
    escaped = value.replace("/", "//").replace("%", "/%").replace("_", "/_")
    return f"{text} {'not ' if operator == 'not_like' else ''}like {quoted(f'%{escaped}%')} escape '/'"


def json_at(path: str) -> str:
    return "metadata" + "".join(f" -> {quoted(key)}" for key in path.removeprefix("metadata.").split("."))


def text_at(path: str) -> str:
    head, _, last = json_at(path).rpartition(" -> ")
    return f"({head} ->> {last})"


def filter_sql(it: dict[str, Any]) -> str:
    if "clauses" in it:
        return "(" + f" {it['conjunction']} ".join(map(filter_sql, it["clauses"]) if it["clauses"] else ["true"]) + ")"
    path, operator, value = it["property"].removeprefix("metadata."), it["operator"], it["value"]
    text = ("t" if value else "f") if isinstance(value, bool) else str(value)
    if path in FIELDS:
        if type(value) is not (int if path == "timestamp" else str):
            return "false"
        if operator in SIGNS:
            return f"({FIELDS[path]} {SIGNS[operator]} {value if path == 'timestamp' else quoted(text)})"
        return "(" + contains(f"cast({FIELDS[path]} as varchar)", text, operator) + ")"
    if operator not in SIGNS:
        return "(" + contains(text_at(path), text, operator) + ")"
    number = f"cast({text_at(path)} as float) {SIGNS[operator]} {int(value)}" if isinstance(value, int) else "false"
    boolean = f"cast({text_at(path)} as boolean) {SIGNS[operator]} {value}" if isinstance(value, bool) else "false"
    return (
        f"(case when jsonb_typeof({json_at(path)}) = 'string' then {text_at(path)} {SIGNS[operator]} {quoted(text)}"
        f" when jsonb_typeof({json_at(path)}) = 'number' then {number}"
        f" when jsonb_typeof({json_at(path)}) = 'boolean' then {boolean} end)"
    )


def aggregation_sql(it: dict[str, Any]) -> tuple[str, str]:
    """The quantity, and the condition that the function adds to the filter."""
    if it["func"] == "count":
        return "count(*)", "true"
    path = it["property"].removeprefix("metadata.")
    if it["func"] == "unique":
        return f"count(distinct ({json_at(path)}))", "true"
    if path in FIELDS:
        number = f"cast({FIELDS[path]} as float)" if path == "timestamp" else "null::float"
        return f"{it['func']}({number})", str(path == "timestamp").lower()
    return f"{it['func']}(cast({text_at(path)} as float))", f"jsonb_typeof({json_at(path)}) = 'number'"


def ask(
    server: Postgres, events: list[dict[str, Any]], meters: list[dict[str, Any]], buckets: Buckets
) -> list[dict[datetime, float]]:
    """Polar's quantities: a series in the zone, joined with the truncated times of the events that a meter takes."""
    statements = [
        f"set timezone = {quoted(buckets.timezone)};"
        "create temporary table events (timestamp timestamptz, name text, source text, metadata jsonb);"
        f"insert into events select * from jsonb_to_recordset({quoted(json.dumps(events))})"
        " as it(timestamp timestamptz, name text, source text, metadata jsonb);"
    ]
    for number, meter in enumerate(meters):
        quantity, condition = aggregation_sql(meter["aggregation"])
        for request in buckets.requests():
            start, end, unit = request.start_timestamp, request.end_timestamp, request.interval
            statements.append(
                f"with daily as (select date_trunc('{unit}', timestamp) as day, {quantity} as quantity from events"
                f" where {filter_sql(meter['filter'])} and {condition} group by 1)"
                f" select {number}, extract(epoch from step), coalesce(quantity, 0)"
                f" from generate_series(timestamptz '{start}', timestamptz '{end}', interval '1 {unit}') step"
                f" left join daily on day = date_trunc('{unit}', step) order by step;"
            )
    given: list[list[tuple[datetime, float]]] = [[] for _ in meters]
    for line in server.run("".join(statements)).splitlines():
        number, step, quantity = line.split("|")
        given[int(number)].append((datetime.fromtimestamp(float(step), UTC), float(quantity)))
    return [buckets.by_bucket(its) for its in given]


def differences(
    server: Postgres, events: list[dict[str, Any]], meters: list[dict[str, Any]], buckets: Buckets
) -> list[Difference]:
    ours = evaluate([Meter.parse(meter) for meter in meters], events, buckets)
    polar = ask(server, events, meters, buckets)
    return [it for one, its in zip(ours, polar, strict=True) for it in compare(one, its)]


METERS = st.builds(
    lambda its_filter, aggregation: {"id": "1", "name": "A meter", "filter": its_filter, "aggregation": aggregation},
    FILTERS | st.just(COUNT["filter"]),
    AGGREGATIONS,
)


@settings(LAW, max_examples=50)
@given(st.lists(event(), min_size=15, max_size=30), st.lists(METERS, min_size=10, max_size=20))
def test_a_meter_makes_of_events_what_postgresql_makes_of_them(postgres, events, meters):  # noqa: F811
    assert differences(postgres, events, meters, Buckets.of(EventWindow(START, START + timedelta(hours=2)))) == []


# Zones in which midnight is left out or comes twice, whose clocks change by half an hour, or differ by a quarter.
ZONES = ["UTC", "Europe/Berlin", "Africa/Cairo", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"]
QUARTER = timedelta(minutes=15)


def first_of(moment: datetime, interval: str, zone: str) -> datetime:
    """The first quarter of an hour in the local hour (day, ...) of a moment."""

    def name(it: datetime) -> Any:
        local = it.astimezone(ZoneInfo(zone))
        hour = (local.date(), local.hour, local.utcoffset())
        week = local.isocalendar()[:2]
        return {"hour": hour, "day": local.date(), "week": week, "month": (local.year, local.month)}.get(
            interval, local.year
        )

    most = {"hour": 1, "day": 25, "week": 7 * 24 + 1, "month": 31 * 24 + 1, "year": 366 * 24 + 1}[interval]
    moment = moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
    quarters = (moment - QUARTER * past for past in range(4 * most, -1, -1))
    return next(it for it in quarters if name(it) == name(moment))


@settings(LAW, max_examples=50)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(["hour", "day", "week", "month", "year"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(1, 400),
    st.lists(st.floats(-0.1, 1.1), max_size=40),
)
@example("Africa/Cairo", "day", datetime(2026, 4, 20, tzinfo=UTC), 5, [0.5])
@example("Africa/Cairo", "week", datetime(2026, 4, 20, tzinfo=UTC), 2, [])
@example("Africa/Cairo", "day", datetime(2026, 10, 25, tzinfo=UTC), 8, [0.5])
@example("America/Havana", "day", datetime(2026, 3, 5, tzinfo=UTC), 6, [0.5])
@example("America/Havana", "day", datetime(2026, 10, 30, tzinfo=UTC), 5, [0.45, 0.46, 0.47])
@example("America/Havana", "month", datetime(2026, 10, 30, tzinfo=UTC), 3, [0.36, 0.37])
@example("Australia/Lord_Howe", "hour", datetime(2026, 4, 4, 10, tzinfo=UTC), 9, [0.4, 0.5, 0.6])
@example("Australia/Lord_Howe", "hour", datetime(2026, 10, 3, 10, tzinfo=UTC), 9, [0.4, 0.5, 0.6])
def test_every_moment_of_a_window_lies_in_the_bucket_that_postgresql_puts_it_in(
    postgres: Postgres,  # noqa: F811
    zone: str,
    interval: Interval,
    early: datetime,
    number: int,
    shares: list[float],
) -> None:
    hours = {"hour": 1, "day": 24, "week": 7 * 24, "month": 31 * 24, "year": 366 * 24}[interval]
    late = min(early + timedelta(hours=hours * number), datetime(2032, 1, 1, tzinfo=UTC))
    window = EventWindow(first_of(early, interval, zone), first_of(late, interval, zone))
    buckets = Buckets.of(window, interval, zone)
    moments = [window.start + QUARTER * round(window.duration / QUARTER * share) for share in [0, 1, *shares]]
    moments += [window.start - QUARTER, window.end - QUARTER]
    events = [{"timestamp": it.isoformat(), "name": "a", "source": "user", "metadata": {}} for it in moments]
    assert differences(postgres, events, [COUNT], buckets) == []
    assert sum(buckets.find(it) is not None for it in moments) == sum(it in window for it in moments)


@settings(LAW, max_examples=15)
@given(st.lists(event(), min_size=15, max_size=30), st.lists(METERS, min_size=10, max_size=20))
def test_the_local_polar_meters_events_likewise(
    polar_server: LocalPolar, events: list[dict[str, Any]], meters: list[dict[str, Any]]
) -> None:
    # It writes an object as another text than PostgreSQL does.
    meters = [meter for meter in meters if "'_llm'" not in str(meter["filter"])]
    buckets = Buckets.of(EventWindow(START, START + timedelta(hours=2)))
    [request] = buckets.requests()
    ids = polar_server.add_events({**it, "external_customer_id": "acme"} for it in events)
    with PolarClient(polar_server.token, base_url=polar_server.base_url) as client:
        ours = evaluate([Meter.parse(meter) for meter in meters], polar_server.events(), buckets)
        for meter, its in zip(meters, ours, strict=True):
            response = client.meter_quantities(
                polar_server.add_meter(meter["filter"], aggregation=meter["aggregation"]), **asdict(request)
            )
            assert compare(its, buckets.by_bucket((it.timestamp, it.quantity) for it in response.quantities)) == []
    polar_server.remove_events(ids)
