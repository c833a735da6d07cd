"""Imports only go down, and a DAG file that imports the provider parses fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import PACKAGE

OURS = PACKAGE / "testing/acceptance/adapters/ours.py"
"""Testing stands alone, but for this module, by which the provider is a client under acceptance like others."""
FACE = (
    "hooks",
    "operators",
    "sensors",
    "triggers",
    "windows",
    "assets",
    "links",
    "notifications",
    "decorators",
    "transfers",
)


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            found.add(node.module)
    return found


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("floor", "forbidden"),
    [
        ("api", ["airflow", *(f"airflow_provider_polar.{room}" for room in (*FACE, "engine", "testing"))]),
        ("engine", ["airflow", *(f"airflow_provider_polar.{room}" for room in (*FACE, "testing"))]),
        ("testing", ["airflow", *(f"airflow_provider_polar.{room}" for room in (*FACE, "engine", "api"))]),
    ],
)
def test_imports_only_go_down(floor, forbidden):
    modules = set((PACKAGE / floor).rglob("*.py")) - {OURS}
    assert modules
    climbing = {
        f"{module.relative_to(PACKAGE)} imports {name}"
        for module in modules
        for name in imports(module)
        if below(name, *forbidden)
    }
    assert not climbing


def test_what_a_dag_file_imports_is_light():
    script = """
import sys
from airflow.sdk import DAG, BaseOperator
before = set(sys.modules)
import airflow_provider_polar.operators.export, airflow_provider_polar.operators.ingest
import airflow_provider_polar.sensors.event, airflow_provider_polar.transfers.events_to_sql
print(*sorted(name.split(".")[0] for name in set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    new = set(run.stdout.split())
    assert "airflow_provider_polar" in new
    assert new & {"httpx", "pydantic", "pyarrow", "sqlalchemy", "pendulum", "msgspec", "tenacity", "fsspec"} == set()
    assert not [name for name in new if name.startswith(("duckdb", "psycopg", "pymysql", "MySQLdb"))]


def test_docstrings_begin_with_a_summary():
    bare = [
        f"{module.relative_to(PACKAGE)}: {node.name}"
        for module in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (ast.get_docstring(node) or "").startswith(":")
    ]
    assert not bare
