"""The traps, each a function; importing this makes all of them known."""

from airflow_provider_polar.testing.acceptance.traps import bounds, contents, faults, repeated  # noqa: F401
