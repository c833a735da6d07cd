"""Retry policies (Airflow 3.3 and newer)."""
