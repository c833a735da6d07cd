"""The ledger's page as people meet it: a week of windows in all states, over Airflow's own web server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import FLAGS, ROOT
from tests.browser.ledger_home import LENGTH, NUMBERS, WINDOWS
from tests.browser.standalone import WebServer

pytestmark = pytest.mark.browser

SECRET = "a secret of this test alone, as long as the algorithm that signs wants it to be"
EXAMPLES = ROOT / "dags_examples" / "ledger"
STATES = {number: state for state, numbers in NUMBERS.items() for number in numbers}
NOT_THERE = "no axe-core: set AXE to its axe.min.js, or install npm"


@pytest.fixture(scope="module")
def airflow(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """Airflow's web server over a week of real runs; ``first`` is where the week begins."""
    home = tmp_path_factory.mktemp("airflow-with-a-ledger")
    server = WebServer(
        home,
        EXAMPLES,
        {
            "POLAR_DEMO_LAKE": f"file://{home}/lake",
            "AIRFLOW__API_AUTH__JWT_SECRET": SECRET,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",  # in which there is no 401
            "NO_PROXY": "*",
        },
    )
    for command in (["airflow", "db", "migrate"], ["tests.browser.ledger_home", str(EXAMPLES)]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=server.environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with server:
        server.first = json.loads(done.stdout.splitlines()[-1])["first"]  # type: ignore[attr-defined]
        yield server


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: run `make browser`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark", "narrow"])
def look(request: pytest.FixtureRequest) -> Any:
    """How the page is looked at: its name and the browser's settings."""
    size = {"width": 400, "height": 1400} if request.param == "narrow" else {"width": 1280, "height": 960}
    return request.param, {"viewport": size, "color_scheme": "dark" if request.param == "dark" else "light"}


@pytest.fixture
def page(browser: Any, airflow: WebServer) -> Iterator[Any]:
    with opened(browser, airflow) as page:
        yield page


class opened:
    """The ledger in a browser that is logged in; what goes wrong in it, or goes elsewhere, fails the test."""

    def __init__(self, browser: Any, airflow: WebServer, role: str | None = "admin", **settings: Any) -> None:
        self.airflow = airflow
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 960}} | settings)
        token = {"name": "_token", "value": token_of(airflow, role), "url": airflow.url}
        self.context.add_cookies([token])
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._seen)

    def _seen(self, request: Any) -> None:
        if not request.url.startswith((self.airflow.url, "data:", "blob:")):
            self.wrong.append(request.url)

    def __enter__(self) -> Any:
        self.page.goto(f"{self.airflow.url}/polar/")
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page

    def __exit__(self, *_: Any) -> None:
        self.context.close()
        assert self.wrong == []


