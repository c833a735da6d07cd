"""Polar's Events API over httpx: what is asked, what is answered, what can go wrong. Knows nothing of Airflow."""
