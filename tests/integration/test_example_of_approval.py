"""The example in which a person approves what was verified, with the answer that Airflow's own API records."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import exceptions

from airflow_provider_polar.testing import LocalPolar

pytestmark = pytest.mark.skipif(
    not hasattr(exceptions, "TaskAwaitingInput"), reason="dag.test() waits for a person's answer from Airflow 3.3 on"
)
DAY = datetime(2026, 11, 2, tzinfo=UTC)


@contextmanager
def person(choice: str) -> Iterator[list[str]]:
    """Somebody who answers the approval as soon as it is asked; gives what was asked."""
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    user = SimpleNamespace(get_id=lambda: "1", get_name=lambda: "somebody")
    asked: list[str] = []
    over = threading.Event()

    def answer() -> None:
        while not over.wait(0.2):
            with create_session() as session:
                query = select(TaskInstance, HITLDetail).join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
                for task, detail in session.execute(query.where(TaskInstance.state == "awaiting_input")).all():
                    asked.append(f"{detail.subject} {' '.join(detail.body.split())}")
                    given = UpdateHITLDetailPayload(chosen_options=[choice], params_input={})
                    update_hitl_detail(task.dag_id, task.run_id, task.task_id, given, user, session)

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer)
        try:
            yield asked
        finally:
            over.set()
            answering.result()


@pytest.fixture
def dag(example: Callable[[str], Any], polar_server: LocalPolar, tmp_path: Path) -> Any:
    """The example, with a meter, and a file of a day's usage."""
    polar_server.add_meter(name="Units", aggregation={"func": "sum", "property": "units"})
    (tmp_path / "usage").mkdir()
    events = [
        {
            "name": "api.called",
            "external_customer_id": f"customer-{number % 3}",
            "timestamp": (DAY + timedelta(minutes=20 * number)).isoformat(),
            "metadata": {"units": number / 10},
        }
        for number in range(72)
    ]
    (tmp_path / "usage" / "2026-11-02.jsonl").write_text("\n".join(map(json.dumps, events)))
    return example("verify_usage")


def run(run_dag: Any, dag: Any, past: int = 0) -> Any:
    return run_dag(dag, logical_date=DAY + timedelta(days=1, hours=2, seconds=past))


def test_a_person_is_asked_when_all_is_equal(dag: Any, run_dag: Any) -> None:
    with person("Approve") as asked:
        done = run(run_dag, dag)
    assert done.state == "success", done.states()
    assert done.xcom("invoice") == "invoicing"
    [question] = asked
    assert question.startswith("Invoice the usage of 2026-11-02? Polar bills what was sent: 72 events of 3 customers")


def test_no_invoice_where_they_reject(dag: Any, run_dag: Any) -> None:
    with person("Reject"):
        done = run(run_dag, dag, 1)
    assert done.states()["invoice"] == "skipped"


def test_nobody_is_asked_where_something_differs(dag: Any, run_dag: Any, polar_server: LocalPolar) -> None:
    dag.get_task("verify").settle = None

    def lose(record: Any) -> None:
        if record.path.startswith("/v1/meters") and "quantities" in record.path:
            polar_server.meter_otherwise([polar_server.events()[7]["id"]], copies=0)

    polar_server.on_request(lose)
    with person("Approve") as asked:
        done = run(run_dag, dag, 2)
    assert done.state == "failed"
    assert (done.states()["verify"], done.states()["invoice"]) == ("failed", "upstream_failed")
    assert asked == []
