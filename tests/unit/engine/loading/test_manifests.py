"""Manifests as they are handed over, and files that are not what they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.engine.loading.manifests import ExportedWindow, manifest_paths
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError
from tests.unit.engine.loading.exports import events_of, exported
from tests.unit.engine.rows import HOUR

LAYOUTS = [
    {"file_format": "jsonl"},
    {"file_format": "jsonl", "compression": "gzip", "max_file_rows": 7},
    {"file_format": "csv", "compression": "zstd"},
    {"file_format": "parquet", "max_file_rows": 7},
]


def a(name: str) -> str:
    return f"/out/{name}.manifest.json"


def test_one_several_and_results_with_what_their_look_back_changed() -> None:
    result = {"manifest": a("3"), "rows": 5, "changed": [{"manifest": a("1"), "rows": 2}, {"manifest": a("2")}]}
    assert manifest_paths(a("1")) == [a("1")]
    assert manifest_paths([a("2"), a("1"), a("2")]) == [a("2"), a("1")]
    assert manifest_paths(result) == [a("1"), a("2"), a("3")]
    assert manifest_paths([result, {"manifest": a("4")}]) == [a("1"), a("2"), a("3"), a("4")]
    assert manifest_paths({"equal": 3, "changed": [{"start": "", "end": ""}], "exported": [{"manifest": a("5")}]}) == [
        a("5")
    ]
    assert manifest_paths([]) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "manifest is None; it is the path of a manifest, or the result of an export"),
        ({"rows": 5}, "manifest is a dict without 'manifest': it is not the result of an export"),
        ("/out/events.jsonl", "manifest is '/out/events.jsonl'; the path of a manifest ends in manifest.json"),
        (str({"manifest": a("1")}), "manifest is the text of an export's result"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(given: Any, told: str) -> None:
    with pytest.raises(PolarConfigurationError) as caught:
        manifest_paths(given)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_events_of_every_format(tmp_path: Path, layout: dict[str, Any]) -> None:
    due = events_of(HOUR)
    due[3]["new_field"] = {"a": 1}
    due[4]["metadata"] = {}
    window = exported(tmp_path, due, **layout)
    given = list(window.events())
    assert [event["id"] for event in given] == [event["id"] for event in due]
    assert [event.get("metadata") or {} for event in given] == [event["metadata"] for event in due]
    assert [event.get("new_field") for event in given] == [event.get("new_field") for event in due]
    assert window.manifest.rows == 20
    assert window.url.endswith(".manifest.json")


def test_a_file_that_is_gone_cut_or_changed_is_told_before_its_first_event(tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR), max_file_rows=7)
    second = tmp_path / window.manifest.files[1].path
    content = second.read_bytes()
    for bad in (content[:-1], content.replace(b"tokens", b"Tokens"), None):
        second.unlink() if bad is None else second.write_bytes(bad)
        given = window.events()
        for _ in range(7):
            next(given)
        with pytest.raises(PolarSourceError) as caught:
            next(given)
        assert f"file://{second} is not the file that {window.url} names" in str(caught.value)
        assert "SHA-256" in str(caught.value)


def test_a_file_with_other_rows_than_its_manifest_says(tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR))
    path = tmp_path / window.name
    content = json.loads(path.read_text())
    content["files"][0]["rows"] = 21
    path.write_text(json.dumps(content))
    with pytest.raises(PolarSourceError, match="it holds 7 rows, the manifest says 21"):
        list(ExportedWindow.read(window.directory, window.name).events())


def test_manifests_that_are_not_there_torn_or_without_ids(tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR))
    with pytest.raises(PolarSourceError, match=r"there is no manifest file:///.*/other\.manifest\.json: export"):
        ExportedWindow.read(window.directory, "other.manifest.json")
    (tmp_path / "torn.manifest.json").write_bytes(b"{")
    with pytest.raises(PolarSourceError, match="is not a manifest of an export"):
        ExportedWindow.read(window.directory, "torn.manifest.json")
    content = json.loads((tmp_path / window.name).read_text())
    content["fields"].remove("id")
    (tmp_path / "no_ids.manifest.json").write_text(json.dumps(content))
    with pytest.raises(PolarSourceError, match="has no id, so its events cannot be told apart in a table"):
        ExportedWindow.read(window.directory, "no_ids.manifest.json")


def test_the_same_export_has_the_same_digest(tmp_path: Path) -> None:
    one, two = (exported(tmp_path / name, events_of(HOUR)) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert exported(tmp_path / "three", events_of(HOUR)[1:]).sha256 != one.sha256
