"""Runs as Airflow's scheduler makes them, executed in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

from tests.airflow_env import Run, register


class Scheduling:
    """Airflow's own scheduler code creates the runs of some DAGs; their tasks run here, one after the other.

    :param dags: with ``catchup=True`` and an ``end_date`` where they are scheduled by time.
    :param run_triggerer: whether what a task defers to is run at once.
    :ivar while_nothing_is_ready: called with the states of a run's tasks when none of them is ready.
    """

    def __init__(self, *dags: Any, run_triggerer: bool = True) -> None:
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import update

        self.run_triggerer = run_triggerer
        self.while_nothing_is_ready: Callable[[dict[str, str]], None] = lambda _: None
        self.dags = {dag.dag_id: dag for dag in dags}
        for dag in dags:
            register(dag)
        with create_session() as session:
            session.execute(update(DagModel).values(is_paused=True))
            session.execute(update(DagModel).where(DagModel.dag_id.in_(self.dags)).values(is_paused=False))

    def create_runs(self) -> None:
        """What one loop of the scheduler creates: at most one run a DAG."""
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.utils.session import create_session
        from airflow.utils.sqlalchemy import prohibit_commit

        runner = SchedulerJobRunner(job=Job())
        with create_session() as session, prohibit_commit(session) as guard:
            runner._create_dagruns_for_dags(guard, session)

    def run_all(self, most: int = 200) -> list[Run]:
        """Creates and executes runs until the scheduler finds no more."""
        finished: list[Run] = []
        while len(finished) < most:
            self.create_runs()
            made = list(self.run_queued())
            if not made:
                return finished
            finished += made
        raise AssertionError(f"more than {most} runs")

    def run_queued(self) -> Iterator[Run]:
        """Executes the runs that wait."""
        from airflow.models.dagrun import DagRun
        from airflow.settings import Session
        from sqlalchemy import select

        waiting = select(DagRun.id).where(DagRun.dag_id.in_(self.dags), DagRun.state == "queued")
        for run_id in Session().scalars(waiting.order_by(DagRun.run_after, DagRun.id)).all():
            self._execute(Session().get(DagRun, run_id), Session())
            run = Session().get(DagRun, run_id)
            Session().refresh(run)
            Session().expunge(run)
            yield Run(run)

    def _execute(self, run: Any, session: Any) -> None:
        from airflow.sdk.definitions.dag import _run_task
        from airflow.serialization.serialized_objects import SerializedDAG
        from airflow.utils.state import DagRunState, TaskInstanceState

        try:
            from airflow.serialization.serialized_objects import DagSerialization

            scheduled = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(self.dags[run.dag_id]))
        except ImportError:  # Airflow before 3.2
            scheduled = SerializedDAG.deserialize_dag(SerializedDAG.serialize_dag(self.dags[run.dag_id]))
        run.dag = scheduled
        run.state = DagRunState.RUNNING
        session.commit()
        for _ in range(100):
            session.expire_all()
            ready, _ = run.update_state(session=session)
            for ti in ready:
                ti.try_number += 1
                ti.state = TaskInstanceState.SCHEDULED
            session.commit()
            if run.state != DagRunState.RUNNING:
                return
            if not ready:
                self.while_nothing_is_ready(
                    {ti.task_id: str(ti.state) for ti in run.get_task_instances(session=session)}
                )
                session.expire_all()
                # What was deferred goes on.
                ready = run.get_task_instances(state=[TaskInstanceState.SCHEDULED], session=session)
            for ti in ready:
                ti.task = task = self.dags[run.dag_id].task_dict[ti.task_id]
                takes_task = "task" in signature(_run_task).parameters  # not in Airflow 3.0
                _run_task(ti=ti, run_triggerer=self.run_triggerer, **({"task": task} if takes_task else {}))
        states = {ti.task_id: str(ti.state) for ti in run.get_task_instances(session=session)}
        raise AssertionError(f"{run} does not end: {states}")
