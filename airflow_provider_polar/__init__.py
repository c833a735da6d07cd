"""Apache Airflow provider for Polar's Events API: ingest, wait for and export billing events."""

__version__ = "0.1.0"
