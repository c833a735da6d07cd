"""Measures the ledger on a metadata database of 10,000 windows among 100,000 task instances:

    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://... python -m benchmarks.ledger_page

The database is an empty one of PostgreSQL, migrated; it is filled here. Prints one JSON object: the windows and bytes
of the response, the seconds that it took, and the plans of its queries.
"""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime
from typing import Any

RUNS = 10_000
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
WINDOW = {"destination": "s3://my-bucket/polar", "filters": "", "names": [], "filtered_by": [], "zone": "UTC"}
# A run every hour, like the one that is there: its rows with other moments and names.
RUN_ID = """'scheduled__' || to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')"""
MOMENTS = ("logical_date", "run_after", "data_interval_start", "data_interval_end")
COPIES = {
    "dag_run": {"run_id": RUN_ID, "run_type": "'scheduled'", **dict.fromkeys(MOMENTS, "moment")},
    "task_instance": {"run_id": RUN_ID, "id": "gen_random_uuid()"},
}
RECORDS = """
INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, timestamp, value)
SELECT id, 'export', -1, 'polar_ledger_export', dag_id, run_id, logical_date,
  cast(:window AS jsonb) || jsonb_build_object(
  'start', to_char(logical_date - interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'end', to_char(logical_date, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'logical_date', logical_date,
  'rows', id * 7919 % 100000, 'files', 1, 'complete', true, 'again', '[]'::jsonb, 'manifest', 'events_'
  || to_char(logical_date - interval '1 hour', 'YYYYMMDD"T"HH24MISS"Z_"')
  || to_char(logical_date, 'YYYYMMDD"T"HH24MISS"Z"')
  || '.manifest.json')
FROM dag_run WHERE dag_id = 'lake' AND run_type = 'scheduled'
"""
OTHERS = """
INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, timestamp, value)
SELECT dag_run.id, task_id, -1, 'return_value', dag_run.dag_id, dag_run.run_id, logical_date, '{"done": true}'
FROM dag_run JOIN task_instance USING (dag_id, run_id) WHERE run_type = 'scheduled'
"""


def main() -> None:
    from airflow.utils.session import create_session
    from sqlalchemy import text

    fill()
    with create_session() as session:
        counts = {
            table: session.scalar(text(f"SELECT count(*) FROM {table}"))
            for table in ("task_instance", "dag_run", "xcom")
        }
    print(json.dumps({**counts, **measured()}))


def fill() -> None:
    """One real run of each DAG, and as many rows like theirs as are wanted."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.utils.session import create_session
    from sqlalchemy import text

    from tests.airflow_env import run_dag

    for name, tasks in (("lake", ["export", "load"]), ("busy", [f"task_{n}" for n in range(8)])):
        with DAG(name, schedule="@hourly", start_date=FIRST, catchup=False) as dag:
            for task in tasks:
                EmptyOperator(task_id=task)
        assert run_dag(dag, logical_date=FIRST).state == "success"
    with create_session() as session:
        steps = [(copy(session, table, new), {"first": FIRST, "runs": RUNS}) for table, new in COPIES.items()]
        for statement, values in [*steps, (RECORDS, {"window": json.dumps(WINDOW)}), (OTHERS, {})]:
            session.execute(text(statement), values)
            session.commit()
            # Without it each row's foreign keys would be looked for in the whole of a table that was empty before.
            session.execute(text("ANALYZE"))


def copy(session: Any, table: str, new: dict[str, str]) -> str:
    """The statement that copies the rows of a table for each moment."""
    from sqlalchemy import text

    names = "SELECT column_name FROM information_schema.columns WHERE table_name = :table AND table_schema = 'public'"
    columns = [name for name in session.scalars(text(names), {"table": table}) if name != "id" or "id" in new]
    values = ", ".join(new.get(column, f'"{column}"') for column in columns)
    quoted = ", ".join(f'"{column}"' for column in columns)
    moments = (
        "(SELECT cast(:first AS timestamptz) + n * interval '1 hour' AS moment FROM generate_series(1, :runs) AS n)"
    )
    return f"INSERT INTO {table} ({quoted}) SELECT {values} FROM {table}, {moments} AS moments"


def measured() -> dict[str, Any]:
    """The response, warm, as the web server makes it, and what it asked the database for."""
    from airflow.api_fastapi import app as airflow_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.settings import engine
    from fastapi.testclient import TestClient
    from sqlalchemy import event

    from airflow_provider_polar.plugins.ledger.app import app

    token = airflow_app.create_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role="admin"))
    client = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    statements: list[tuple[str, Any]] = []
    assert client.get("/api/exports").status_code == 200
    event.listen(engine, "before_cursor_execute", lambda _c, _k, sql, values, *_: statements.append((sql, values)))
    started, used = time.monotonic(), time.process_time()
    response = client.get("/api/exports")
    seconds, used = time.monotonic() - started, time.process_time() - used
    asked = [
        one for one in statements if "polar_ledger" in str(one[1]) or "task_instance" in one[0] or " dag." in one[0]
    ]
    plans = {}
    with engine.connect() as connection:
        for sql, values in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS OFF) {sql}", values).scalars().all()
            plans[sql] = plan
    [calendar] = response.json()["calendars"]
    return {
        "windows": len(calendar["windows"]),
        "bytes": len(response.content),
        "compressed": len(gzip.compress(response.content, 9)),
        "seconds": round(seconds, 3),
        "processor": round(used, 3),
        "plans": plans,
    }


if __name__ == "__main__":
    main()
