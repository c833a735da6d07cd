"""Polar's Events API over httpx: the requests, the responses, what can go wrong. Knows nothing of Airflow."""
