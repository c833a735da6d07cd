"""What is wrong in a DAG file is refused when it is parsed; what a template makes of it, before any request."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath
from airflow.sdk import DAG

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarFilterError, PolarWindowError
from airflow_provider_polar.operators.assemble import PolarAssembleExportOperator
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.get import PolarGetEventOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.operators.names import PolarListEventNamesOperator
from airflow_provider_polar.operators.plan import PolarPlanExportOperator
from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator
from airflow_provider_polar.testing import LocalPolar

Make = Callable[..., Any]


def export(**options: Any) -> PolarExportEventsOperator:
    return PolarExportEventsOperator(**{"task_id": "export", "destination": "s3://b/x"} | options)


def reconcile(**options: Any) -> PolarReconcileEventsOperator:
    return PolarReconcileEventsOperator(**{"task_id": "reconcile", "destination": "s3://b/x"} | options)


def plan(**options: Any) -> PolarPlanExportOperator:
    return PolarPlanExportOperator(task_id="plan", **options)


def assemble(**options: Any) -> PolarAssembleExportOperator:
    return PolarAssembleExportOperator(**{"task_id": "assemble", "plan": [], "destination": "s3://b/x"} | options)


WITH_WINDOW = [export, reconcile, plan]
WITH_DESTINATION = [export, reconcile, assemble]
BAD_WINDOWS = ["1 fortnight", "1h", "1 day Mars/Base", "", timedelta(0), -1, True, [1]]
BAD_MOMENTS = ["yesterday", "2026-01-01", datetime(2026, 1, 1), ""]  # noqa: DTZ001
FIRST, LAST = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00+00:00"


@pytest.mark.parametrize("make", WITH_WINDOW)
@pytest.mark.parametrize(
    "options",
    [
        *({"window": window} for window in BAD_WINDOWS),
        *({"settle": settle} for settle in ("soon", "1 month", -1, timedelta(-1), False)),
        *({"start": moment, "end": LAST} for moment in BAD_MOMENTS),
        *({"start": FIRST, "end": moment} for moment in BAD_MOMENTS),
    ],
    ids=str,
)
def test_windows(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(PolarWindowError, match=r"window=|settle=|Mars/Base|\b(start|end) "):
        make(**options)


@pytest.mark.parametrize("make", WITH_WINDOW)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": LAST, "end": FIRST}, "reversed"),
        ({"start": FIRST, "end": FIRST}, "empty"),
        ({"start": FIRST}, "start is given without end"),
        ({"end": FIRST}, "end is given without start"),
    ],
)
def test_bounds_that_give_no_window(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolarWindowError, match=message):
        make(**options)


@pytest.mark.parametrize("make", WITH_DESTINATION)
@pytest.mark.parametrize("destination", ["", " ", "None", "lake/events", "file://lake", None, 5])
def test_destinations(make: Make, destination: Any) -> None:
    with pytest.raises(PolarConfigurationError, match="destination is "):
        make(destination=destination)


@pytest.mark.parametrize("destination", ["/lake", "file:///lake", "s3://aws_default@b/x", ObjectStoragePath("/lake")])
def test_destinations_that_there_are(destination: Any) -> None:
    export(destination=destination)


@pytest.mark.parametrize("make", [*WITH_WINDOW, assemble])
@pytest.mark.parametrize("budget", [0, -1, "many", float("nan"), True])
def test_budgets(make: Make, budget: Any) -> None:
    with pytest.raises(PolarConfigurationError, match="requests_per_minute is "):
        make(requests_per_minute=budget)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        *((make, {"filters": {"nmae": "x"}}, "nmae") for make in (*WITH_WINDOW, assemble)),
        (export, {"lookback": "2 months"}, "lookback="),
        (export, {"lookback": timedelta(0)}, "lookback"),
        (export, {"lookback": 0}, "lookback"),
        (export, {"lookback": 1.5}, "lookback"),
        (export, {"lookback": True}, "lookback"),
        (export, {"on_incomplete": "ignore"}, "on_incomplete is 'ignore'; it is 'fail' or 'warn'"),
        (export, {"max_concurrency": 0}, "max_concurrency"),
        (reconcile, {"on_difference": "ignore"}, "on_difference"),
        (plan, {"workers": 0}, "workers"),
        (plan, {"pieces": 0}, "pieces"),
    ],
)
def test_others(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolarConfigurationError, match=message):
        make(**options)


def test_small_operators() -> None:
    with pytest.raises(PolarConfigurationError, match="'7' is not an event id"):
        PolarGetEventOperator(task_id="get", event_id="7")
    with pytest.raises(PolarFilterError, match="nmae"):
        PolarListEventNamesOperator(task_id="names", filters={"nmae": "x"})


TEMPLATED = {
    "destination": "{{ var.value.lake }}",
    "start": "{{ params.start }}",
    "end": "{{ params.end }}",
    "window": "{{ params.window }}",
    "settle": "{% if params.slow %}3600{% else %}60{% endif %}",
    "lookback": "{{ params.back }}",
    "on_incomplete": "{{ params.strict }}",
    "requests_per_minute": "{{ params.budget }}",
    "filters": {"name": ["{{ params.name }}"]},
}


@pytest.mark.parametrize("name", TEMPLATED)
def test_templates_and_references_are_not_judged(name: str) -> None:
    """Each is a template field, too, else it would reach the task as it is written."""
    assert name in PolarExportEventsOperator.template_fields
    export(**{name: TEMPLATED[name]})
    with DAG("references", schedule=None):
        given = PolarListEventNamesOperator(task_id="names")
        referring = export(**{name: given.output})
    assert referring.upstream_task_ids == {"names"}
    export(destination=ObjectStoragePath("s3://{{ params.bucket }}/x"))


def test_what_templates_render_is_read(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path, run_dag: Any
) -> None:
    polar_server.add_events([{"name": "call", "timestamp": "2026-01-01T12:00:00Z", "external_customer_id": "a"}])
    params = {"start": FIRST, "window": "1 day", "settle": "60", "back": "2", "strict": "warn", "budget": "60000"}
    rendered = {
        "window": "{{ params.window }}",
        "settle": "{{ params.settle }}",
        "lookback": "{{ params.back }}",
        "on_incomplete": "{{ params.strict }}",
        "requests_per_minute": "{{ params.budget }}",
    }
    with DAG("rendered", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), params=params) as dag:
        export(destination=f"file://{tmp_path}", start="{{ params.start }}", **rendered)
    run = run_dag(dag)
    assert run.state == "success"
    assert (run.xcom("export")["rows"], len(run.xcom("export")["unexported"])) == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "None"}, "window='None' is no length"),
        ({"settle": ""}, "settle='' is no length"),
        ({"lookback": "0"}, "lookback"),
        ({"on_incomplete": "None"}, "on_incomplete is 'None'"),
        ({"requests_per_minute": "None"}, "requests_per_minute is 'None'"),
        ({"destination": "None/x"}, "relative"),
    ],
)
def test_what_a_template_makes_of_nothing_is_refused_before_any_request(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    operator = export(destination=f"file://{tmp_path}", start=FIRST, window="1 day")
    for name, value in options.items():
        setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=message):
        operator.execute({})
    assert polar_server.requests == []


@pytest.mark.parametrize(
    "options",
    [{"max_file_rows": "some"}, {"max_file_rows": 0}, {"include_fields": 5}, {"exclude_fields": "name"}],
    ids=str,
)
def test_a_layout_that_cannot_be_names_task_and_parameter(options: dict[str, Any]) -> None:
    with pytest.raises(PolarConfigurationError, match=f"task 'export': {next(iter(options))} is"):
        export(**options)


@pytest.mark.parametrize("mapped", [{"window": "1 fortnight"}, {"file_format": "xml"}, {"end": FIRST}], ids=str)
def test_what_a_task_is_mapped_over_fails_it_without_retries(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path, mapped: dict[str, Any]
) -> None:
    with DAG("mapped", schedule=None):
        operator = PolarExportEventsOperator.partial(
            task_id="export", destination=f"file://{tmp_path}", start=FIRST
        ).expand(**{name: [value] for name, value in mapped.items()})
    with pytest.raises(AirflowFailException):
        operator.unmap(mapped).execute({})
    assert polar_server.requests == []


@pytest.mark.parametrize(
    ("given", "mapped"),
    [
        ({"source": "file:///events.jsonl"}, {"events": [{"name": "x", "external_customer_id": "c"}]}),
        ({"on_invalid": "skip"}, {"events": [{"name": "x"}]}),
    ],
    ids=["two sources of events", "rejected rows kept nowhere"],
)
def test_what_does_not_go_together_fails_a_mapped_task_before_any_request(
    polar_server: LocalPolar, polar_connection: str, given: dict[str, Any], mapped: dict[str, Any]
) -> None:
    with DAG("mapped", schedule=None):
        operator = PolarIngestEventsOperator.partial(task_id="ingest", **given).expand(
            **{name: [value] for name, value in mapped.items()}
        )
    with pytest.raises(AirflowFailException, match=r"exactly one of events, source and sql|needs rejected_path"):
        operator.unmap(given | mapped).execute(
            {"ti": SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=0)}
        )
    assert polar_server.requests == []


@pytest.mark.parametrize(
    "name", ["destination", "start", "window", "filters", "settle", "lookback", "on_incomplete", "file_format"]
)
def test_what_a_callable_gives_is_not_judged_before_it_is_called(name: str) -> None:
    # It is templated as Jinja text is: Airflow calls it when it renders the task's fields.
    export(**{"window": "1 day", "end": LAST, name: lambda context, jinja_env: FIRST})


DAG_FILE = """
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG
from airflow_provider_polar.operators.export import PolarExportEventsOperator

