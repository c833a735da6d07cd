"""An ingest in a process of its own, to be killed: ``ingest_worker.py BASE_URL TOKEN FILE SEED``."""

from __future__ import annotations

import random
import sys

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.ingesting.identity import run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.sources import Row, rows_of_files


def main(base_url: str, token: str, file: str, seed: str) -> None:
    from pathlib import Path

    rows: list[Row] = list(rows_of_files([Path(file)]))
    random.Random(seed).shuffle(rows)
    with PolarClient(token, base_url=base_url, retries=Retries(6, 0.01, 0.1)) as client:
        options = IngestOptions(run_scope("dag", "task", "run", -1), batch_size=100)
        print(Ingest(lambda: client, options).run(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
