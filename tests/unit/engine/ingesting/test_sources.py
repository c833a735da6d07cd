"""Rows out of files: every format gives the same rows, places are right, broken files are errors."""

from __future__ import annotations

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.engine.files import json_array
from airflow_provider_polar.engine.files.compression import StreamError
from airflow_provider_polar.engine.files.formats import format_of
from airflow_provider_polar.engine.ingesting.sources import Row, is_glob, rows_in_memory, rows_of_files
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError, PolarSourceUnavailableError

ROWS = [
    {"name": "a", "external_customer_id": "c", "metadata": {"x": "1", "y": "zwei\nZeilen"}},
    {"name": "b", "external_customer_id": "d", "metadata": {"x": "é\u2028"}},
]


def read(path: Path) -> list[Row]:
    return list(rows_of_files([path]))


def write(path: Path, content: bytes) -> Path:
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pytest.importorskip("zstandard").compress(content)
    path.write_bytes(content)
    return path


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_csv(tmp_path: Path) -> bytes:
    path = tmp_path / "plain.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "external_customer_id", "metadata.x", "metadata.y"])
        for row in ROWS:
            metadata: Any = row["metadata"]
            writer.writerow([row["name"], row["external_customer_id"], metadata["x"], metadata.get("y")])
    return path.read_bytes()


@pytest.mark.parametrize(
    "suffix", ["jsonl", "ndjson", "jsonl.gz", "JSONL.GZ", "jsonl.zst", "json", "json.gz", "csv", "csv.gz"]
)
def test_every_text_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    kind = suffix.lower().split(".")[0]
    content = {"json": json.dumps(ROWS).encode(), "csv": as_csv(tmp_path)}.get(kind, jsonl(ROWS))
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content)
    if suffix.lower().endswith(".gz"):
        path.write_bytes(gzip.compress(content))
    elif suffix.endswith(".zst"):
        path.write_bytes(pytest.importorskip("zstandard").compress(content))
    assert [row.value for row in read(path)] == ROWS


def test_parquet_gives_python_values_and_drops_nulls_of_structs(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    rows = [
        {"name": "a", "metadata": {"x": 1}, "price": Decimal("1.50")},
        {"name": "b", "metadata": {"y": 2}, "price": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [row[1:] for row in read(path)] == [(1, rows[0], None), (2, rows[1], None)]


def test_metadata_as_json_text_is_the_object_that_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'name,metadata\na,"{""n"": 1}"\nb,{}\nc,oops\n')
    assert [(row.number, row.value.get("metadata"), row.error) for row in read(path)] == [
        (2, {"n": 1}, None),
        (3, None, None),
        (4, "oops", "metadata is not a JSON object"),
    ]


def test_rows_that_cannot_be_read_are_rows_with_their_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", b'\xef\xbb\xbf{"n": 1}\n\n{"n": \n\xff\n{"n": NaN}\r\n' + b"[" * 100_000 + b"\n7"
    )
    rows = read(path)
    assert [row.number for row in rows] == [1, 3, 4, 5, 6, 7]
    assert [bool(row.error) for row in rows] == [False, True, True, False, True, False]
    assert rows[1].value == '{"n": '
    assert rows[2].error == "is not UTF-8"
    assert rows[5].value == 7


def test_a_csv_row_of_another_width_is_a_row_with_its_line(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", b"a,b\n1,2\n1\n\n1,2,3\n"))
    assert [(row.number, row.error) for row in rows] == [
        (2, None),
        (3, "has 1 cells, the header has 2"),
        (5, "has 3 cells, the header has 2"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.jsonl.gz", gzip.compress(jsonl(ROWS * 99))[:-20]),
        ("not.jsonl.gz", b"not gzip"),
        ("broken.jsonl.gz", gzip.compress(jsonl(ROWS * 99))[:60] + b"\0" * 60),
        ("not.jsonl.zst", b"not zstandard"),
        ("object.json", b'{"events": []}'),
        ("cut.json", b'[{"a": 1}, {"a"'),
        ("more.json", b"[1] 2"),
        ("commas.json", b"[1 2]"),
        ("twice.csv", b"a,a\n1,2\n"),
        ("quotes.csv", b'a,b\n"1,2\n'),
        ("latin1.csv", b"a,b\n\xe9,2\n"),
        ("not.parquet", b"not parquet"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PolarSourceError, match=name):
        read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolarSourceError, match=r"none\.jsonl cannot be read"):
        read(tmp_path / "none.jsonl")


def test_a_store_that_fails_is_told_apart_because_a_retry_may_help(tmp_path: Path) -> None:
    class Away:
        def __str__(self) -> str:
            return "s3://bucket/a.jsonl"

        def open(self, mode: str) -> Any:
            raise ConnectionResetError("reset by peer")

    with pytest.raises(PolarSourceUnavailableError, match=r"a\.jsonl cannot be read: ConnectionResetError") as caught:
        list(rows_of_files([Away()]))
    assert caught.value.retryable


@pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "a.parquet.gz", "a.jsonl.bz2"])
def test_a_name_without_a_known_format_is_refused(name: str) -> None:
    with pytest.raises(PolarConfigurationError, match="does not say its format"):
        format_of(name)


def test_globs_are_known() -> None:
    assert [is_glob(name) for name in ("s3://b/*.csv", "a?.csv", "a[12].csv", "a.csv")] == [True, True, True, False]


def test_empty_files_have_no_rows(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", b""), ("a.csv", b""), ("a.json", b" [ ] "), ("b.csv", b"name\n")):
        assert read(write(tmp_path / name, content)) == []


def test_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.jsonl", jsonl([{"n": n}])) for n in range(3)]
    assert [(row.source, row.value["n"]) for row in rows_of_files(paths)] == [(0, 0), (1, 1), (2, 2)]


def test_a_generator_is_read_as_it_goes() -> None:
    read_so_far: list[int] = []

    def numbers() -> Any:
        for n in range(3):
            read_so_far.append(n)
            yield n

    rows = rows_in_memory(numbers())
    assert next(rows) == Row(0, 1, 0)
    assert read_so_far == [0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(
        st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists), max_size=8
    ),
    chunk=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
)
def test_an_array_is_read_right_wherever_its_chunks_end(values: list[Any], chunk: int, indent: int | None) -> None:
    import io

    before, json_array._BLOCK = json_array._BLOCK, chunk
    try:
        data = io.BytesIO(json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        assert [value for _, value, _ in json_array.read(data, lambda *_: None)] == values
    finally:
        json_array._BLOCK = before


@pytest.mark.parametrize(
    "array", [b"[1,2 33,4]", b"[1,2 33]", b"[1 ,2]3", b'[{"n":1},{"n":2} {"n":3,"mm":"33"},{"n":4}]']
)
def test_an_array_whose_comma_is_missing_loses_no_element_unsaid(array: bytes) -> None:
    import io

    with pytest.raises(StreamError):
        list(json_array.read(io.BytesIO(array), lambda *_: None))
