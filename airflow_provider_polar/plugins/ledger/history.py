"""Reads the ledger's records from Airflow's metadata database.

Every query is bounded and goes by an index: XComs by ``idx_xcom_key``, task instances by ``ti_dag_state``, DAGs by
their primary key. No query reads another task's XComs.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.plugins.ledger.calendars import ACTIVE, Attempt, Due, Record, Task
from airflow_provider_polar.plugins.ledger.records import Kind, key_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOST_RECORDS = 20_000
"""Records of a kind that are read: those of the newest runs."""
_MOST_ATTEMPTS = 5_000
_UNDONE = (*ACTIVE, "failed", "upstream_failed")

log = logging.getLogger(__name__)


def dags_with(session: Session, kind: Kind) -> set[str]:
    """The DAGs that have kept records of a kind."""
    from sqlalchemy import select

    columns, condition = _records(kind)
    return {*session.scalars(select(columns["dag_id"]).where(*condition).distinct())}


def records(
    session: Session,
    kind: Kind,
    dag_ids: Collection[str],
    most: int = MOST_RECORDS,
    run_ids: Collection[str] | None = None,
) -> list[Record]:
    """The records of a kind that tasks of these DAGs have kept, those of the newest runs first.

    :param run_ids: only those of these runs.
    """
    from sqlalchemy import select

    columns, condition = _records(kind)
    query = select(*columns.values()).where(*condition, columns["dag_id"].in_(dag_ids))
    if run_ids is not None:
        query = query.where(columns["run_id"].in_(run_ids))
    return [*_read(session.execute(query.order_by(columns["order"].desc()).limit(most)))]


def attempts(session: Session, tasks: Collection[tuple[str, str]]) -> dict[Task, Attempt]:
    """The state of what these tasks (DAG and task id) have not done or are still to do."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    columns = [TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id, map_index(TaskInstance)]
    query = (
        select(*columns, TaskInstance.state, DagRun.logical_date)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .where(TaskInstance.dag_id.in_({dag_id for dag_id, _ in tasks}), TaskInstance.state.in_(_UNDONE))
        .where(TaskInstance.task_id.in_({task_id for _, task_id in tasks}))
        .order_by(DagRun.id.desc())
        .limit(_MOST_ATTEMPTS)
    )
    return {
        Task(*task): Attempt(state, logical_date)
        for *task, state, logical_date in session.execute(query)
        if (task[0], task[1]) in tasks
    }


def next_runs(session: Session, dag_ids: Collection[str]) -> dict[str, Due]:
    """The next run of each of these DAGs that is scheduled by time."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    query = select(
        DagModel.dag_id,
        DagModel.next_dagrun_data_interval_start,
        DagModel.next_dagrun_data_interval_end,
        DagModel.next_dagrun,
        DagModel.next_dagrun_create_after,
        DagModel.is_paused,
    ).where(DagModel.dag_id.in_(dag_ids), DagModel.next_dagrun_create_after.is_not(None))
    return {
        dag_id: Due(EventWindow(start, end) if start and end and start < end else None, logical_date, after, paused)
        for dag_id, start, end, logical_date, after, paused in session.execute(query)
        if after is not None
    }


def map_index(task_instance: Any) -> Any:
    """The column of a task's map index, which has another name from Airflow 3.4 on."""
    return getattr(task_instance, "region_index" if hasattr(task_instance, "region_index") else "map_index")


def _records(kind: Kind) -> tuple[dict[str, Any], list[Any]]:
    """The columns of a record, whatever table this Airflow keeps XComs in, and what its rows have in common."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel as XCom
    from sqlalchemy import Text, cast

    try:
        from airflow.models.xcom import XComModelV2
    except ImportError:
        names = {"dag_id": "dag_id", "task_id": "task_id", "run_id": "run_id", "map_index": "map_index"}
        names |= {"timestamp": "timestamp", "value": "value", "order": "dag_run_id"}
        columns = {name: getattr(XCom, column) for name, column in names.items()}
        # As text, for the database's client is slow to read JSON.
        return columns | {"value": cast(XCom.value, Text)}, [XCom.key == key_of(kind)]
    task: Any = TaskInstance  # Airflow 3.4: the XComs of each attempt, of which the current one counts
    columns = {name: getattr(task, name) for name in ("dag_id", "task_id", "run_id")}
    columns |= {"map_index": map_index(task), "timestamp": XComModelV2.timestamp}
    columns |= {"value": cast(XComModelV2.value, Text), "order": XComModelV2.id}
    owned = XComModelV2.task_instance_id == task.id
    return columns, [XComModelV2.key == key_of(kind), owned, task.working_set.is_(True)]


def _read(rows: Any) -> Iterator[Record]:
    for dag_id, task_id, run_id, map_index, at, value, _ in rows:
        try:
            # Workers keep the value itself, and what runs in a process of the scheduler's own its JSON text.
            content = msgspec.json.decode(value)
            if isinstance(content, str):
                content = msgspec.json.decode(content)
            if not isinstance(content, dict):
                raise TypeError(type(content).__name__)
        except (msgspec.DecodeError, TypeError) as error:
            # A backend for XComs of the user's own may keep a reference, which only a worker can follow.
            log.debug("The record of %s.%s in %s cannot be read: %s", dag_id, task_id, run_id, error)
            continue
        yield Record(Task(dag_id, task_id, run_id, map_index), at, content)
