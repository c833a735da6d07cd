"""The documentation builds without a warning, and every code block of it and of the README does what it says."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import FENCE, PAGES, ROOT


def blocks(*languages: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[2] in languages:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[3], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def test_no_block_is_of_a_language_without_a_test():
    known = {"python", "json", "console", "mermaid", "text", "{mermaid}", "{toctree}", "{literalinclude}", "{include}"}
    known |= {"{eval-rst}", "{note}"}
    found = {match[2] for page in PAGES for match in FENCE.finditer(page.read_text())}
    assert found <= known


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, polar_server: Any, polar_connection: str, tmp_path: Path) -> None:
    """Each by itself; those with tests in them are run by the fixtures that they name."""
    polar_server.seed("demo")
    names: dict[str, Any] = {"__name__": "block"}
    if "def test_" in code:
        path = tmp_path / "test_block.py"
        path.write_text(code)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return
    exec(compile(code, "block", "exec"), names)
    if "with DAG(" in code:
        assert names["dag"].task_ids


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_are_formatted_as_the_project_is(code: str) -> None:
    ast.parse(code)
    pytest.importorskip("ruff")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "96", "-"],
        input=code,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", blocks("json"))
def test_json_blocks_are_json(text: str) -> None:
    json.loads(text)


@pytest.mark.parametrize("text", blocks("console"))
def test_console_blocks_are_commands_that_there_are(text: str) -> None:
    for line in text.splitlines():
        assert line.startswith("$ "), line
        command = line[2:]
        assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0, line
        if command.startswith("export AIRFLOW_CONN"):
            assert read_connection(command).conn_type == "polar"
        for target in re.findall(r"^make ([a-z-]+)", command):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        for module in re.findall(r"python -m (benchmarks\.\w+)", command):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), line


def read_connection(command: str) -> Any:
    """The connection that an ``export AIRFLOW_CONN_...`` makes, read by Airflow and by the hook."""
    from airflow.models.connection import Connection

    from airflow_provider_polar.hooks.settings import ConnectionSettings

    value = subprocess.run(
        ["bash", "-c", f'{command}; printf %s "$AIRFLOW_CONN_POLAR_DEFAULT"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if value.startswith("{"):
        connection = Connection.from_json(value, conn_id="polar_default")
    else:
        connection = Connection(uri=value, conn_id="polar_default")
    settings = ConnectionSettings.read(connection)
    assert settings.environment == "sandbox"
    assert settings.base_url == "https://sandbox-api.polar.sh"
    assert settings.token == "polar_oat_..."
    return connection


def test_the_form_is_documented():
    """Every field of the connection form, and every error class."""
    from airflow_provider_polar import exceptions
    from airflow_provider_polar.hooks.connection_form import CONN_FIELDS

    connection = (ROOT / "docs/connection.md").read_text()
    for name, field in CONN_FIELDS.items():
        assert f"`{name}` | {field['label']} |" in connection
    troubleshooting = (ROOT / "docs/troubleshooting.md").read_text()
    abstract = {"PolarError", "PolarApiError"}
    for name, value in vars(exceptions).items():
        if isinstance(value, type) and issubclass(value, exceptions.PolarError) and name not in abstract:
            assert f"| `{name}` |" in troubleshooting, name


def test_links_between_files_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_example_is_shown():
    shown = (ROOT / "docs/examples.md").read_text()
    for path in (ROOT / "dags_examples").glob("*.py"):
        assert f"../dags_examples/{path.name}" in shown


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip(
        "airflow.sdk.definitions.retry_policy", reason="the reference is made with Airflow 3.3 or newer"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html/how-it-works.html").read_text()
    assert page.count('<div class="diagram"') == 2
    assert "<svg" in page
    labels = re.findall(r'<foreignObject width="([\d.]+)"', (tmp_path / "html/index.html").read_text())
    assert len(labels) == 11
    # At 200 pixels Mermaid breaks a label, and what has no place for a break is cut.
    assert all(float(width) < 200 for width in labels)


# The pages' DAGs, run as they stand


@pytest.fixture
def docs_dag(polar_connection: str, tmp_path: Path) -> Any:
    """Loads a DAG of a page by its id; its files go to a temporary folder."""

    def load(dag_id: str, page: str = "docs/") -> Any:
        found = [block.values[0] for block in blocks("python") if block.id.startswith(page)]
        [code] = [code for code in found if re.search(rf'DAG\(\s*"{dag_id}"', code)]
        file = tmp_path / f"{dag_id}.py"  # Airflow reads the source of a function that is mapped over
        file.write_text(code.replace("file:///tmp", f"file://{tmp_path}"))
        return runpy.run_path(str(file))["dag"]

    return load


@pytest.fixture
def readme_dag(docs_dag: Any) -> Any:
    return lambda dag_id: docs_dag(dag_id, "README.md")


@pytest.mark.parametrize("dated", [True, False], ids=["of an hour", "without a logical date"])
def test_readme_ingest(readme_dag: Any, run_dag: Any, polar_server: Any, dated: bool) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    run = run_dag(readme_dag("bill_usage"), logical_date=hour, dated=dated)
    assert run.state == "success"
    assert run.xcom("ingest")["inserted"] == 2
    assert {e["external_customer_id"]: e["metadata"]["calls"] for e in polar_server.events()} == {
        "acme": 120,
        "globex": 7,
    }


def test_taskflow_ingest_bills_once(docs_dag: Any, run_dag: Any, polar_server: Any) -> None:
    """The first response is lost, and the task is run again in another run."""
    polar_server.fail("lost_response", path="ingest", times=1)
    first = run_dag(docs_dag("bill_orders"))
    assert first.state == "success"
    assert first.xcom("bill") == {"inserted": 0, "duplicates": 2}
    assert run_dag(docs_dag("bill_orders")).xcom("bill") == {"inserted": 0, "duplicates": 2}
    assert polar_server.count() == 2


def test_ingest_page_without_a_logical_date(docs_dag: Any, run_dag: Any, polar_server: Any) -> None:
    assert run_dag(docs_dag("bill_usage", "docs/ingest.md"), dated=False).xcom("ingest")["inserted"] == 1


def test_an_incomplete_export_is_told(docs_dag: Any, run_dag: Any, polar_server: Any) -> None:
    hour = datetime(2026, 11, 1, 10, tzinfo=UTC)
    polar_server.add_events(
        {"name": "call", "timestamp": hour + timedelta(minutes=n), "external_customer_id": "a"} for n in range(9)
    )
    polar_server.add_events([{"name": "call", "timestamp": hour, "external_customer_id": "a"}], store=False)
    run = run_dag(docs_dag("export_and_tell"), logical_date=hour + timedelta(hours=1))
    assert run.states() == {"export": "success", "tell": "failed"}
    assert (run.xcom("export")["rows"], run.xcom("export")["complete"]) == (9, False)


def test_each_name_is_exported(docs_dag: Any, run_dag: Any, polar_server: Any) -> None:
    day = datetime(2026, 11, 1, tzinfo=UTC)
    polar_server.add_events({"name": name, "timestamp": day, "external_customer_id": "a"} for name in ("one", "two"))
    run = run_dag(docs_dag("export_each_name"), logical_date=day + timedelta(days=1))
    assert run.xcom("names") == ["one", "two"]
    assert [run.xcom("export", map_index=n)["rows"] for n in range(2)] == [1, 1]


def test_one_event_is_looked_at(docs_dag: Any, run_dag: Any, polar_server: Any) -> None:
    day = datetime(2026, 11, 1, tzinfo=UTC)
    polar_server.add_events([{"name": "order.paid", "timestamp": day, "external_customer_id": "acme"}])
    assert run_dag(docs_dag("look_at_the_order"), logical_date=day).xcom("order")["name"] == "order.paid"


def test_readme_export(readme_dag: Any, run_dag: Any, polar_server: Any) -> None:
    hour = datetime(2026, 11, 1, 10, tzinfo=UTC)
    polar_server.add_events(
        {"name": "call", "timestamp": hour + timedelta(minutes=n), "external_customer_id": "a"} for n in range(-5, 65)
    )
    run = run_dag(readme_dag("export_events"), logical_date=hour + timedelta(hours=1))
    assert run.state == "success"
    assert (run.xcom("export")["rows"], run.xcom("export")["complete"]) == (60, True)


def test_readme_wait(readme_dag: Any, run_dag: Any, polar_server: Any) -> None:
    day = datetime(2026, 11, 1, tzinfo=UTC)
    polar_server.add_customer(external_id="acme")
    polar_server.add_events([{"name": "order.paid", "timestamp": day, "external_customer_id": "acme"}])
    run = run_dag(readme_dag("ship"), logical_date=day)
    assert run.state == "success"
    assert run.xcom("ship") == "1 orders since 2026-11-01T00:00:00Z"
