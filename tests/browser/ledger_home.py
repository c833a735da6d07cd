"""Fills an Airflow home with a week of the ledger, by real runs of the example DAGs, in a process of its own.

    python -m tests.browser.ledger_home FOLDER_OF_DAGS    # AIRFLOW_HOME and the like are set

Of the week's 56 windows of three hours most are verified; :data:`NUMBERS` says which are something else.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

LENGTH = timedelta(hours=3)
WINDOWS = 56
NUMBERS = {
    "incomplete": [12],
    "failed": [20],
    "changed": [30, 31],
    "hole": [40, 41, 42],
    "exported": [54],
    "exporting": [55],
}


def main(folder: Path) -> None:
    from airflow_provider_polar.testing import LocalPolar
    from tests.airflow_env import run_dag

    exporting, checking, ingesting = (
        runpy.run_path(str(folder / f"ledger_{name}.py"))["dag"] for name in ("export", "check", "ingest")
    )
    export = exporting.task_dict["export"]
    export.settle = None
    now = datetime.now(UTC)
    last = now.replace(hour=now.hour // 3 * 3, minute=0, second=0, microsecond=0)
    first = last - WINDOWS * LENGTH
    with LocalPolar(token="polar_oat_of_the_ledger") as polar:
        os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = polar.connection_uri()
        add = polar.add_events
        add(
            event(first + number * LENGTH + timedelta(minutes=n))
            for number in range(WINDOWS)
            for n in range(rows(number))
        )
        add([event(first + number * LENGTH) for number in (12, 20)], store=False)
        for number in range(WINDOWS):
            if number in NUMBERS["hole"]:
                continue
            if number == 54:
                add(event(first + n * LENGTH + timedelta(hours=2)) for n in NUMBERS["changed"])
                assert run_dag(checking, logical_date=last - 2 * LENGTH).state == "success"
            export.on_incomplete = "warn" if number == 12 else "fail"
            run = run_dag(exporting, logical_date=first + (number + 1) * LENGTH)
            assert run.state == ("failed" if number == 20 else "success"), number
        let_it_run(run)
        for hour in range(3):
            assert run_dag(ingesting, logical_date=last - timedelta(hours=hour)).state == "success"
    print(json.dumps({"first": first.timestamp()}))


def rows(number: int) -> int:
    return 3 + number * number % 7


def event(moment: datetime) -> dict[str, Any]:
    return {"name": "machine.ran", "timestamp": moment, "external_customer_id": "acme"}


def let_it_run(run: Any) -> None:
    """Makes of a finished export one that has begun: no scheduler is there that would end it."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    ours = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id}
    with create_session() as session:
        for model in (TaskInstance, DagRun):
            session.execute(update(model).filter_by(**ours).values(state="running", end_date=None))
        record = session.scalars(select(XComModel).filter_by(**ours, key="polar_ledger_export")).one()
        value = json.loads(record.value) if isinstance(record.value, str) else record.value
        begun = {name: value[name] for name in value.keys() - {"rows", "files", "complete", "manifest", "again"}}
        record.value = json.dumps(begun) if isinstance(record.value, str) else begun


if __name__ == "__main__":
    main(Path(sys.argv[1]))
