"""What to tell a user whose run says no window."""

from __future__ import annotations

from airflow_provider_polar.windows.facts import RunFacts


def no_window(facts: RunFacts) -> str:
    """Names the schedule, says why it gives no window, and gives the two lines that fix it."""
    schedule = facts.schedule
    usual = schedule.usual_length()
    on_task = f'    window="{usual}"  # on this task: what lies before each run'
    params = 'start="{{ params.start }}", end="{{ params.end }}"'
    if facts.partition_key or facts.partition_date:
        said = facts.partition_key or facts.partition_date
        why = f"the run's partition {said!r} does not say how long it is, or is no moment"
        lines = [
            f'    window="{usual}"  # on this task: the length of a partition',
            '    start="...", end="..."  # or on this task, as templates: the moments themselves',
        ]
    elif facts.data_interval or facts.logical_date:
        why = "the run's data interval starts and ends at the same moment"
        if "Trigger" in schedule.kind:
            what = "a timedelta" if schedule.delta else "a cron"
            why = f"in Airflow 3 {what} schedule names moments, and the data interval starts and ends at the same one"
        if schedule.cron:
            timetable = f'CronDataIntervalTimetable("{schedule.cron}", timezone="{schedule.timezone}")'
            other = f"schedule={timetable}  # or on the DAG"
        elif schedule.delta:
            other = f"schedule=DeltaDataIntervalTimetable({schedule.delta!r})  # or on the DAG"
        else:
            other = f"{params}  # or on this task, with params of the DAG"
        lines = [on_task, f"    {other}"]
    else:
        why = "the run has no data interval, no logical date and no partition"
        if facts.asset_events:
            why += ", and the asset events that triggered it say no window (an extra with window.start and window.end)"
        if facts.watermark is not None:
            why += ", and no watermark is kept yet to go on from"
        lines = [
            f"    {params}  # on this task, with params of the DAG",
            f'    outlets=[...], window="{usual}"  # or here, Airflow 3.3: from the last run on, first this far back',
        ]
    moment = f" at {facts.logical_date.isoformat()}" if facts.logical_date else ""
    return (
        f"DAG {facts.dag_id!r} with the schedule {schedule} gives its run {facts.run_id!r}{moment} no window: {why}. "
        "Write one of these two lines:\n" + "\n".join(lines)
    )
