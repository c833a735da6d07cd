"""An ingest that sends while it reads, in a process of its own, to be killed: rows are lines of its standard input.

``ingest_reading_worker.py BASE_URL TOKEN DIRECTORY``, where the rejected rows and the progress are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.ingesting import progress
from airflow_provider_polar.engine.ingesting.identity import run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.sources import rows_in_memory


class FileProgress:
    """Progress that outlives a killed process."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, _key: str) -> Any:
        return json.loads(self._file.read_bytes()) if self._file.exists() else None

    def set(self, _key: str, state: dict[str, Any]) -> None:
        whole = self._file.with_suffix(".next")
        whole.write_text(json.dumps(state))
        whole.rename(self._file)

    def delete(self, _key: str) -> None:
        self._file.unlink(missing_ok=True)


def main(base_url: str, token: str, directory: str) -> None:
    progress._SAVE_EVERY = 0.0
    with PolarClient(token, base_url=base_url, retries=Retries(6, 0.01, 0.1)) as client:
        ingest = Ingest(
            lambda: client,
            IngestOptions(run_scope("dag", "task", "run", -1), on_invalid="skip", batch_size=100),
            rejected=UPath(f"file://{directory}/rejected.jsonl"),
            progress=FileProgress(Path(directory) / "progress.json"),
        )
        print(json.dumps(ingest.run(rows_in_memory(map(json.loads, sys.stdin)))._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