def token_of(airflow: WebServer, role: str | None) -> str:
    script = f"""
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
print(create_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role={role!r})))
"""
    done = subprocess.run([sys.executable, "-c", script], env=airflow.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def cells(page: Any) -> Any:
    return page.locator("[role=gridcell] .cell")


def window(airflow: WebServer, number: int, count: int = 1) -> tuple[datetime, datetime]:
    first = datetime.fromtimestamp(airflow.first, UTC)  # type: ignore[attr-defined]
    return first + number * LENGTH, first + (number + count) * LENGTH


def test_every_window_is_there_in_its_state(page: Any, airflow: WebServer) -> None:
    found = [str(label).rsplit(": ", 1) for label in cells(page).evaluate_all("all => all.map(one => one.ariaLabel)")]
    newest_group_first = sorted(found)
    assert len(newest_group_first) == WINDOWS
    told = {"exporting": "being exported", "changed": "changed since"}
    for number, (when, what) in enumerate(newest_group_first):
        start, _ = window(airflow, number)
        assert when.startswith(f"{start:%Y-%m-%d %H:%M} to "), number
        state = STATES.get(number, "verified")
        assert what.startswith(told.get(state, state)), number
        assert (", " in what) == (state not in ("hole", "failed", "exporting")), number
    assert page.get_by_text("From Airflow's metadata database").is_visible()
    assert page.get_by_text("Next window: ").is_visible()


@pytest.mark.parametrize("number", [0, *(numbers[0] for numbers in NUMBERS.values())])
def test_each_window_tells_and_leads_on(page: Any, airflow: WebServer, number: int) -> None:
    start, end = window(airflow, number)
    cell = page.get_by_label(f"{start:%Y-%m-%d %H:%M} to ").and_(cells(page))
    cell.hover()
    tip = page.get_by_role("tooltip")
    assert f"{start:%Y-%m-%d %H:%M}" in tip.inner_text()
    state = STATES.get(number, "verified")
    if state in ("verified", "incomplete", "changed", "exported"):
        assert f"events_{start:%Y%m%dT%H%M%SZ}_{end:%Y%m%dT%H%M%SZ}.manifest.json" in tip.inner_text()
        assert re.search(r"Files\s+1", tip.inner_text())
    if state == "hole":
        cell.click()
        assert page.locator("details.todo").get_attribute("open") is not None
        return
    run = re.search(r"(manual__\S+)", tip.inner_text().replace("\n", " "))
    assert run, tip.inner_text()
    assert re.fullmatch(r"\.\./dags/ledger_export/runs/[^/]+/tasks/export", str(cell.get_attribute("href")))


def test_the_command_that_exports_again_is_there_to_copy(page: Any, airflow: WebServer) -> None:
    iso = "%Y-%m-%dT%H:%M:%SZ"
    hole, changed = window(airflow, 40, 3), window(airflow, 30, 2)
    told = page.locator("details.todo code").all_inner_texts()
    backfill = f"--from-date {hole[0] + LENGTH:{iso}} --to-date {hole[1]:{iso}}"
    assert f"airflow backfill create --dag-id ledger_export {backfill}" in told
    clear = f"--start-date {changed[0] + LENGTH:{iso}} --end-date {changed[1]:{iso}}"
    assert f"airflow tasks clear --yes --task-regex '^export$' {clear} ledger_export" in told
    assert len(told) == 4
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("button.copy").first.click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == told[0]


def test_the_keyboard_is_enough(page: Any, airflow: WebServer) -> None:
    page.keyboard.press("Tab")  # the fold of the newest month
    page.keyboard.press("Tab")
    label = "document.activeElement.ariaLabel"
    first = str(page.evaluate(label))
    page.keyboard.press("ArrowRight")
    second = str(page.evaluate(label))
    page.keyboard.press("ArrowDown")
    below = str(page.evaluate(label))
    assert first < second < below
    assert second[11:16] == below[11:16], "the same hour of the next day"
    assert page.get_by_role("tooltip").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("tooltip").is_visible()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/dags/ledger_export/runs/.*/tasks/export"))


def test_airflow_shows_it_and_a_click_opens_the_run(page: Any, airflow: WebServer) -> None:
    from importlib.metadata import version

    if version("apache-airflow-core").startswith("3.0."):
        pytest.skip("Airflow 3.0 has no views of plugins in its navigation")
    page.goto(f"{airflow.url}/plugin/polar")
    frame = page.frame_locator("iframe")
    frame.locator("[role=gridcell] .failed").click()
    page.wait_for_url(re.compile("/dags/ledger_export/runs/.*/tasks/export"))
    page.get_by_text("Failed").first.wait_for()


def test_who_has_no_right_is_told_so(browser: Any, airflow: WebServer) -> None:
    with opened(browser, airflow, role=None) as page:
        assert "You may not see this" in page.get_by_role("status").inner_text()
        assert cells(page).count() == 0
        assert "ledger_export" not in page.content()
    with opened(browser, airflow) as page:
        page.context.clear_cookies()
        page.reload()
        page.get_by_text("You are not logged in").wait_for()


def test_it_looks_right(browser: Any, airflow: WebServer, look: Any, tmp_path: Path) -> None:
    name, settings = look
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    with opened(browser, airflow, **settings) as page:
        colors = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, document.documentElement.dataset.theme]"
        )
        assert colors == (["rgb(17, 17, 17)", "dark"] if name == "dark" else ["rgb(255, 255, 255)", "light"])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"
        page.evaluate("document.querySelector('h2').textContent = 's3://my-bucket/polar/events'")
        page.locator("[role=gridcell] .changed").first.focus()
        page.screenshot(path=folder / f"ledger-{name}.png")


def test_axe_finds_nothing_serious(browser: Any, airflow: WebServer, look: Any, axe: str) -> None:
    with opened(browser, airflow, **look[1]) as page:
        page.locator("[role=gridcell] .changed").first.focus()
        page.evaluate(axe)
        violations = page.evaluate("axe.run().then(({violations}) => violations)")
        serious = [one for one in violations if one["impact"] in ("serious", "critical")]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious] == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, which npm fetches into a temporary folder."""
    if path := os.environ.get("AXE"):
        return Path(path).read_text()
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(NOT_THERE)
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run([npm, "install", "--no-save", "--silent", "axe-core@4"], cwd=folder, capture_output=True)
    if done.returncode:
        pytest.skip(NOT_THERE)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()
