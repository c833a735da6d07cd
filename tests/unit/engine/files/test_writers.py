"""Files of events: what is in them, that nothing is lost on the way, and that equal events give equal bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.engine.exporting.local_files import LocalFileWriter
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS, FieldChoice
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.exceptions import PolarConfigurationError
from tests.unit.engine.rows import START, event, minutes, row

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.none() | st.text()
EVENTS = st.builds(
    lambda micros, values, extra: event(START + timedelta(microseconds=micros), **{**extra, **values}),
    st.integers(0, 10**12),
    st.fixed_dictionaries(
        {}, optional={"name": st.text(), "label": TEXT, "external_customer_id": TEXT, "metadata": JSON}
    ),
    st.dictionaries(st.text(min_size=1).filter(lambda k: k not in EVENT_FIELDS), JSON, max_size=2),
)


def written(events: list[dict[str, Any]], layout: FileLayout) -> bytes:
    raw = io.BytesIO()
    writer = layout.open(raw)
    for value in events:
        writer.write(row(value))
    writer.close()
    return raw.getvalue()


def known(value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in EVENT_FIELDS}


def extra(value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in value if name not in EVENT_FIELDS}


@given(st.lists(EVENTS, max_size=5))
@settings(deadline=None)
def test_jsonl_is_the_apis_own_object_on_one_line(events: list[dict[str, Any]]) -> None:
    lines = written(events, FileLayout()).split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == events
    assert lines[-1] == b""


def test_jsonl_keeps_values_as_they_came_and_orders_keys() -> None:
    shuffled = row({"zebra": 1, "name": "n", "alpha": {"b": 1, "a": 2.50}, **event(START)})
    assert next(iter(shuffled.values)) == "zebra"
    raw = io.BytesIO()
    writer = FileLayout().open(raw)
    writer.write(shuffled)
    writer.close()
    assert list(json.loads(raw.getvalue())) == [*EVENT_FIELDS, "alpha", "zebra"]


def test_jsonl_keeps_numbers_that_python_would_change() -> None:
    from airflow_provider_polar.api.rows import EventRow

    body = b'{"id":"x","timestamp":"2026-01-01T00:00:00Z","metadata":{"big":123456789012345678901234567890,"f":1.10}}'
    raw = io.BytesIO()
    writer = FileLayout().open(raw)
    writer.write(EventRow(msgspec.json.decode(body, type=dict[str, msgspec.Raw])))
    writer.close()
    assert raw.getvalue() == body + b"\n"


def test_an_answer_with_line_breaks_in_it_still_gives_one_line() -> None:
    from airflow_provider_polar.api.rows import EventRow

    body = json.dumps(event(START), indent=2).encode()
    value = EventRow(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    for file_format in ("jsonl", "csv"):
        raw = io.BytesIO()
        writer = FileLayout(file_format).open(raw)
        writer.write(value)
        writer.close()
        assert raw.getvalue() == written([event(START)], FileLayout(file_format))


@given(st.lists(EVENTS, max_size=5))
@settings(deadline=None)
def test_csv_gives_every_value_back(events: list[dict[str, Any]]) -> None:
    text = written(events, FileLayout("csv")).decode()
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == [*EVENT_FIELDS, "extra"]
    assert len(rows) == len(events)
    for value, cells in zip(events, rows, strict=True):
        for name, cell in zip(header, cells, strict=True):
            due = extra(value) or None if name == "extra" else value[name]
            assert (cell if isinstance(due, str) else json.loads(cell) if due is not None else cell or None) == due


def test_csv_tells_null_from_empty_text_and_survives_line_breaks() -> None:
    value = event(START, label="", name='a "quoted",\r\nname', external_customer_id=None)
    line = written([value], FileLayout("csv", fields=FieldChoice.choose(["name", "label", "external_customer_id"])))
    assert line == b'external_customer_id,label,name\n,"","a ""quoted"",\r\nname"\n'
    alone = written([value], FileLayout("csv", fields=FieldChoice.choose(["external_customer_id"])))
    assert alone == b'external_customer_id\n""\n'


def test_parquet_has_the_fixed_schema_and_every_value() -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    events = [
        event(START + timedelta(microseconds=1), metadata={"ü": [1, {"a": None}]}, news={"x": 1}),
        event(datetime(1, 1, 1, tzinfo=UTC), timestamp="0001-01-01T00:00:00"),
        event(START, customer=None, child_count=None, name="with \n line", label=""),
    ]
    table = pq.read_table(io.BytesIO(written(events, FileLayout("parquet"))))
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("child_count").type == pa.int64()
    others = [f.type for f in table.schema if f.name not in ("timestamp", "child_count")]
    assert others == [pa.string()] * 13
    rows = table.to_pylist()
    for value, got in zip(events, rows, strict=True):
        assert got["timestamp"] == row(value).timestamp
        assert json.loads(got["metadata"]) == value["metadata"]
        assert (got["customer"] and json.loads(got["customer"])) == value["customer"]
        assert (got["extra"] and json.loads(got["extra"])) == (extra(value) or None)
        for name in ("id", "name", "label", "child_count", "external_customer_id", "parent_id"):
            assert got[name] == value[name]


def test_parquet_of_many_row_groups() -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    events = minutes(25_000, timedelta(milliseconds=1))
    file = pq.ParquetFile(io.BytesIO(written(events, FileLayout("parquet", "zstd"))))
    assert file.metadata.num_row_groups == 3
    assert file.read(columns=["id"])["id"].to_pylist() == [value["id"] for value in events]


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_compression_changes_the_bytes_and_nothing_else(file_format: str, compression: str | None) -> None:
    events = minutes(3000)
    content = written(events, FileLayout(file_format, compression))
    if compression == "gzip":
        assert content[4:8] == bytes(4), "no write time in the header"
        assert not content[3], "no file name in the header"
        content = gzip.decompress(content)
    elif compression == "zstd":
        zstandard = pytest.importorskip("zstandard")
        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    assert content == written(events, FileLayout(file_format))


@pytest.mark.parametrize("layout", [FileLayout("jsonl", "gzip"), FileLayout("csv", "zstd"), FileLayout("parquet")])
def test_bytes_do_not_depend_on_how_the_rows_came(layout: FileLayout, tmp_path: Any) -> None:
    rows = [row(value) for value in minutes(2500)]
    found = set()
    for size in (1, 7, 100, 2500):
        folder = tmp_path / str(size)
        folder.mkdir()
        with LocalFileWriter(str(folder), layout) as writer:
            for i in range(0, len(rows), size):
                writer.write(rows[i : i + size])
            found.add(tuple(part.sha256 for part in writer.finish()))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("limits", "sizes"), [({"max_file_rows": 40}, [40, 40, 20]), ({"max_file_rows": 50}, [50, 50])]
)
def test_files_roll_at_a_number_of_rows(limits: dict[str, int], sizes: list[int], tmp_path: Any) -> None:
    with LocalFileWriter(str(tmp_path), FileLayout(**limits)) as writer:
        writer.write([row(value) for value in minutes(100)])
        parts = writer.finish()
    assert [part.rows for part in parts] == sizes
    assert parts[0].first_timestamp == "2026-01-01T00:00:00Z"
    assert parts[-1].last_timestamp == "2026-01-01T01:39:00Z"


def test_files_roll_at_a_size(tmp_path: Any) -> None:
    events = minutes(100)
    with LocalFileWriter(str(tmp_path), FileLayout(max_file_bytes=10_000)) as writer:
        writer.write([row(value) for value in events])
        parts = writer.finish()
    assert len(parts) > 3
    assert all(10_000 <= part.bytes < 11_000 for part in parts[:-1])
    together = b"".join(Path(part.path).read_bytes() for part in parts)
    assert together == written(events, FileLayout())


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_excluded_fields_stay_behind(file_format: str) -> None:
    layout = FileLayout.choose(file_format=file_format, exclude_fields=["customer", "extra"])
    content = written([event(START, news="secret@example.com")], layout)
    assert b"example.com" not in content
    if file_format == "jsonl":
        assert list(json.loads(content)) == [name for name in EVENT_FIELDS if name != "customer"]


def test_included_fields_are_all_there_is() -> None:
    layout = FileLayout.choose(include_fields=["metadata", "name"])
    assert json.loads(written([event(START, news=1)], layout)) == {"name": "call", "metadata": {"tokens": 0}}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"file_format": "xml"}, "file_format 'xml' is unknown; there are jsonl, csv, parquet"),
        ({"compression": "lzma"}, "compression 'lzma' is unknown"),
        ({"include_fields": ["id"], "exclude_fields": ["name"]}, "not both"),
        ({"exclude_fields": ["custmer"]}, "'custmer', which is no field"),
        ({"include_fields": ["id", "nam"]}, "'nam', which is no field"),
        ({"exclude_fields": "customer"}, "list of field names"),
        ({"include_fields": []}, "leave no field"),
        ({"max_file_rows": 0}, "max_file_rows is 0"),
        ({"max_file_bytes": -1}, "max_file_bytes is -1"),
    ],
)
def test_impossible_layouts_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(PolarConfigurationError, match=message):
        FileLayout.choose(**choice)


@pytest.mark.parametrize(
    ("module", "choice", "hint"),
    [
        ("pyarrow", {"file_format": "parquet"}, r"airflow-provider-polar\[parquet\]"),
        ("zstandard", {"compression": "zstd"}, r"airflow-provider-polar\[zstd\]"),
    ],
)
def test_a_missing_package_is_named(module: str, choice: dict[str, Any], hint: str, monkeypatch: Any) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    layout = FileLayout.choose(**choice)
    with pytest.raises(PolarConfigurationError, match=hint):
        layout.check_installed()


def test_nothing_heavy_is_imported_with_the_operator() -> None:
    code = (
        "import sys, airflow_provider_polar.operators.export, airflow_provider_polar.operators.reconcile;"
        "heavy = 'pyarrow', 'airflow_provider_polar.api.client', 'airflow_provider_polar.engine.exporting.export';"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize(("count", "due"), [("0.0", 0), ("3", 3), ("null", None), (str(2**63 - 1), 2**63 - 1)])
def test_parquet_takes_every_whole_number(count: str, due: int | None) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    content = written_raw(count)
    assert pq.read_table(io.BytesIO(content))["child_count"].to_pylist() == [due]


@pytest.mark.parametrize("count", ["0.5", str(2**63), '"three"', "1e400"])
def test_parquet_says_which_event_has_no_64_bit_child_count(count: str) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(PolarConfigurationError, match=r"child_count of event [0-9a-f-]{36} is no 64-bit integer"):
        written_raw(count)


def written_raw(child_count: str) -> bytes:
    value = row(event(START))
    value.values["child_count"] = msgspec.Raw(child_count.encode())
    raw = io.BytesIO()
    writer = FileLayout("parquet").open(raw)
    writer.write(value)
    writer.close()
    return raw.getvalue()


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_an_event_of_year_1(file_format: str, tmp_path: Any) -> None:
    with LocalFileWriter(str(tmp_path), FileLayout(file_format)) as writer:
        writer.write([row(event(START, timestamp="0001-01-01T00:00:00"))])
        (part,) = writer.finish()
    assert part.first_timestamp == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("name", "timestamp"), [(b"\xff\xfe", b"2026-01-01T00:00:00Z"), (b"call", b"0001-01-01T00:00:00+01:00")]
)
def test_a_response_that_no_file_can_hold_is_no_list_of_events(name: bytes, timestamp: bytes) -> None:
    """It failed raw when the file was written; a response that is refused is asked for again."""
    item = b'{"id":"x","timestamp":"' + timestamp + b'","name":"' + name + b'"}'
    with pytest.raises(ValueError, match="not a list of events"):
        RowPage.decode(b'{"items":[' + item + b'],"pagination":{"total_count":1}}')
