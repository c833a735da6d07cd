"""The verify operator over the local Polar and its two stores."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, Asset

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarWindowError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.verify import PolarVerifyUsageOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 11, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = {"start": "2026-11-02T00:00:00Z", "end": "2026-11-03T00:00:00Z"}


def usage(count: int = 240, **fields: Any) -> list[dict[str, Any]]:
    """Ten events an hour of four customers, each with a key of its own."""
    return [
        {
            "name": "api.call",
            "external_customer_id": f"c{i % 4}",
            "timestamp": START + timedelta(minutes=6 * i),
            "metadata": {"units": i % 7, "request": f"r-{i}"},
        }
        | fields
        for i in range(count)
    ]


@pytest.fixture
def polar(polar_server: LocalPolar, polar_connection: Any) -> LocalPolar:
    return polar_server


@pytest.fixture
def ids(polar: LocalPolar) -> list[str]:
    polar.add_meter(name="API calls")
    polar.add_meter(name="Units", aggregation={"func": "sum", "property": "units"})
    return polar.add_events(usage())


def verify(tmp_path: Path, **options: Any) -> dict[str, Any]:
    given = {"sample": 0, "report_path": f"{tmp_path}/report.jsonl", "on_difference": "warn", **DAY, **options}
    return PolarVerifyUsageOperator(task_id="verify", **given).execute({})


def report(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]


def quantity_requests(polar: LocalPolar) -> int:
    return sum(request.path.endswith("/quantities") for request in polar.requests)


def test_what_is_equal_costs_one_request_a_meter(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    path = f"{tmp_path}/report.jsonl"
    assert verify(tmp_path) == {
        "meters": 2,
        "hours": 24,
        "customers": 0,
        "events": 240,
        "differences": 0,
        "report": path,
        "equal": True,
    }
    assert report(tmp_path) == []
    assert quantity_requests(polar) == 2
    assert verify(tmp_path, start="2026-10-27T00:00:00Z")["hours"] == 7 * 24
    assert quantity_requests(polar) == 4


def test_an_event_that_is_not_metered_is_named_by_meter_customer_and_hour(
    polar: LocalPolar, ids: list[str], tmp_path: Path
) -> None:
    polar.meter_otherwise(ids[141:142], copies=0)
    with pytest.raises(
        AirflowFailException,
        match=r"2 differences .*meter API calls, customer c1, 2026-11-02T14:00:00Z: 3 listed, 2 metered",
    ):
        verify(tmp_path, on_difference="fail")
    calls, units = report(tmp_path)
    assert (calls["meter"], calls["external_customer_id"], calls["start"]) == (
        "API calls",
        "c1",
        "2026-11-02T14:00:00Z",
    )
    assert (calls["kind"], calls["events"], calls["expected"], calls["metered"]) == ("not_metered", 3, 3, 2)
    assert (units["meter"], units["expected"] - units["metered"]) == ("Units", 141 % 7)
    assert verify(tmp_path)["equal"] is False


def test_a_window_within_an_hour_is_refused_where_it_can_be_known(polar: LocalPolar, ids: list[str]) -> None:
    def make(**options: Any) -> PolarVerifyUsageOperator:
        return PolarVerifyUsageOperator(task_id="v", **{**DAY, **options})

    with pytest.raises(PolarWindowError, match=r"'v'.*no hour begins in UTC"):
        make(end="2026-11-02T10:30:00Z")
    with pytest.raises(PolarWindowError, match="no day begins in Europe/Paris"):
        make(interval="day", timezone="Europe/Paris")
    with pytest.raises(PolarConfigurationError, match="Mars"):
        make(timezone="Mars")
    with pytest.raises(PolarConfigurationError, match="sample is 2"):
        make(sample=2)
    with pytest.raises(PolarConfigurationError, match="a filter of its own"):
        make(filters={"name": "x"})
    templated = make(end="{{ x }}")
    templated.end = "2026-11-02T10:30:00Z"
    with pytest.raises(AirflowFailException, match="no hour begins"):
        templated.execute({})


def test_meters_are_chosen_by_id_or_name(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    archived = polar.add_meter(name="Old", archived=True)
    assert verify(tmp_path, meters="Units")["meters"] == 1
    assert verify(tmp_path, meters=[archived, "Units"])["meters"] == 2
    with pytest.raises(AirflowFailException, match=r"'Unit'.*did you mean Units"):
        verify(tmp_path, meters=["Unit"])
    polar.add_meter(name="Units")
    with pytest.raises(AirflowFailException, match="2 have this name"):
        verify(tmp_path, meters=["Units"])


def test_a_token_without_the_scope_is_told_which(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    polar.remove_token(polar.token)
    polar.add_token(polar.token, ["events:read"])
    with pytest.raises(AirflowFailException, match="meters:read"):
        verify(tmp_path)


def test_what_a_meter_leaves_out_is_a_finding(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    polar.add_events(usage(24, metadata={"units": True}))
    assert verify(tmp_path)["equal"]
    [finding] = report(tmp_path)
    assert finding["type"] == "finding"
    assert finding["text"] == "24 events carry a boolean `units`: the meter bills none of them"


def found(tmp_path: Path, meter: str = "API calls") -> dict[tuple[str, str, str], list[str]]:
    """Of one meter, by kind, customer and hour, the events that are named."""
    return {
        (line["kind"], line["external_customer_id"], line["start"][11:13]): line["event_ids"]
        for line in report(tmp_path)
        if line["meter"] == meter and line["certain"]
    }


FUNCTIONS = ["count", "sum", "avg", "unique"]


@pytest.fixture
def every_function(polar: LocalPolar, ids: list[str]) -> LocalPolar:
    for function in ("max", "min", "avg"):
        polar.add_meter(name=function, aggregation={"func": function, "property": "units"})
    polar.add_meter(name="unique", aggregation={"func": "unique", "property": "request"})
    return polar


def test_each_event_is_named(every_function: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    every_function.meter_otherwise([ids[141]], copies=0)
    every_function.meter_otherwise([ids[33]], copies=2)
    every_function.remove_events([ids[202]], store=False)
    every_function.meter_otherwise([ids[55]], external_customer_id="c1")
    every_function.meter_otherwise([ids[64]], external_customer_id="nobody")
    verify(tmp_path, by="customer")
    assert found(tmp_path) == {
        ("not_metered", "c1", "14"): [ids[141]],
        ("metered_twice", "c1", "03"): [ids[33]],
        ("not_listed", "c2", "20"): [],
        ("other_customer", "c3", "05"): [ids[55]],
        ("other_customer", "c1", "05"): [ids[55]],
        ("other_customer", "c0", "06"): [ids[64]],
    }
    assert found(tmp_path, "unique") == {
        ("not_metered", "c1", "14"): [ids[141]],
        ("not_listed", "c2", "20"): [],
        ("other_customer", "c3", "05"): [ids[55]],
        ("other_customer", "c1", "05"): [ids[55]],
        ("other_customer", "c0", "06"): [ids[64]],
    }


def export(tmp_path: Path, **options: Any) -> str:
    destination = f"{tmp_path}/lake"
    PolarExportEventsOperator(task_id="export", destination=destination, **DAY, **options).execute({})
    return destination


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_exports_are_compared_with_the_meters(
    every_function: LocalPolar, ids: list[str], tmp_path: Path, file_format: str
) -> None:
    if file_format == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    lake = export(tmp_path, file_format=file_format)
    every_function.clear_requests()
    assert verify(tmp_path, destination=lake, by="customer", start="2026-11-02T06:00:00Z") == {
        "meters": 6,
        "hours": 18,
        "customers": 4,
        "events": 180,
        "differences": 0,
        "report": f"{tmp_path}/report.jsonl",
        "equal": True,
    }
    pages = [request for request in every_function.requests if request.path == "/v1/events/"]
    assert len(pages) <= 4  # those of the list


def test_exports_and_list_are_compared_by_id(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    lake = export(tmp_path)
    polar.remove_events([ids[0]])
    [late] = polar.add_events([{**usage(1)[0], "external_customer_id": "c9"}])
    [other] = polar.add_events([{**usage(1)[0], "timestamp": START + 20 * HOUR}], index=False)
    polar.meter_otherwise([ids[100]], copies=0)
    # One gone and one come in an hour show in no total of the meters, or of counts.
    verify(tmp_path, destination=lake)
    assert found(tmp_path) == {
        ("only_in_files", "c0", "00"): [ids[0]],
        ("not_in_files", "c9", "00"): [late],
        ("not_metered", "c0", "10"): [ids[100]],
        ("not_listed", "c0", "20"): [],
    }
    polar.meter_otherwise([ids[100]])
    polar.remove_events([other])
    polar.restore_events([ids[0]])
    polar.remove_events([late])
    assert verify(tmp_path, destination=lake)["equal"]


def test_what_is_listed_late_is_missing_from_the_files(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    lake = export(tmp_path)
    [late] = polar.add_events([{**usage(1)[0], "external_customer_id": "c9"}], visible_after=4)
    assert not verify(tmp_path, destination=lake, settle=30)["equal"]
    assert found(tmp_path) == {("not_in_files", "c9", "00"): [late]}


@pytest.mark.parametrize("layout", [{}, {"file_format": "csv"}, {"file_format": "parquet"}], ids=str)
def test_an_event_of_other_content_in_the_files_is_named(
    polar: LocalPolar, ids: list[str], tmp_path: Path, layout: Any
) -> None:
    lake = f"{tmp_path}/lake"
    PolarExportEventsOperator(task_id="export", destination=lake, **DAY, **layout).execute({})
    assert verify(tmp_path, destination=lake)["equal"] is True
    polar.remove_events(ids[2:3])
    polar.add_events([{**usage()[2], "id": ids[2], "metadata": {"units": 500, "request": "r-2"}}])
    assert verify(tmp_path, destination=lake)["equal"] is False
    (line,) = report(tmp_path)
    assert (line["kind"], line["meter"], line["event_ids"]) == ("other_in_files", "Units", ids[2:3])
    assert line["external_customer_id"] == "c2"


@pytest.mark.parametrize("key", ["a]b", "a]", 'q"', "request"])
def test_a_key_that_no_request_can_name_misleads_nobody(polar: LocalPolar, tmp_path: Path, key: str) -> None:
    polar.add_meter(name="API calls")
    ids = polar.add_events([{**event, "metadata": {key: f"r-{at}"}} for at, event in enumerate(usage(20))])
    polar.meter_otherwise(ids[3:4], copies=0)
    verify(tmp_path)
    (line,) = report(tmp_path)
    assert (line["kind"], line["external_customer_id"]) == ("not_metered", "c3")
    assert ids[3] in line["event_ids"]
    assert line["certain"] is (key == "request")


def test_what_exports_lack_is_told(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    lake = export(tmp_path, exclude_fields=["customer"])
    assert verify(tmp_path, destination=lake, sample=0.5)["customers"] == 0
    with pytest.raises(AirflowFailException, match=r"the field customer.*by='customer' needs it"):
        verify(tmp_path, destination=lake, by="customer")
    with pytest.raises(AirflowFailException, match=r"no export in .* holds the events of \[2026-11-03.*2026-11-04"):
        verify(tmp_path, destination=lake, end="2026-11-04T00:00:00Z")
    (tmp_path / "lake").rename(tmp_path / "other")
    with pytest.raises(AirflowFailException, match="leaves out the field metadata"):
        verify(tmp_path, destination=export(tmp_path, exclude_fields=["metadata"]))


def test_what_was_sent_is_compared_with_the_list(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_meter(name="Units", aggregation={"func": "sum", "property": "units"})
    customer = polar.add_customer(external_id="c1")["id"]
    rows = [{**event, "external_id": f"row-{i}"} for i, event in enumerate(usage())]
    rows[1] |= {"customer_id": customer, "external_customer_id": None}
    rows[0] |= {"metadata": {"units": 3}}
    assert PolarHook().ingest_events([{**row, "timestamp": row["timestamp"].isoformat()} for row in rows])
    assert verify(tmp_path, events=[*rows, rows[5]])["equal"]

    # What Polar has under an external_id stays as it is, whatever is sent under it later.
    rows[0] = {**rows[0], "metadata": {"units": 4}}
    unsent = {**rows[7], "external_id": "never sent"}
    later = {**rows[7], "external_id": "later", "timestamp": START + timedelta(days=3)}
    without = {key: value for key, value in rows[7].items() if key not in ("timestamp", "external_id")}
    verify(tmp_path, events=[*rows, unsent, later, without, {"name": 1}])
    lines = report(tmp_path)
    assert [(line["type"], line.get("kind"), line.get("external_customer_id")) for line in lines] == [
        ("difference", "not_stored", "c3"),
        ("difference", "stored_otherwise", "c0"),
        *[("finding", None, None)] * 3,
    ]
    text = "customer c3, 2026-11-02T00:00:00Z: sent, and not listed; api.call: 3 events sent, 2 listed"
    assert lines[0]["text"] == text
    assert lines[1]["text"].startswith("meter Units, customer c0, 2026-11-02T00:00:00Z")
    assert [(line["events"], line["text"].split(maxsplit=3)[2]) for line in lines[2:]] == [
        (1, "outside"),
        (1, "without"),
        (1, "invalid,"),
    ]
    verify(tmp_path, events=rows[1:])
    assert [line["text"] for line in report(tmp_path)] == [
        "1 event of the same names, customers and buckets listed besides those sent"
    ]


def test_what_is_on_its_way_is_waited_for(polar: LocalPolar, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    polar.add_meter()
    rows = usage(3)
    polar.add_events(rows, visible_after=1.5)
    assert verify(tmp_path, events=rows, settle=60)["equal"]
    polar.add_events(rows, index=False)
    assert verify(tmp_path, events=rows, settle=1)["differences"] == 3


def test_what_is_listed_late_is_compared_with_the_meters_too(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_meter()
    rows = usage(3)
    polar.add_events(rows[:2])
    polar.meter_otherwise(polar.add_events(rows[2:], visible_after=1.5), copies=0)
    assert not verify(tmp_path, events=rows, settle=5)["equal"]
    assert "not_metered" in [line["kind"] for line in report(tmp_path)]


def test_what_an_ingest_inserted_must_be_listed(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    result = {"events": 250, "inserted": 240, "duplicates": 10, "rejected": 0, "batches": 1, "rejected_path": None}
    assert verify(tmp_path, events=result)["equal"]
    verify(tmp_path, events={**result, "inserted": 241})
    [line] = report(tmp_path)
    assert (line["kind"], line["expected"], line["events"]) == ("not_stored", 241, 240)


def test_files_of_rows_are_compared_by_the_mapping_of_their_ingest(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_meter(name="Units", aggregation={"func": "sum", "property": "units"})
    table = "".join(f"c{i % 3},{i},2026-11-02T{i:02}:30:00Z\n" for i in range(20))
    (tmp_path / "rows-1.csv").write_text("who,units,at\n" + table)
    mapping = {
        "name": {"const": "call"},
        "external_customer_id": "who",
        "timestamp": "at",
        "metadata": {"units": {"column": "units", "type": "int"}},
    }
    given = {"source": f"{tmp_path}/rows-*.csv", "mapping": mapping}
    ids = PolarHook().ingest_events(
        [
            {
                "name": "call",
                "external_customer_id": f"c{i % 3}",
                "timestamp": f"2026-11-02T{i:02}:30:00Z",
                "metadata": {"units": i},
            }
            for i in range(20)
        ]
    )
    assert ids["inserted"] == 20
    assert verify(tmp_path, **given)["equal"]
    polar.remove_events([polar.events()[4]["id"]])
    assert verify(tmp_path, **given)["differences"] == 1


def test_events_are_in_no_rendered_field(polar: LocalPolar) -> None:
    operator = PolarVerifyUsageOperator(task_id="v", events="{{ [{'name': 'secret'}] | tojson }}", **DAY)
    operator.render_template_fields({})
    assert "secret" not in repr(operator.events)
    with pytest.raises(PolarConfigurationError, match="at most one of events, source and destination"):
        PolarVerifyUsageOperator(task_id="v", events=[], destination="/lake", **DAY)


def test_without_a_key_that_tells_them_apart_the_candidates_are_named(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_meter(name="API calls")
    ids = polar.add_events([{**event, "metadata": {}} for event in usage(40)])
    polar.meter_otherwise([ids[0]], copies=0)
    polar.meter_otherwise([ids[13]], external_customer_id="c2")
    verify(tmp_path, by="customer")
    keys = "kind", "external_customer_id", "other_external_customer_id", "certain"
    assert [(*(line[key] for key in keys), set(line["event_ids"])) for line in report(tmp_path)] == [
        ("not_metered", "c0", None, False, {ids[0], ids[4], ids[8]}),
        ("other_customer", "c1", "c2", False, {ids[13], ids[17]}),
        ("other_customer", "c2", "c1", False, {ids[13], ids[17]}),
    ]


def test_many_customers_are_searched_in_groups(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_meter(name="API calls")
    known = [polar.add_customer(external_id=f"known {i}")["external_id"] for i in range(150)]
    whose = [*known, *(f"new {i}" for i in range(150))]
    ids = polar.add_events(
        {**event, "external_customer_id": whose[i], "timestamp": START + timedelta(seconds=10 * i)}
        for i, event in enumerate(usage(300))
    )
    polar.meter_otherwise([ids[7], ids[157]], copies=0)
    polar.clear_requests()
    verify(tmp_path)
    assert found(tmp_path) == {("not_metered", "known 7", "00"): [ids[7]], ("not_metered", "new 7", "00"): [ids[157]]}
    assert quantity_requests(polar) < 50
    polar.meter_otherwise([ids[101]], external_customer_id="known 3")
    verify(tmp_path, by="customer")
    assert {place: named for place, named in found(tmp_path).items() if place[0] == "other_customer"} == {
        ("other_customer", "known 101", "00"): [ids[101]],
        ("other_customer", "known 3", "00"): [ids[101]],
    }


def test_days_of_a_zone_in_which_clocks_change(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_meter(name="API calls")
    events = usage(6 * 24)
    first = datetime(2026, 3, 27, 23, tzinfo=UTC)
    ids = polar.add_events({**event, "timestamp": first + timedelta(minutes=30 * i)} for i, event in enumerate(events))
    days = {"start": "2026-03-27T23:00:00Z", "end": "2026-03-30T22:00:00Z"}
    days |= {"interval": "day", "timezone": "Europe/Berlin"}
    assert verify(tmp_path, **days) | {"report": None} == {
        "meters": 1,
        "hours": 71,
        "customers": 0,
        "events": 142,
        "differences": 0,
        "report": None,
        "equal": True,
    }
    polar.meter_otherwise([ids[48], ids[93], ids[94]], copies=0)
    verify(tmp_path, **days)
    assert [(line["start"], line["event_ids"]) for line in report(tmp_path)] == [
        ("2026-03-28T23:00:00Z", [ids[48]]),
        ("2026-03-28T23:00:00Z", [ids[93]]),
        ("2026-03-29T22:00:00Z", [ids[94]]),
    ]


def test_a_share_of_the_customers_is_compared_in_each_run(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    polar.meter_otherwise([ids[41]], external_customer_id="c2")
    days = [START + timedelta(days=i) for i in range(5)]
    for day in days[1:4]:
        polar.add_events({**event, "timestamp": day} for event in usage(4))
    seen = [verify(tmp_path, sample=0.25, start=start, end=end) for start, end in pairwise(days)]
    assert sum(result["customers"] for result in seen) == 4
    assert verify(tmp_path, sample=1)["differences"] == 4
    assert verify(tmp_path, sample=0)["differences"] == 0


def test_events_that_are_counted_and_not_given_are_told(polar: LocalPolar, ids: list[str], tmp_path: Path) -> None:
    polar.add_events([{**usage(1)[0], "timestamp": START + 3 * HOUR}], store=False)
    verify(tmp_path)
    [line] = report(tmp_path)
    assert (line["kind"], line["meter"], line["start"]) == ("not_given", None, "2026-11-02T03:00:00Z")


def test_what_is_metered_alone_is_of_a_known_customer_or_of_none(
    polar: LocalPolar, ids: list[str], tmp_path: Path
) -> None:
    polar.add_events([{**usage(1)[0], "external_customer_id": "rare"}])
    polar.add_events([{**usage(1)[0], "external_customer_id": "rare", "timestamp": START + 5 * HOUR}], index=False)
    polar.add_events([{**usage(1)[0], "external_customer_id": "ghost", "timestamp": START + 6 * HOUR}], index=False)
    verify(tmp_path, meters=["API calls"])
    places = [(line["kind"], line["external_customer_id"], line["start"][11:13]) for line in report(tmp_path)]
    assert places == [("not_listed", "rare", "05"), ("unexplained", None, "06")]
    unexplained = report(tmp_path)[1]
    assert (unexplained["expected"], unexplained["metered"]) == (10, 11)


def test_in_a_real_run(polar: LocalPolar, ids: list[str], tmp_path: Path, run_dag: Any) -> None:
    billed = Asset("polar://acme/events/billed")
    with DAG("verifies", schedule=None, start_date=START) as dag:
        path = f"{tmp_path}/{{{{ ti.task_id }}}}.jsonl"
        given: dict[str, Any] = {**DAY, "report_path": path, "by": "{{ 'customer' }}"}
        PolarVerifyUsageOperator(task_id="equal", outlets=[billed], **given)
        PolarVerifyUsageOperator(task_id="warns", meters=["Units"], on_difference="warn", **given)
        PolarVerifyUsageOperator(task_id="fails", retries=3, retry_delay=timedelta(days=1), **given)
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("equal")["equal"]
    assert run.xcom("equal", key="_link_PolarReportLink").endswith("equal.jsonl")
    assert extra_of_last_event(billed)["differences"] == 0
    polar.meter_otherwise([ids[3]], copies=0)
    run = run_dag(dag)
    assert run.states() == {"equal": "failed", "warns": "success", "fails": "failed"}
    assert len(run.xcom("warns")) == 7
    assert not run.xcom("warns")["equal"]


def extra_of_last_event(asset: Asset) -> dict[str, Any]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        events = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        last = events.where(AssetModel.uri == asset.uri).order_by(AssetEvent.id.desc())
        extra: dict[str, Any] = session.scalars(last).first().extra
        return extra
