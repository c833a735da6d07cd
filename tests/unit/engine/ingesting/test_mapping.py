"""From rows to events, declaratively."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_polar.engine.ingesting.mapping import EventMapping
from airflow_provider_polar.exceptions import EventProblem, PolarConfigurationError

BASE: dict[str, Any] = {"name": {"const": "flight.departed"}, "external_customer_id": "carrier"}
ROW = {
    "carrier": "UA",
    "flight": 1545,
    "dep": "2013-11-03 01:30",
    "distance": "1400",
    "nested": {"a": {"b": 7}},
    "no": None,
}


def mapped(row: dict[str, Any] = ROW, **fields: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    return EventMapping({**BASE, **fields})(row)


def one(value: Any, **spec: Any) -> Any:
    """One value through one column's conversion; its problem where there is one."""
    event, problems = mapped({"carrier": "UA", "v": value}, metadata={"v": {"column": "v", **spec}})
    return problems[0].message if problems else event.get("metadata", {}).get("v")


def test_columns_constants_and_templates() -> None:
    event, problems = mapped(
        external_id={"template": "{carrier}-{flight}"},
        metadata={"b": "nested.a.b", "kind": {"const": "real"}, "distance": {"column": "distance", "type": "int"}},
    )
    assert problems == []
    assert event == {
        "name": "flight.departed",
        "external_customer_id": "UA",
        "external_id": "UA-1545",
        "metadata": {"b": 7, "kind": "real", "distance": 1400},
    }


def test_whole_numbers_are_fine_as_ids() -> None:
    assert mapped(external_id="flight")[0]["external_id"] == "1545"


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [
        ("7", {}, "7"),
        ("7", {"type": "int"}, 7),
        (" -7 ", {"type": "int"}, -7),
        (7.0, {"type": "int"}, 7),
        ("7.5", {"type": "int"}, "is not a whole number"),
        (float("nan"), {"type": "int"}, "is not a whole number"),
        (True, {"type": "int"}, "is not a whole number"),
        ("7.5", {"type": "float"}, 7.5),
        ("x", {"type": "float"}, "is not a number"),
        (True, {"type": "float"}, "is not a number"),
        ("TRUE", {"type": "bool"}, True),
        (0, {"type": "bool"}, False),
        ("yes", {"type": "bool"}, "is none of true, false, 1, 0"),
        (7, {"type": "str"}, "7"),
        (True, {"type": "str"}, "true"),
        (None, {}, "column 'v' is empty or missing"),
        ("", {"type": "int"}, "column 'v' is empty or missing"),
        ("", {"optional": True}, None),
        ("", {"default": 5}, 5),
        ("1767225600", {"type": "timestamp", "format": "unix"}, datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600123, {"type": "timestamp", "format": "unix_ms"}, datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ("x", {"type": "timestamp", "format": "unix"}, "is not a number of seconds"),
        (
            "01.02.2026",
            {"type": "timestamp", "format": "%d.%m.%Y", "timezone": "UTC"},
            datetime(2026, 2, 1, tzinfo=UTC),
        ),
        ("2026", {"type": "timestamp", "format": "%d.%m.%Y"}, "is not a moment in the format '%d.%m.%Y'"),
        ("soon", {"type": "timestamp"}, "is not an ISO 8601 moment"),
        ("2026-01-01", {"type": "timestamp"}, "has no time zone; say which with timezone in the mapping"),
    ],
)
def test_conversions(value: Any, spec: dict[str, Any], expected: Any) -> None:
    assert one(value, **spec) == expected
    assert type(one(value, **spec)) is type(expected)


NEW_YORK = {"column": "v", "timezone": "America/New_York"}


