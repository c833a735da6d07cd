"""The ledger's web application: a page of static files and what it shows, as JSON. It reads and never writes.

Every response with data asks Airflow for the right to read runs and XComs, and holds only DAGs that the user may read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset, requires_access_dag
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware

from airflow_provider_polar.engine.exporting.manifest import ExportName
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.plugins.ledger import history, waiting
from airflow_provider_polar.plugins.ledger.calendars import Attempt, Calendar, Record, Task, Window, calendars
from airflow_provider_polar.plugins.ledger.destinations import indexed

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_STATES = ("verified", "exported", "exporting", "changed", "incomplete", "failed", "hole")
_MOST_INGESTS = 50
_READS = [Depends(requires_access_dag("GET", entity)) for entity in (DagAccessEntity.RUN, DagAccessEntity.XCOM)]

app = FastAPI(title="Polar ledger", docs_url=None, redoc_url=None, openapi_url=None)
app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)


@app.middleware("http")
async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-cache" if "/static/" in request.url.path else "no-store")
    return response


@app.get("/")
def page() -> FileResponse:
    """The page, which holds no data."""
    return FileResponse(_STATIC / "index.html")


app.mount("/static", StaticFiles(directory=_STATIC))


@app.get("/api/exports", dependencies=_READS)
def exports(user: GetUserDep, session: SessionDep, dag_id: Annotated[str | None, Query()] = None) -> Response:
    """The calendars of all destinations, as compact as 10,000 windows want it; see :class:`_Compact`.

    :param dag_id: only what this DAG has exported.
    """
    dag_ids = _readable(user, history.dags_with(session, "export"), dag_id)
    kept = history.records(session, "export", dag_ids)
    # A check may be made by another DAG, which the user must be allowed to read, too.
    checks = history.records(session, "check", _readable(user, history.dags_with(session, "check"), None))
    attempts = history.attempts(session, {(record.task.dag_id, record.task.task_id) for record in kept})
    found = calendars(kept, checks, attempts, history.next_runs(session, dag_ids), indexed() if kept else {})
    compact = _Compact()
    body = {
        "states": _STATES,
        "calendars": [compact.calendar(calendar) for calendar in found],
        "names": compact.names,
        "tasks": compact.tasks,
        "most": history.MOST_RECORDS if len(kept) == history.MOST_RECORDS else None,
        "now": _seconds(datetime.now(UTC)),
    }
    # FastAPI's own way looks at each of these many values first.
    return Response(msgspec.json.encode(body), media_type="application/json")


@app.get("/api/ingests", dependencies=_READS)
def ingests(user: GetUserDep, session: SessionDep, dag_id: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """The last ingests: what they sent, and what Polar had already.

    :param dag_id: only those of this DAG.
    """
    dag_ids = _readable(user, history.dags_with(session, "ingest"), dag_id)
    kept = history.records(session, "ingest", dag_ids, _MOST_INGESTS)
    attempts = history.attempts(session, {(record.task.dag_id, record.task.task_id) for record in kept})
    return {"ingests": [_ingest(record, attempts) for record in kept]}


@app.get("/api/waits", dependencies=_READS)
def waits(user: GetUserDep, session: SessionDep, dag_id: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """The waits that have not ended.

    :param dag_id: only those of this DAG.
    """
    dag_ids = _readable(user, history.dags_with(session, "wait"), dag_id)
    return {"polls": [_poll(poll) for poll in waiting.waits(session, dag_ids)]}


@app.get("/api/watchers", dependencies=[*_READS, Depends(requires_access_asset("GET"))])
def watchers(user: GetUserDep, session: SessionDep, dag_id: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """The watchers of the assets that DAGs are scheduled on.

    :param dag_id: only those that start this DAG.
    """
    found = waiting.watchers(session, lambda dag_ids: _readable(user, dag_ids, dag_id))
    return {"polls": [_poll(poll) for poll in found]}


def _poll(poll: waiting.Poll) -> dict[str, Any]:
    return {name: _seconds(value) if isinstance(value, datetime) else value for name, value in poll._asdict().items()}


def _readable(user: Any, dag_ids: Iterable[str], only: str | None) -> set[str]:
    """Those of the DAGs that the user may read; the right to read ``only`` has been checked already."""
    found = {*dag_ids} & ({only} if only else {*dag_ids})
    return found & get_auth_manager().get_authorized_dag_ids(user=user, method="GET") if found else found


def _ingest(record: Record, attempts: dict[Task, Attempt]) -> dict[str, Any]:
    counts = {key: record.value.get(key) for key in ("events", "inserted", "duplicates", "rejected")}
    attempt = attempts.get(record.task)
    state = "success" if counts["inserted"] is not None else attempt.state if attempt else None
    target = str(record.value.get("target", ""))
    return {"task": record.task, "at": _seconds(record.at), "target": target, "state": state, **counts}


def _seconds(moment: datetime) -> float:
    return _short(moment.timestamp())


def _short(seconds: float) -> float:
    return int(seconds) if seconds.is_integer() else seconds


class _Compact:
    """Makes few bytes of many windows: names and tasks stand once, and windows refer to them by number.

    A window is ``[start, length, state, task, rows, files, manifest]``, moments and lengths in seconds, without
    trailing nothings; a task is ``[DAG, task, run, map index, logical date]``. A manifest of the usual name is 1.
    """

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.tasks: list[list[Any]] = []
        self._known: dict[Task, int] = {}

    def calendar(self, calendar: Calendar) -> dict[str, Any]:
        """A calendar as JSON."""
        run = calendar.next_run
        return {
            "destination": calendar.destination,
            "filters": calendar.filters,
            "names": calendar.names,
            "filtered_by": calendar.filtered_by,
            "zone": calendar.zone,
            "owner": calendar.owner and [calendar.owner.dag_id, calendar.owner.task_id],
            "offset": None if calendar.offset is None or run is None else calendar.offset.total_seconds(),
            "due": calendar.due and [_seconds(calendar.due.start), _seconds(calendar.due.end)],
            "after": run and _seconds(run.after),
            "paused": run and run.paused,
            "indexed": calendar.indexed,
            "windows": [self._window(window, calendar.filters) for window in calendar.windows],
        }

    def _window(self, window: Window, filters: str) -> list[Any]:
        value = [
            _seconds(window.span.start),
            _short(window.span.duration.total_seconds()),
            _STATES.index(window.state),
            window.task and self._task(window.task, window.logical_date),
            window.rows,
            window.files,
            1 if window.manifest == _usual_name(window.span, filters) else window.manifest,
        ]
        while value[-1] is None:
            value.pop()
        return value

    def _task(self, task: Task, logical_date: datetime | None) -> int:
        if task not in self._known:
            self._known[task] = len(self.tasks)
            dag_id, task_id = (self.names.setdefault(name, len(self.names)) for name in task[:2])
            moment = None if logical_date is None else _seconds(logical_date)
            self.tasks.append([dag_id, task_id, task.run_id, task.map_index, moment])
        return self._known[task]


def _usual_name(span: EventWindow, filters: str) -> str:
    return ExportName(span, filters).manifest
