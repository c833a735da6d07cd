"""DAGs in a real Airflow, within the test's process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass
class Run:
    """A finished run of ``dag.test()``."""

    dag_run: Any

    @property
    def state(self) -> str:
        """``success`` or ``failed``."""
        return str(getattr(self.dag_run.state, "value", self.dag_run.state))

    def _session(self) -> Any:
        from airflow.utils.session import create_session

        return create_session()

    def states(self) -> dict[str, str]:
        """Task id (``task_id[map_index]`` for mapped ones) to state."""
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import select

        with self._session() as session:
            tis = session.scalars(
                select(TaskInstance).where(
                    TaskInstance.dag_id == self.dag_run.dag_id, TaskInstance.run_id == self.dag_run.run_id
                )
            ).all()
            return {
                ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(
                    getattr(ti.state, "value", ti.state)
                )
                for ti in tis
            }

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """A task's XCom, deserialised; None where it has none."""
        from airflow.models.xcom import XComModel
        from sqlalchemy import select

        with self._session() as session:
            row = session.scalars(
                select(XComModel).where(
                    XComModel.dag_id == self.dag_run.dag_id,
                    XComModel.run_id == self.dag_run.run_id,
                    XComModel.task_id == task_id,
                    XComModel.key == key,
                    XComModel.map_index == map_index,
                )
            ).first()
            return None if row is None else XComModel.deserialize_value(row)


def register(dag: Any) -> None:
    """Writes a DAG made in a test to the metadata database, as the DAG processor would."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag  # Airflow before 3.2
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder="/dev/null", collect_dags=False)
    bag.bag_dag(dag)
    if hasattr(bag, "sync_to_db"):  # Airflow 3.0
        dag.relative_fileloc = dag.relative_fileloc or "made_in_a_test.py"
        bag.sync_to_db("dags-folder", None)
        return
    try:
        from airflow.dag_processing.dagbag import sync_bag_to_db
    except ImportError:
        from airflow.models.dagbag import sync_bag_to_db
    sync_bag_to_db(bag, "dags-folder", None)


def run_dag(
    dag: Any, *, logical_date: datetime | None = None, run_conf: dict[str, Any] | None = None, dated: bool = True
) -> Run:
    """Runs a DAG by ``dag.test()``, for now unless a logical date is given; with ``dated=False`` for no date at all, as
    a run on an asset is."""
    register(dag)
    moment = (logical_date or datetime.now(UTC)) if dated else None
    return Run(dag.test(logical_date=moment, run_conf=run_conf))
