"""A file that is cut short is refused at whatever byte, and lines of JSON are what Python's decoder makes of them."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.engine.files.streams import json_value
from airflow_provider_polar.engine.ingesting.sources import rows_of_files
from airflow_provider_polar.exceptions import PolarSourceError


class InMemory(io.BytesIO):
    """A file of a name that gives its bytes as a store does: seldom as many as were asked for."""

    def __init__(self, name: str, content: bytes, at_once: int = 1 << 20) -> None:
        super().__init__(content)
        self._name, self._at_once = name, at_once

    def __str__(self) -> str:
        return self._name

    def open(self, mode: str) -> Any:
        return self

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._at_once if size is None or size < 0 else min(size, self._at_once))


def compressed(suffix: str, *frames: bytes) -> list[bytes]:
    if suffix == ".gz":
        return [gzip.compress(frame, mtime=0) for frame in frames]
    compress = pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress
    return [compress(frame) for frame in frames]


def lines(first: int, number: int) -> bytes:
    chance = random.Random(first)  # so that compression does not make it small
    return b"".join(b'{"n": %d, "r": "%x"}\n' % (n, chance.getrandbits(256)) for n in range(first, first + number))


def read(suffix: str, content: bytes, at_once: int = 1 << 20) -> list[int]:
    return [row.value["n"] for row in rows_of_files([InMemory(f"rows.jsonl{suffix}", content, at_once)])]


SUFFIXES = pytest.mark.parametrize("suffix", [".gz", ".zst"])


@SUFFIXES
def test_a_small_file_that_is_cut_at_any_byte_is_refused(suffix: str) -> None:
    frames = compressed(suffix, lines(0, 2), b"", lines(2, 2))
    whole = b"".join(frames)
    # What is cut between two frames is a whole file of fewer frames; nothing in it says that there were more.
    between = {len(frames[0]): [0, 1], len(frames[0] + frames[1]): [0, 1], len(whole): [0, 1, 2, 3]}
    for end in range(len(whole) + 1):
        if end in between:
            assert read(suffix, whole[:end]) == between[end]
            continue
        with pytest.raises(PolarSourceError, match=r"rows\.jsonl.* cannot be read"):
            read(suffix, whole[:end])


@SUFFIXES
@pytest.mark.parametrize("at_once", [2, 1000, 1 << 20])
def test_a_large_file_that_is_cut_is_refused(suffix: str, at_once: int) -> None:
    (whole,) = compressed(suffix, lines(0, 3000))
    assert read(suffix, whole, at_once) == list(range(3000))
    ends = [len(whole) - n for n in range(1, 20)] + [random.Random(at_once).randrange(len(whole)) for _ in range(20)]
    for end in ends if at_once > 2 else ends[:4]:
        with pytest.raises(PolarSourceError, match="cannot be read"):
            read(suffix, whole[:end], at_once)


@SUFFIXES
def test_what_follows_the_last_frame_is_refused_and_many_frames_are_one_file(suffix: str) -> None:
    frames = compressed(suffix, *(lines(n, 1) for n in range(500)))
    assert read(suffix, b"".join(frames)) == list(range(500))
    with pytest.raises(PolarSourceError, match="cannot be read"):
        read(suffix, b"".join(frames) + b"more")


@SUFFIXES
def test_a_compressed_file_of_no_bytes_is_refused_and_one_of_no_rows_is_not(suffix: str) -> None:
    with pytest.raises(PolarSourceError, match="the file is empty"):
        read(suffix, b"")
    assert read(suffix, compressed(suffix, b"")[0]) == []


def test_frames_to_be_skipped_and_frames_without_a_checksum_or_size() -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = zstandard.ZstdCompressor(write_content_size=False, write_checksum=False).compress(lines(0, 9))
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    assert read(".zst", skipped + plain + skipped) == list(range(9))
    for end in range(len(skipped) + 1, len(skipped + plain)):
        with pytest.raises(PolarSourceError):
            read(".zst", (skipped + plain)[:end])


@pytest.mark.parametrize("cell", ['["ab","cd"]', "[]", "7", '"text"', "null", "true", "[" * 100_000, '{"a": 1', ""])
def test_metadata_of_a_csv_that_is_no_object_is_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'name,metadata\na,"{cell.replace(chr(34), chr(34) * 2)}"\n')
    (row,) = rows_of_files([path])
    assert row.error == ("metadata is not a JSON object" if cell else None)


def test_metadata_in_a_column_of_its_own_and_as_an_object_is_told_where_it_is_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('name,metadata,metadata.b\na,"{""a"": 1}",2\nb,"{""b"": 1}",2\nc,,2\nd,"{""b"": 1}",\n')
    rows = list(rows_of_files([path]))
    assert [row.value["metadata"] for row in rows if row.error is None] == [{"a": 1, "b": "2"}, {"b": "2"}, {"b": 1}]
    assert rows[1].error == "metadata has 'b' twice: in the column metadata and in one of its own"


def test_a_struct_of_parquet_and_columns_of_metadata_are_one_object(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    rows = [
        {"name": "a", "metadata": {"x": 1}, "metadata.y": 2},
        {"name": "b", "metadata": {"x": None}, "metadata.y": 3},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert [row.value["metadata"] for row in rows_of_files([path])] == [{"x": 1, "y": 2}, {"y": 3}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def spoilt(text: str, position: int, change: str) -> str:
    position %= len(text) + 1
    return text[:position] + change + text[position + 1 :]


changes = st.sampled_from(
    [*'0123456789.-+eE"\\{}[],: \t\r\x00\x01\x7f\xa0é', "\\u00e9", "\\ud800", "1e400", "NaN", "//"]
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values, st.booleans(), st.lists(st.tuples(st.integers(0, 200), changes), max_size=2))
@example("\ud800", True, [])
@example({"a": float("nan"), "b": 1e300 * 1e10}, True, [])
def test_a_line_is_what_pythons_decoder_makes_of_it(value: Any, ascii_only: bool, spoil: list[tuple[int, str]]) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    for position, change in spoil:
        text = spoilt(text, position, change)
    line = text.encode(errors="surrogatepass")
    got, error = json_value(line)
    try:
        expected = json.loads(line.decode())
    except ValueError:
        assert error is not None
    else:
        assert (repr(got), error) == (repr(expected), None)
