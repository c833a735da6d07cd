"""What a run's context says about time, and the watermark in its asset's state store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows import advance_watermark, resolve_window
from airflow_provider_polar.windows.schedules import Schedule

ASSET = Asset(name="events", uri="polar://acme/events")
DAY = timedelta(days=1)
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def context(run: int, store: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """Of a run by hand, a day after the one before it."""
    stored = SimpleNamespace(get=store.get, set=store.__setitem__)
    return {
        "dag": DAG("dag", schedule=None, start_date=BEGINNING),
        "task": SimpleNamespace(outlets=[ASSET], inlets=[]),
        "ti": SimpleNamespace(dag_id="dag", task_id="export", map_index=-1),
        "run_id": f"run {run}",
        "dag_run": SimpleNamespace(run_type="manual", run_after=BEGINNING + (run + 1) * DAY),
        "asset_state_store": {ASSET: stored},
    } | rest


class TestWatermark:
    def test_any_of_the_last_runs_cleared_gets_its_own_window_again(self) -> None:
        store: dict[str, Any] = {}
        windows = []
        for run in range(60):
            windows.append(resolve_window(context(run, store)))
            advance_watermark(context(run, store), windows[-1])
        assert windows == list(EventWindow(BEGINNING, BEGINNING + 60 * DAY).steps(DAY))
        kept = str(store)
        for run in (59, 30, 10):
            assert resolve_window(context(run, store)) == windows[run]
            advance_watermark(context(run, store), windows[run])
        assert str(store) == kept
        with pytest.raises(PolarWindowError, match="was read by the run 'run 59'"):
            resolve_window(context(9, store))

    def test_the_watermark_of_earlier_versions_is_gone_on_from(self) -> None:
        last = EventWindow(BEGINNING, BEGINNING + DAY)
        store: dict[str, Any] = {"polar_window.dag.export": {**last.to_dict(), "run_id": "run 0"}}
        assert resolve_window(context(0, store)) == last
        window = resolve_window(context(1, store))
        assert window == EventWindow(last.end, last.end + DAY)
        advance_watermark(context(1, store), window)
        assert resolve_window(context(0, store)) == last

    def test_what_is_no_watermark_is_refused_by_its_key(self) -> None:
        with pytest.raises(PolarWindowError, match=r"polar_window\.dag\.export"):
            resolve_window(context(0, {"polar_window.dag.export": "2026-01-01"}))


def test_an_aliass_events_are_those_of_its_assets_and_inlets_go_by_whatever_names_them() -> None:
    other = Asset(name="other", uri="s3://bucket/other")
    first, second = EventWindow(BEGINNING, BEGINNING + DAY), EventWindow(BEGINNING + DAY, BEGINNING + 2 * DAY)
    alias = AssetAlias("alias")
    events = [
        SimpleNamespace(extra={"window": window.to_dict()}, source_aliases=aliases)
        for window, aliases in ((first, []), (second, [alias]))
    ]
    triggering = {ASSET: events, alias: events[1:]}
    given = context(0, {}, triggering_asset_events=triggering)
    assert resolve_window(given) == EventWindow(first.start, second.end)
    triggering[other] = events[:1]
    with pytest.raises(PolarWindowError, match="different windows"):
        resolve_window(given)
    for inlet in (other, Asset.ref(name="other"), Asset.ref(uri=other.uri)):
        given["task"].inlets = [inlet]
        assert resolve_window(given) == first
    for inlet in (ASSET, Asset.ref(name="events"), alias):
        given["task"].inlets = [inlet]
        assert resolve_window(given) == EventWindow(first.start, second.end)


def test_a_schedule_by_assets_is_called_by_their_names() -> None:
    dag = DAG("by_assets", schedule=(ASSET & Asset("other")) | AssetAlias("alias"), start_date=BEGINNING)
    assert str(Schedule.of(dag)).startswith("assets polar://acme/events, other, alias (AssetTriggered")
