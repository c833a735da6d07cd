"""What waits for events just now: tasks, by ``ti_dag_state`` and the primary keys, and the few triggers of watchers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_polar.plugins.ledger.calendars import ACTIVE, Task
from airflow_provider_polar.plugins.ledger.history import map_index, records

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

WATCHER = "airflow_provider_polar.triggers.watch.PolarEventWatchTrigger"
_MOST = 200


class Poll(NamedTuple):
    """A wait or a watcher.

    :param name: of the task's run or the watcher.
    :param names: the event names.
    :param since: when it began.
    :param last: when a wait was last seen to poll; of a watcher, when it last found something.
    :param next: when it is to poll again, where that is known.
    :param every: seconds between two polls, where a trigger polls.
    :param alive: the last heartbeat of the triggerer that polls.
    """

    task: Task | None
    name: str
    names: list[str]
    state: str
    since: datetime | None
    last: datetime | None = None
    next: datetime | None = None
    every: float | None = None
    alive: datetime | None = None


def waits(session: Session, dag_ids: Collection[str]) -> list[Poll]:
    """The waits of these DAGs that have not ended."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.models.trigger import Trigger
    from sqlalchemy import func, select

    ours = [TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id, map_index(TaskInstance)]
    query = select(*ours, TaskInstance.id, TaskInstance.state, TaskInstance.start_date, TaskInstance.trigger_id)
    rows = session.execute(
        query.where(TaskInstance.dag_id.in_(dag_ids), TaskInstance.state.in_(ACTIVE)).limit(_MOST)
    ).all()
    kept = {record.task: record for record in records(session, "wait", dag_ids, run_ids={row.run_id for row in rows})}
    again = select(TaskReschedule.ti_id, func.max(TaskReschedule.reschedule_date)).group_by(TaskReschedule.ti_id)
    next_polls = dict(session.execute(again.where(TaskReschedule.ti_id.in_([row.id for row in rows]))).all())
    deferred = [row.trigger_id for row in rows if row.trigger_id is not None]
    triggers = {trigger.id: trigger for trigger in session.scalars(select(Trigger).where(Trigger.id.in_(deferred)))}
    heartbeats = _heartbeats(session, triggers.values())
    found = []
    for *columns, ti_id, state, start, trigger_id in rows:
        if (record := kept.get(task := Task(*columns))) is None:
            continue
        trigger = triggers.get(trigger_id)
        found.append(
            Poll(
                task,
                task.task_id,
                _texts(record.value.get("names")),
                state,
                start,
                last=record.at,
                next=next_polls.get(ti_id) if state == "up_for_reschedule" else None,
                every=trigger and _every(trigger.kwargs),
                alive=trigger and heartbeats.get(trigger.triggerer_id),
            )
        )
    return found


def watchers(session: Session, readable: Callable[[set[str]], set[str]]) -> list[Poll]:
    """The watchers of assets that a DAG of those that may be read is scheduled on.

    :param readable: leaves the DAGs that the user may read.
    """
    from airflow.models.asset import AssetEvent, DagScheduleAssetReference
    from airflow.models.trigger import Trigger
    from sqlalchemy import func, select

    triggers = session.scalars(select(Trigger).where(Trigger.classpath == WATCHER).limit(_MOST)).all()
    pairs = [(trigger, asset) for trigger in triggers for asset in trigger.assets]
    asset_ids = {asset.id for _, asset in pairs}
    references = session.execute(
        select(DagScheduleAssetReference.asset_id, DagScheduleAssetReference.dag_id).where(
            DagScheduleAssetReference.asset_id.in_(asset_ids)
        )
    ).all()
    allowed = readable({dag_id for _, dag_id in references})
    shown = {asset_id for asset_id, dag_id in references if dag_id in allowed}
    last = select(AssetEvent.asset_id, func.max(AssetEvent.timestamp)).group_by(AssetEvent.asset_id)
    found_last = dict(session.execute(last.where(AssetEvent.asset_id.in_(shown))).all())
    heartbeats = _heartbeats(session, triggers)
    return [
        Poll(
            None,
            asset.name,
            _texts(trigger.kwargs.get("event_name")),
            "waiting for a triggerer" if trigger.triggerer_id is None else "watching",
            trigger.created_date,
            last=found_last.get(asset.id),
            every=_every(trigger.kwargs),
            alive=heartbeats.get(trigger.triggerer_id),
        )
        for trigger, asset in pairs
        if asset.id in shown
    ]


def _heartbeats(session: Session, triggers: Iterable[Any]) -> dict[int | None, datetime | None]:
    from airflow.jobs.job import Job
    from sqlalchemy import select

    ids = {trigger.triggerer_id for trigger in triggers} - {None}
    return dict(session.execute(select(Job.id, Job.latest_heartbeat).where(Job.id.in_(ids))).all())


def _every(kwargs: Any) -> float | None:
    seconds = kwargs.get("poll_interval")
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []
