"""Which window of events a run is about, whatever way its DAG is scheduled."""

from airflow_provider_polar.windows.choice import WindowChoice
from airflow_provider_polar.windows.context import advance_watermark, resolve, resolve_window
from airflow_provider_polar.windows.explain import check_schedule
from airflow_provider_polar.windows.lengths import CalendarWindow

__all__ = ["CalendarWindow", "WindowChoice", "advance_watermark", "check_schedule", "resolve", "resolve_window"]
