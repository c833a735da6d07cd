"""What an event is in the columns of a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_polar.engine.files.fields import EVENT_FIELDS, EXTRA
from airflow_provider_polar.engine.loading.columns import EventColumns, check_metadata_columns
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError

ALL = (*EVENT_FIELDS, EXTRA)


def one_row(event: dict[str, Any], columns: EventColumns, new: set[str] | None = None) -> dict[str, Any]:
    (row,) = columns.rows([{"id": "a", "timestamp": "2026-01-01T00:00:00.000001Z"} | event], new)
    return dict(zip(columns.names, row, strict=True))


def test_fields_have_their_kinds() -> None:
    new: set[str] = set()
    event = {"child_count": "2", "customer": {"a": 1}, "metadata": {"n": 1.5}, "name": "call", "z": 1, "b": None}
    row = one_row(event, EventColumns.choose(ALL), new)
    assert list(row) == [*ALL]
    assert {name: value for name, value in row.items() if value is not None} == {
        "id": "a",
        "timestamp": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        "customer": '{"a":1}',
        "child_count": 2,
        "name": "call",
        "metadata": '{"n":1.5}',
        "extra": '{"b":null,"z":1}',
    }
    assert new == {"z", "b"}


def test_new_fields_are_told_also_where_they_are_left_out() -> None:
    new: set[str] = set()
    columns = EventColumns.choose(ALL, exclude_fields=["extra", "customer"])
    row = one_row({"z": 1, "customer": {"email": "a"}}, columns, new)
    assert new == {"z"}
    assert not {"extra", "customer", "z"} & row.keys()


def test_fields_that_the_export_left_out_have_no_column() -> None:
    assert EventColumns.choose(["id", "timestamp", "name"]).names == ["id", "timestamp", "name"]


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        ("double", 3, 3.0),
        ("double", 2.5, 2.5),
        ("bigint", 3.0, 3),
        ("text", 3.5, "3.5"),
        ("text", True, "true"),
        ("text", "3", "3"),
        ("boolean", False, False),
        ("timestamp", "2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("json", "a", '"a"'),
        ("json", {"amount": "1.0"}, '{"amount":"1.0"}'),
        ("double", None, None),
    ],
)
def test_typed_columns_out_of_metadata(kind: Any, value: Any, held: Any) -> None:
    columns = EventColumns.choose(ALL, metadata_columns={"key": kind})
    metadata = {} if value is None else {"key": value}
    row = one_row({"metadata": metadata}, columns)
    assert row["key"] == held
    assert type(row["key"]) is type(held)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("double", "2.5"),
        ("double", True),
        ("double", 10**400),
        ("bigint", 2.5),
        ("bigint", 1 << 63),
        ("bigint", "12"),
        ("boolean", 1),
        ("timestamp", "yesterday-secret"),
    ],
)
def test_a_value_of_another_kind_is_told_by_its_event_and_not_shown(kind: Any, value: Any) -> None:
    columns = EventColumns.choose(ALL, metadata_columns={"key": kind})
    with pytest.raises(PolarSourceError) as caught:
        one_row({"metadata": {"key": value}}, columns)
    assert str(caught.value) == (
        f"the metadata 'key' of event a does not fit a column of {kind}: metadata_columns={{'key': 'text'}} "
        "takes every value"
    )
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["distance"], "it is a dict such as"),
        ({"distance": "float"}, "'distance' as 'float'; there are text, timestamp, bigint, double, boolean, json"),
        ({"": "text"}, "the key ''"),
        ({"Name": "text"}, "has 'Name', and a table has 'name' already"),
        ({"a": "text", "A": "text"}, "has 'A', and a table has 'a' already"),
    ],
)
def test_metadata_columns_are_judged(given: Any, told: str) -> None:
    with pytest.raises(PolarConfigurationError, match=r"^metadata_columns") as caught:
        check_metadata_columns(given)
    assert told in str(caught.value)


def test_what_no_event_can_be_loaded_without() -> None:
    with pytest.raises(PolarConfigurationError, match="exclude_fields names 'id', without which"):
        EventColumns.choose(ALL, exclude_fields=["id"])
    with pytest.raises(PolarConfigurationError, match="takes 'distance' out of the metadata, which the export does"):
        EventColumns.choose(["id", "timestamp"], metadata_columns={"distance": "double"})
