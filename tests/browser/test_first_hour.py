"""What somebody does with Airflow's pages in the first hour, in order: each test goes on where the one before ended."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from airflow_provider_polar.hooks.connection_form import CONN_FIELDS, PLACEHOLDERS, RELABELING
from tests.browser.conftest import TOKEN

pytestmark = pytest.mark.browser

RUN_STATE = "dags/flights_pipeline/dagRuns"


def open_connections(page: Any, airflow: Any) -> None:
    page.goto(f"{airflow.url}/connections")
    page.get_by_role("button", name="Add Connection").wait_for()


def save(page: Any, dialog: Any) -> None:
    dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="detached")


def toast(page: Any, airflow: Any, title: str) -> str:
    """Presses Test and returns what pops up under this title."""
    page.get_by_role("button", name="Test Connection").click()
    popup = page.get_by_role("status").filter(has_text=title)
    popup.wait_for()
    return str(popup.inner_text())


def test_the_form_explains_itself(page, airflow, polar, screenshot):
    open_connections(page, airflow)
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[name=connection_id]").fill("polar_default")
    dialog.get_by_role("combobox").fill("Polar")
    dialog.get_by_role("combobox").press("Enter")
    for name, label in RELABELING.items():
        dialog.get_by_text(label, exact=True).wait_for()
        assert dialog.locator(f"input[name={name}]").get_attribute("placeholder") == PLACEHOLDERS[name]
    assert dialog.locator("input[name=password]").get_attribute("type") == "password"
    assert dialog.locator("input[name=login], input[name=schema]").count() == 0
    screenshot("connection-standard-fields")

    dialog.locator("input[name=password]").fill(TOKEN)
    dialog.locator("input[name=host]").fill(polar.base_url)
    dialog.locator("input[name=port]").fill(polar.base_url.rpartition(":")[2])
    dialog.get_by_role("button", name="Extra Fields", exact=True).click()
    for described in CONN_FIELDS.values():
        dialog.get_by_text(described["label"], exact=True).wait_for()
        assert dialog.get_by_text(described["description"]).is_visible()
    environment = dialog.get_by_role("combobox").nth(1)
    environment.click()
    assert page.get_by_role("option").all_inner_texts() == ["production", "sandbox"]
    page.get_by_role("option", name="sandbox").click()
    dialog.get_by_text([*CONN_FIELDS.values()][-1]["description"]).scroll_into_view_if_needed()
    screenshot("connection-extra-fields")
    save(page, dialog)

    stored = airflow.get("connections/polar_default")
    assert (stored["conn_type"], stored["host"], stored["password"]) == ("polar", polar.base_url, "***")
    assert '"environment": "sandbox"' in stored["extra"]


def test_the_test_button_is_green(page, airflow, polar, screenshot):
    open_connections(page, airflow)
    message = toast(page, airflow, "Success")
    assert polar.base_url in message
    assert "reading and ingesting work" in message
    assert f"{polar.count():,} events are visible" in message
    screenshot("connection-test-green")


def test_the_test_button_is_red_and_says_why(page, airflow, screenshot):
    open_connections(page, airflow)
    set_token(page, "polar_oat_mistyped")
    message = toast(page, airflow, "Failed")
    assert "Polar refused the access token" in message
    assert "polar_oat_mistyped" not in page.content()
    screenshot("connection-test-red")
    set_token(page, TOKEN)
    page.reload()
    assert "reading and ingesting work" in toast(page, airflow, "Success")


def set_token(page: Any, token: str) -> None:
    page.get_by_role("button", name="Edit Connection").click()
    dialog = page.get_by_role("dialog")
    password = dialog.locator("input[name=password]")
    assert password.input_value() == "***", "a stored token never comes back to the browser"
    password.fill(token)
    save(page, dialog)


def test_the_pipeline_turns_green(page, airflow, screenshot):
    wait_for(lambda: airflow.get("dags")["total_entries"] > 0, 60)
    assert airflow.get("importErrors")["import_errors"] == []
    page.goto(f"{airflow.url}/dags/flights_pipeline")
    page.get_by_role("button", name="Trigger Dag").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("A day of 2013, New York time").wait_for()
    screenshot("pipeline-trigger")
    dialog.get_by_role("button", name="Trigger").last.click()
    page.wait_for_url(re.compile("/runs/"))

    def finished() -> bool:
        runs = airflow.get(RUN_STATE)["dag_runs"]
        return bool(runs) and runs[0]["state"] in ("success", "failed")

    wait_for(finished, 300)
    page.reload()
    page.get_by_text("Success").first.wait_for()
    screenshot("pipeline-green")
    assert airflow.get(RUN_STATE)["dag_runs"][0]["state"] == "success"


TASK_PAGES = (
    ("ingest", "", "842 events inserted"),
    ("ingest", "/rendered_templates", "departures of"),
    ("ingest", "/xcom", "return_value"),
    ("ingest", "/details", "Try Number"),
    ("wait", "", "Found 842 events"),
    ("wait", "/rendered_templates", "flight.departed"),
    ("export/mapped/12", "/rendered_templates", "polar_default"),
    ("export/mapped/12", "/xcom", "return_value"),
    ("export/mapped/12", "", "complete"),
)


def test_task_pages_help_and_never_show_the_token(page, airflow, screenshot):
    run_id = airflow.get(RUN_STATE)["dag_runs"][0]["dag_run_id"]
    run = f"{airflow.url}/dags/flights_pipeline/runs/{run_id.replace('+', '%2B')}"
    for task, tab, text in TASK_PAGES:
        page.goto(f"{run}/tasks/{task}{tab}")
        page.get_by_text(text).first.wait_for()
        assert TOKEN not in page.content(), (task, tab)
    screenshot("export-log", height=450)


def test_operator_links_open(page, airflow, screenshot):
    run_id = airflow.get(RUN_STATE)["dag_runs"][0]["dag_run_id"]
    links = airflow.get(f"dags/flights_pipeline/dagRuns/{run_id}/taskInstances/export/links", map_index=12)
    assert set(links["extra_links"]) == {"Polar events", "Manifest"}
    page.goto(f"{airflow.url}/dags/flights_pipeline/runs/{run_id.replace('+', '%2B')}/tasks/export/mapped/12/details")
    link = page.get_by_role("link", name="Polar events")
    link.wait_for()
    address = str(link.get_attribute("href"))
    assert address == links["extra_links"]["Polar events"]
    assert address.startswith("https://sandbox.polar.sh/")
    assert "flight.departed" in address
    # Airflow shows no link that is not http: a manifest's appears for stores with a console, not for local files.
    assert links["extra_links"]["Manifest"].endswith(".manifest.json")
    screenshot("export-links", height=560)


def logs(airflow: Any) -> list[str]:
    paths = [airflow.log, *(path for path in (airflow.home / "logs").rglob("*") if path.is_file())]
    assert len(paths) > 20
    return [path.read_text(errors="replace") for path in paths]


def test_no_log_holds_the_token(airflow):
    assert [text[:200] for text in logs(airflow) if TOKEN in text] == []


def test_no_log_holds_a_warning_of_ours(airflow):
    lines = [line for text in logs(airflow) for line in text.splitlines() if "Warning" in line]
    assert [line for line in lines if "airflow_provider_polar" in line or "dags_examples" in line] == []


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(1)