with DAG("parsed", schedule={schedule}, start_date=datetime(2026, 1, 1, tzinfo=UTC), max_active_runs=1) as dag:
    pass
{task}
"""
INSIDE = 'with dag:\n    PolarExportEventsOperator(task_id="export", destination="s3://b/x"{options})'
LATER = 'task = PolarExportEventsOperator(task_id="export", destination="s3://b/x"{options})\ndag.add_task(task)'


def import_errors(folder: Path, schedule: str, task: str = INSIDE, options: str = "") -> list[str]:
    """What Airflow says of a DAG file when it parses it."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag  # Airflow before 3.2
    file = folder / "parsed.py"
    file.write_text(DAG_FILE.format(schedule=schedule, task=task.format(options=options)))
    bag = DagBag(dag_folder=str(file))
    assert bool(bag.dags) is not bool(bag.import_errors)
    return list(bag.import_errors.values())


@pytest.mark.parametrize("task", [INSIDE, LATER], ids=["inside", "later"])
@pytest.mark.parametrize("schedule", ['"@daily"', '"30 2 * * 1-5"', "timedelta(hours=6)"])
def test_a_schedule_without_a_window_is_an_import_error(tmp_path: Path, schedule: str, task: str) -> None:
    [error] = import_errors(tmp_path, schedule, task)
    assert "task 'export': DAG 'parsed' with the schedule " in error
    assert "gives its runs no window" in error
    assert import_errors(tmp_path, schedule, task, ', window="1 day"') == []
    assert import_errors(tmp_path, schedule, task, ', window="{{{{ params.window }}}}"') == []


def test_a_wrong_parameter_is_an_import_error_that_names_the_task(tmp_path: Path) -> None:
    [error] = import_errors(tmp_path, "None", options=', settle="1 fortnight"')
    assert "PolarWindowError: task 'export': settle='1 fortnight' is no length" in error


@pytest.mark.parametrize("schedule", ["None", '"@continuous"', "[Asset('x')]"])
def test_a_schedule_that_may_give_a_window_is_not_refused(tmp_path: Path, schedule: str) -> None:
    made = schedule.replace("Asset", "__import__('airflow.sdk').sdk.Asset")
    assert import_errors(tmp_path, made) == []
