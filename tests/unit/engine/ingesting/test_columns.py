"""A column that is misspelt is told once, with the columns that the file has, and not row by row."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.engine.ingesting.mapping import EventMapping
from airflow_provider_polar.engine.ingesting.sources import rows_of_files
from airflow_provider_polar.engine.ingesting.validation import EventValidator, check_event_columns
from airflow_provider_polar.exceptions import EventProblem, PolarSourceError

ROWS = [{"carrier": "UA", "dep": "2026-01-01", "nested": {"a": 1}}, {"carrier": "AA", "dep": None, "nested": {"a": 2}}]
FORMATS = pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])


def written(folder: Path, suffix: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"rows.{suffix}"
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == "csv":
        lines = [",".join(rows[0]), *(",".join(f'"{value or ""}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def mapping(**fields: Any) -> EventMapping:
    return EventMapping({"name": {"const": "a"}, "external_customer_id": "carrier", **fields})


@FORMATS
@pytest.mark.parametrize(
    ("fields", "field", "column", "hint"),
    [
        ({"external_customer_id": "carier"}, "external_customer_id", "carier", " (did you mean carrier?)"),
        (
            {"metadata": {"m": {"column": "carriers", "type": "str"}}},
            "metadata.m",
            "carriers",
            " (did you mean carrier?)",
        ),
        ({"external_id": {"template": "{carrier}-{departure}"}}, "external_id", "departure", ""),
        ({"metadata": {"_cost": {"amount": "cents"}}}, "metadata._cost.amount", "cents", ""),
    ],
)
def test_a_column_that_no_row_has(
    tmp_path: Path, suffix: str, fields: dict[str, Any], field: str, column: str, hint: str
) -> None:
    path = written(tmp_path, suffix)
    with pytest.raises(PolarSourceError) as caught:
        list(rows_of_files([path], mapping(**fields).check_columns))
    assert str(caught.value) == (
        f"{path} has no column {column!r}, which the mapping takes for {field}; it has carrier, dep, nested{hint}"
    )


@FORMATS
def test_columns_that_are_there_and_paths_into_them_are_fine(tmp_path: Path, suffix: str) -> None:
    check = mapping(metadata={"a": "nested.a", "c": {"const": 1}}, timestamp="dep").check_columns
    assert len(list(rows_of_files([written(tmp_path, suffix)], check))) == 2


def test_an_optional_column_that_a_table_has_not_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check = mapping(
        timestamp={"column": "depp", "optional": True}, parent_id={"column": "p", "default": "x"}
    ).check_columns
    path = written(tmp_path, "csv")
    with caplog.at_level(logging.WARNING):
        assert len(list(rows_of_files([path], check))) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} has no column {column!r}, which the mapping takes for {field}; it may be missing, so every row counts "
        f"as empty there{hint}"
        for column, field, hint in (("depp", "timestamp", " (did you mean dep?)"), ("p", "parent_id", ""))
    ]


def test_a_key_that_later_objects_have_is_a_problem_of_the_rows_that_have_it_not(tmp_path: Path) -> None:
    rows = [{"carier": "x"}, {"carrier": "UA"}]
    path = written(tmp_path, "jsonl", rows)
    read = list(rows_of_files([path], mapping().check_columns))
    assert [mapping()(row.value)[1] for row in read] == [
        [EventProblem("external_customer_id", "column 'carrier' is empty or missing (did you mean carier?)")],
        [],
    ]


def test_the_first_thousand_objects_are_enough(tmp_path: Path) -> None:
    path = written(tmp_path, "jsonl", [{"carier": "x"}] * 1500)
    rows = rows_of_files([path], mapping().check_columns)
    assert [next(rows).number for _ in range(1000)][-1] == 1000
    with pytest.raises(PolarSourceError, match="has no column 'carrier'"):
        next(rows)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_of_a_table_that_is_no_field_of_an_event(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix, [{"nam": "a", "external_customer_id": "c", "metadata.x": "1"}])
    with pytest.raises(PolarSourceError, match=r"has the column 'nam', .*did you mean name\?\); an event has name, "):
        list(rows_of_files([path], check_event_columns))


@FORMATS
def test_a_file_without_a_name_or_a_customer(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix, [{"name": "a", "parent_id": "c"}])
    with pytest.raises(
        PolarSourceError, match="has no column external_customer_id or customer_id; it has name, parent"
    ):
        list(rows_of_files([path], check_event_columns))
    path = written(tmp_path, suffix, [{"customer_id": "a"}])
    with pytest.raises(PolarSourceError, match="has no column name; it has customer_id"):
        list(rows_of_files([path], check_event_columns))
    path = written(tmp_path, suffix, [{"name": "a", "customer_id": "c", "metadata": {"a": 1}, "timestamp": "t"}])
    assert len(list(rows_of_files([path], check_event_columns))) == 1


def test_every_field_that_the_validator_knows_is_a_column_and_no_other() -> None:
    fields = set(EventValidator()._rules) - {"organization_id"}
    check_event_columns("a.csv", fields, True)
    with pytest.raises(PolarSourceError, match="organization_id"):
        check_event_columns("a.csv", fields | {"organization_id"}, True)
