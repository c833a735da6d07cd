"""What a task's log says of waits, in a real Airflow."""

import re
from datetime import UTC, datetime

from airflow.sdk import DAG

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

EVENTS = [
    {"name": "call.made", "external_customer_id": "c1", "timestamp": f"2026-01-01T00:00:{n:02}Z"} for n in range(40)
]
WAITED = r"Polar responded to {} with HTTP {} \(http://127\.0\.0\.1:\d+.*?\): waiting \d+\.\d s, retry \d"


def test_each_wait_leaves_a_line_in_the_task_s_log(run_dag, polar_server, polar_connection, tmp_path, caplog):
    with DAG(dag_id="waits_in_the_log", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        PolarIngestEventsOperator(task_id="ingest", events=EVENTS) >> PolarExportEventsOperator(
            task_id="export", destination=f"file://{tmp_path}", start="2026-01-01T00:00:00Z", end="2026-01-02T00:00:00Z"
        )
    for path in ("ingest", "list"):
        polar_server.fail("rate_limit", path=path, times=1, retry_after=1)
        polar_server.fail("status", status=503, path=path, times=2)
    assert run_dag(dag).state == "success"
    # Airflow's task log takes what the root logger gets from WARNING and INFO on.
    log = "\n".join(record.getMessage() for record in caplog.records)
    for request in ("POST /v1/events/ingest", "GET /v1/events/"):
        assert len(re.findall(WAITED.format(request, 429), log)) == 1, log
        assert len(re.findall(WAITED.format(request, 503), log)) == 2, log
