"""How Airflow finds the ledger, and what every process of Airflow pays for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

from tests.paths import ROOT


def test_the_entry_point_leads_to_a_plugin() -> None:
    from airflow.plugins_manager import is_valid_plugin

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [(name, value)] = project["entry-points"]["airflow.plugins"].items()
    plugin = EntryPoint(name, value, "airflow.plugins").load()
    assert is_valid_plugin(plugin)
    assert plugin.name == name
    assert [app["url_prefix"] for app in plugin.fastapi_apps] == ["/polar"]
    [view] = [view for view in plugin.external_views if view["destination"] == "nav"]
    assert (view["name"], view["href"]) == ("Polar", "/polar/")


def test_it_moves_with_airflow_behind_a_path() -> None:
    script = "from airflow_provider_polar.plugins.ledger import plugin; print(plugin.PolarLedgerPlugin.external_views)"
    told = run(script, AIRFLOW__API__BASE_URL="https://host.example/team/airflow/")
    assert "'/team/airflow/polar/'" in told


def test_every_process_imports_next_to_nothing() -> None:
    script = """
import sys
import airflow.plugins_manager, airflow.providers.common.compat.sdk
before = set(sys.modules)
from airflow_provider_polar.plugins.ledger.plugin import PolarLedgerPlugin
print(*sorted(name for name in set(sys.modules) - before))
"""
    new = run(script).split()
    assert "airflow_provider_polar.plugins.ledger.plugin" in new
    assert [name for name in new if name.partition(".")[0] in ("fastapi", "starlette", "httpx", "msgspec")] == []


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
