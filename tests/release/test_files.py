"""What is published: metadata always; the files, built and installed into an empty environment, on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
on_demand = pytest.mark.skipif(not os.environ.get("RELEASE_CHECK"), reason="takes minutes: run `make release-check`")
pytestmark = pytest.mark.release


def test_the_metadata_that_the_ecosystem_page_looks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"Framework :: Apache Airflow", "Framework :: Apache Airflow :: Provider"} <= set(project["classifiers"])
    assert {"airflow", "airflow-provider", "polar"} <= set(project["keywords"])
    assert project["entry-points"]["apache_airflow_provider"].keys() == {"provider_info"}
    assert project["license"] == "Apache-2.0"
    # Where the project will live is not known before its first release, and no address is invented.
    urls = project.get("urls", {})
    assert not urls or {"Documentation", "Source", "Changelog"} <= urls.keys()


def test_the_changelog_has_airflow_s_form_and_this_version():
    from airflow_provider_polar import __version__

    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {__version__}\n" in changelog
    headings = {line[4:] for line in changelog.splitlines() if line.startswith("### ")}
    assert headings
    assert headings <= {"Breaking changes", "Features", "Bug Fixes", "Misc"}


def test_workflows_are_yaml_and_pin_no_token():
    yaml = pytest.importorskip("yaml")

    for path in (ROOT / ".github/workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        assert "secrets." not in path.read_text()
        for job in workflow["jobs"].values():
            assert all("uses" in step or "run" in step for step in job["steps"])
    published = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["publish"]
    assert published["permissions"] == {"id-token": "write"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel, which was built from the source distribution, and that."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@on_demand
def test_the_wheel_holds_our_package_only(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        described = Parser().parsestr(archive.read(metadata).decode())
    assert {name.split("/")[0] for name in names} == {"airflow_provider_polar", metadata.split("/")[0]}
    packaged = {name for name in names if name.startswith("airflow_provider_polar/")}
    tracked = subprocess.run(
        ["git", "ls-files", "airflow_provider_polar"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert packaged >= set(tracked)
    assert not [name for name in packaged if not name.endswith((".py", "py.typed"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert described["Name"] == "airflow-provider-polar"
    assert "A complete window" in str(described.get_payload())


@on_demand
def test_the_source_distribution_holds_what_its_tests_need(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py", "docs/index.md"} <= names
    assert not [name for name in names if name.startswith((".venv", ".demo", "docs/_build"))]


@on_demand
def test_it_works_from_the_wheel_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    from importlib.metadata import version

    [wheel] = dist.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv/bin/python"
    airflow = f"apache-airflow=={version('apache-airflow')}"
    subprocess.run([python, "-m", "pip", "install", "-q", airflow, str(wheel)], check=True, timeout=900)
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONWARNINGS": "default",
    }

    def run(*command: Any) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        ours = [line for line in done.stderr.splitlines() if "Warning" in line and "airflow_provider_polar" in line]
        assert ours == []
        return done.stdout

    assert "airflow_provider_polar" in run(
        python, "-c", "import airflow_provider_polar; print(airflow_provider_polar.__file__)"
    )
    [provider] = json.loads(run("airflow", "providers", "get", "airflow-provider-polar", "--output", "json"))
    assert "airflow-provider-polar" in str(provider)
    assert "polar" in run("airflow", "providers", "hooks", "--output", "json")
    run("airflow", "db", "migrate")
    for example in sorted((ROOT / "dags_examples").glob("*.py")):
        run(python, "-W", "error::DeprecationWarning:airflow_provider_polar", example)
    usage = tmp_path / "usage.py"
    usage.write_text(_USAGE)
    assert run(python, "-m", "airflow_provider_polar.testing", "--", python, usage).splitlines()[-1] == "1 event"


_USAGE = """
from airflow_provider_polar.hooks.polar import PolarHook

hook = PolarHook()
hook.ingest_events([{"name": "call", "external_customer_id": "acme", "external_id": "1"}])
print(len(list(hook.list_events())), "event")
"""
