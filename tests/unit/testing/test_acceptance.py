"""The acceptance suite: this provider passes every trap, and a client that reads page by page does not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.testing.acceptance import __main__ as program
from airflow_provider_polar.testing.acceptance import clients
from airflow_provider_polar.testing.acceptance.adapters import run as contract
from airflow_provider_polar.testing.acceptance.clients import PEERS, Client, ClientFailed, NotOffered, client_of
from airflow_provider_polar.testing.acceptance.other_hosts import OtherHosts
from airflow_provider_polar.testing.acceptance.table import Result, table
from airflow_provider_polar.testing.acceptance.trap import TRAPS, Run, Verdict, judged, spring
from airflow_provider_polar.testing.acceptance.traps.contents import described, filled
from tests.paths import DATA, ROOT

PAGE_BY_PAGE = f"{sys.executable} {Path(__file__).with_name('page_by_page.py')}"


class InThisProcess(Client):
    """A known client without the seconds that a process of its own takes to import Airflow."""

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], given: str = "") -> str:
        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.StringIO(given))
            try:
                code = contract.main([self.name, *arguments])
            except Exception as error:
                raise ClientFailed(f"{type(error).__name__}: {error}") from error
        if code == contract.NOT_OFFERED:
            raise NotOffered
        return output.getvalue()


@pytest.mark.parametrize("name", list(TRAPS))
def test_this_provider_passes_every_trap(name: str, tmp_path: Path) -> None:
    assert spring(InThisProcess("ours", ()), name, seed=7, folder=tmp_path) == Verdict()


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("window-edges", "LOST 6"),
        ("ties", "LOST"),
        ("dense-millisecond", "LOST"),
        ("short-pages", "ok"),
        ("duplicates", "TWICE 5"),
        ("rows-left-out", "LOST"),
        ("identical-reads", "ok"),
        ("late-events", "not offered"),
        ("future-state", "not offered"),
        ("new-names", "ok"),
        ("every-field", "ok"),
        ("ingest-503", "ok"),
        ("ingest-lost-responses", "TWICE"),
        ("ingest-lost-responses-with-ids", "ok"),
        ("other-hosts", "ok"),
    ],
)
def test_a_client_that_reads_page_by_page(name: str, verdict: str, tmp_path: Path) -> None:
    found = spring(client_of(PAGE_BY_PAGE, tmp_path), name, seed=1, folder=tmp_path)
    assert found.text == verdict if verdict[-1].isdigit() else found.text.startswith(verdict), found


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    verdicts = []
    for place, seed in enumerate((1, 1, 2, 3, 4)):
        folder = tmp_path / str(place)
        folder.mkdir()
        verdicts.append(spring(client_of(PAGE_BY_PAGE, tmp_path), "rows-left-out", seed, folder))
    assert verdicts[0] == verdicts[1]
    assert len(set(verdicts)) > 1


class TestCommands:
    @pytest.fixture
    def client_that(self, tmp_path: Path) -> Any:
        def make(code: str) -> Client:
            return Client("it", [sys.executable, "-c", code])

        return make

    @pytest.mark.parametrize(
        ("code", "detail"),
        [
            ("import sys; sys.exit('first\\nsecond')", "second"),
            ("import sys; sys.exit(9)", "exit status 9"),
            ("print('{')", "a line of its output is not JSON"),
            ("import time; time.sleep(60)", "it has not ended after 1 s"),
        ],
    )
    def test_a_failure_is_told(
        self, client_that: Any, tmp_path: Path, code: str, detail: str, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(clients, "PATIENCE", 1.0 if "sleep" in code else 60.0)
        assert spring(client_that(code), "ties", 1, tmp_path) == Verdict(detail=detail)

    def test_a_command_that_is_not_there(self, tmp_path: Path) -> None:
        assert "no-such-client" in spring(client_of("no-such-client", tmp_path), "ties", 1, tmp_path).detail

    def test_what_a_failed_ingest_did_not_send_is_not_lost(self, client_that: Any, tmp_path: Path) -> None:
        assert spring(client_that("import sys; sys.exit('no')"), "ingest-503", 1, tmp_path).text == "failed"
        (tmp_path / "state").rmdir()
        assert spring(client_that(""), "ingest-503", 1, tmp_path).text == "LOST 2,000"

    @pytest.mark.parametrize(
        "code",
        [
            "import urllib.request; urllib.request.urlopen('http://elsewhere.example/')",
            "import urllib.request; urllib.request.urlopen('https://elsewhere.example/')",
            "import socket; socket.create_connection(('elsewhere.example', 443))",
        ],
        ids=["http through the proxy", "https through the proxy", "without the proxy"],
    )
    def test_another_host_is_seen_and_not_reached(self, client_that: Any, tmp_path: Path, code: str) -> None:
        client = client_that(f"try:\n    {code}\nexcept OSError: pass\nelse: raise SystemExit('reached')")
        assert spring(client, "other-hosts", 1, tmp_path).detail == "it tried to reach elsewhere.example"

    def test_every_known_client_has_an_adapter(self, tmp_path: Path) -> None:
        folder = Path(contract.__file__).parent
        for adapter, _ in PEERS.values():
            assert contract.load(adapter).DISTRIBUTION, folder

    def test_a_peer_is_installed_once(self, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
        commands: list[Sequence[str]] = []

        def pretend(command: Sequence[str], **_: Any) -> None:
            commands.append(command)
            (tmp_path / ".venv-acceptance-dlt").mkdir(exist_ok=True)

        monkeypatch.setattr(subprocess, "run", pretend)
        first, second = client_of("dlt", tmp_path), client_of("dlt", tmp_path)
        assert first == second
        assert first.command[0] == str(tmp_path / ".venv-acceptance-dlt/bin/python")
        assert [command[1:4] for command in commands] == [["-m", "venv", "--clear"], ["-m", "pip", "install"]]
        assert "dlt" in capsys.readouterr().err


def test_a_surplus_and_a_lack_are_counted() -> None:
    assert judged("aab", "ab", "cc") == Verdict(lost=1, twice=2)
    assert [Verdict(lost=1_000, twice=2).text, Verdict(detail="x").text, Verdict(twice=1, detail="x").text] == [
        "LOST 1,000, TWICE 2",
        "failed",
        "TWICE 1",
    ]


def test_the_table() -> None:
    results = [
        Result("ours", "ties", 3, Verdict(), 1.0),
        Result("ours", "late-events", 3, Verdict(), 1.0),
        Result("node it.js", "ties", 3, Verdict(lost=2), 1.0),
        Result("node it.js", "late-events", 3, Verdict(detail="no route"), 1.0),
    ]
    assert table(results, {"ours": "1.2", "node it.js": ""}).splitlines() == [
        "| trap        | ours 1.2 | node it.js |",
        "| ----------- | -------- | ---------- |",
        "| ties        | ok       | LOST 2     |",
        "| late-events | ok       | failed     |",
        "",
        "node it.js, ties: LOST 2",
        "  python -m airflow_provider_polar.testing.acceptance --client 'node it.js' --trap ties --seed 3",
        "",
        "node it.js, late-events: failed (no route)",
        "  python -m airflow_provider_polar.testing.acceptance --client 'node it.js' --trap late-events --seed 3",
    ]


class TestProgram:
    def test_a_failure_can_be_repeated_by_its_command(self, tmp_path: Path) -> None:
        arguments = ["--client", PAGE_BY_PAGE, "--trap", "rows-left-out", "--seed", "5", "--json"]
        outcomes = []
        for _ in range(2):
            command = [sys.executable, "-m", "airflow_provider_polar.testing.acceptance", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
            assert done.returncode == 1, done.stderr
            [result] = json.loads(done.stdout)["results"]
            assert result["verdict"].startswith("LOST")
            del result["seconds"]
            outcomes.append(result)
            arguments = [*shlex.split(result["command"])[3:], "--json"]
        assert outcomes[0] == outcomes[1]

    def test_this_provider_in_a_process_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert program.main(["--trap", "window-edges"]) == 0
        from airflow_provider_polar import __version__

        head, _, row = capsys.readouterr().out.strip().splitlines()
        assert head == f"| trap         | ours {__version__} |"
        assert row.split("|")[1:3] == [" window-edges ", " ok         "]
        assert os.listdir(tmp_path) == []

    def test_the_help_describes_every_trap(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            program.main(["--help"])
        told = capsys.readouterr().out
        assert all(name in told and str(function.__doc__) in told for name, function in TRAPS.items())


def test_the_page_tells_of_every_trap() -> None:
    page = (ROOT / "docs" / "acceptance.md").read_text()
    for name, function in TRAPS.items():
        assert f"| `{name}` | {function.__doc__} |" in page
    assert all(f"`{name}`" in page for name in PEERS)


class TestDescription:
    """The trap of every field against Polar's own description."""

    SCHEMAS: dict[str, Any] = json.loads((DATA / "openapi" / "polar-events.openapi.json").read_text())["components"][
        "schemas"
    ]

    def described(self, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
        """The paths of the fields that a schema has and that are no objects."""
        if "$ref" in schema:
            schema = self.SCHEMAS[schema["$ref"].rsplit("/", 1)[1]]
        variants = [variant for variant in schema.get("anyOf", schema.get("oneOf", [])) if variant != {"type": "null"}]
        if variants:
            for variant in variants:
                yield from self.described(variant, path)
        elif "properties" in schema:
            for name, inner in schema["properties"].items():
                yield from self.described(inner, f"{path}.{name.lstrip('_')}")
        elif schema.get("type") != "object":  # metadata has no fields of its own
            yield path

    def test_every_field_is_filled(self, tmp_path: Path) -> None:
        mapping = self.SCHEMAS["SystemEvent"]["discriminator"]["mapping"]
        with LocalPolar() as polar, OtherHosts() as hosts:
            run = Run(polar, Client("none", ()), random.Random(1), hosts, tmp_path)
            polar.add_events(described(run))
            events = polar.events()
        for schema in ({"$ref": ref} for ref in (*mapping.values(), "#/components/schemas/UserEvent")):
            name = schema["$ref"].rsplit("/", 1)[1]
            named = next((name for name, ref in mapping.items() if ref == schema["$ref"]), None)
            given = {
                path
                for event in events
                if (event["name"] == named if named else event["source"] == "user")
                for path in filled(event)
            }
            assert set(self.described(schema)) - given == set(), name
