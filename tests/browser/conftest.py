"""Airflow, a local Polar and a headless Chromium, one of each for the module that asks for them."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.standalone import Standalone

ROOT = Path(__file__).parents[2]
TOKEN = "polar_oat_this_text_must_show_up_nowhere"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def polar() -> Iterator[Any]:
    """A local Polar with a week of events, which takes TOKEN only."""
    from airflow_provider_polar.testing import LocalPolar

    with LocalPolar(token=TOKEN, seed="demo") as server:
        yield server


@pytest.fixture(scope="module")
def airflow(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A running Airflow with the example DAGs."""
    from importlib.metadata import version

    if tuple(map(int, version("apache-airflow-core").split(".")[:2])) < (3, 3):
        pytest.skip("the browser tests know the pages of Airflow 3.3")
    home = tmp_path_factory.mktemp("airflow-in-a-browser")
    with Standalone(home, ROOT / "dags_examples", {"POLAR_DEMO_LAKE": f"file://{home}/lake"}) as running:
        yield running


@pytest.fixture(scope="module")
def page(browser_path: str) -> Iterator[Any]:
    """A page of a headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: run `make browser`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1280, "height": 960})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def browser_path() -> str:
    """Chromium's path; without one the tests are skipped, saying what to do."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    missing = "no Chromium found, Airflow's pages are not tested: run `make browser`, or set CHROMIUM to its path"
    warnings.warn(missing, stacklevel=1)
    pytest.skip(missing)


@pytest.fixture
def screenshot(page: Any, tmp_path: Path) -> Callable[..., None]:
    """``screenshot(name, height=None)`` into the folder SCREENSHOTS, where the documentation takes them from."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)

    def take(name: str, height: int = 960) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(400)  # animations
        page.screenshot(path=folder / f"{name}.png", clip={"x": 0, "y": 0, "width": 1280, "height": height})

    return take