@pytest.mark.parametrize(
    ("local", "fold", "expected"),
    [
        ("2026-07-01T12:00", None, datetime(2026, 7, 1, 16, tzinfo=UTC)),
        ("2026-01-01T12:00", None, datetime(2026, 1, 1, 17, tzinfo=UTC)),
        ("2026-11-01T01:30", 0, datetime(2026, 11, 1, 5, 30, tzinfo=UTC)),
        ("2026-11-01T01:30", 1, datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
        ("2026-11-01T01:30", None, "is twice in America/New_York"),
        ("2026-03-08T02:30", 0, "does not exist in America/New_York"),
        ("2026-03-08T02:30", None, "does not exist in America/New_York"),
        ("2026-11-01T01:30-05:00", None, datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
    ],
)
def test_local_times_at_the_change_of_clocks(local: str, fold: int | None, expected: Any) -> None:
    spec = NEW_YORK if fold is None else {**NEW_YORK, "fold": fold}
    event, problems = mapped({"carrier": "UA", "v": local}, timestamp=spec)
    if isinstance(expected, str):
        (problem,) = problems
        assert problem.field == "timestamp"
        assert expected in problem.message
    else:
        assert event["timestamp"].astimezone(UTC) == expected


def test_a_cost_is_made_of_columns() -> None:
    event, _ = mapped(
        {"carrier": "UA", "cents": 1.5}, metadata={"_cost": {"amount": "cents", "currency": {"const": "usd"}}}
    )
    assert event["metadata"] == {"_cost": {"amount": 1.5, "currency": "usd"}}


def test_every_problem_of_a_row_is_told_with_its_field() -> None:
    _, problems = mapped({}, metadata={"v": {"column": "v", "type": "int"}})
    assert [problem.field for problem in problems] == ["external_customer_id", "metadata.v"]
    assert EventMapping(BASE)("text")[1] == [EventProblem("", "is no object with columns")]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ([], "is a list"),
        ({"external_customer_id": "c"}, "no name"),
        ({"name": "n"}, "exactly one of customer_id and external_customer_id"),
        ({**BASE, "customer_id": "c"}, "exactly one of customer_id and external_customer_id"),
        ({**BASE, "nam": "n"}, "unknown field 'nam'"),
        ({**BASE, "organization_id": "n"}, "unknown field 'organization_id'"),
        ({**BASE, "name": ""}, "name is a column's name"),
        ({**BASE, "name": 5}, "name is a column's name"),
        ({**BASE, "name": {}}, "name is a column's name"),
        ({**BASE, "name": {"const": "a", "column": "b"}}, "name is a column's name"),
        ({**BASE, "name": {"const": None}}, "no constant value"),
        ({**BASE, "name": {"const": "a", "type": "str"}}, "unknown option 'type'"),
        ({**BASE, "name": {"column": "a", "typ": "str"}}, "unknown option 'typ'"),
        ({**BASE, "name": {"column": ""}}, "it is a column's name"),
        ({**BASE, "name": {"template": "{a"}}, "unreadable template"),
        ({**BASE, "name": {"template": "{a!r}"}}, "nothing else"),
        ({**BASE, "name": {"template": "{}"}}, "nothing else"),
        ({**BASE, "metadata": "m"}, "metadata is a dict"),
        ({**BASE, "metadata": {"a": {"column": "a", "type": "integer"}}}, "unknown type 'integer'"),
        ({**BASE, "metadata": {"a": {"column": "a", "timezone": "UTC"}}}, "timezone goes with type timestamp"),
        ({**BASE, "metadata": {"a": {"column": "a", "optional": "yes"}}}, "optional is true or false"),
        ({**BASE, "timestamp": {"column": "a", "timezone": "Mars/Olympus"}}, "'Mars/Olympus' is not a time zone"),
        ({**BASE, "timestamp": {"column": "a", "fold": 2}}, "fold is 0"),
        ({**BASE, "timestamp": {"column": "a", "format": 5}}, "format is text"),
    ],
)
def test_a_wrong_mapping_is_refused_at_once(spec: Any, told: str) -> None:
    with pytest.raises(PolarConfigurationError, match=told):
        EventMapping(spec)


def test_a_near_miss_is_told_as_the_column_is_written() -> None:
    _, problems = EventMapping({**BASE, "external_customer_id": "CARIER"})({"CARRIER": "UA"})
    assert [problem.message for problem in problems] == ["column 'CARIER' is empty or missing (did you mean CARRIER?)"]


def test_every_problem_of_a_cost_is_told_under_its_own_field() -> None:
    _, problems = mapped({"carrier": "UA"}, metadata={"_cost": {"amount": "cents", "currency": "unit"}})
    assert [problem.field for problem in problems] == ["metadata._cost.amount", "metadata._cost.currency"]
