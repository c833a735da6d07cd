"""Polar's events as Airflow assets."""
