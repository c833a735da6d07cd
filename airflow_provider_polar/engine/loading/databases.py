"""The databases that a load knows. To add one, add its class, by what its drivers' modules are called."""

from __future__ import annotations

from typing import Any

from airflow_provider_polar.engine.loading.database import Database
from airflow_provider_polar.engine.loading.duck import DuckDb
from airflow_provider_polar.engine.loading.mysql import MySql
from airflow_provider_polar.engine.loading.postgres import Postgres
from airflow_provider_polar.engine.loading.sqlite import Sqlite

_OF_DRIVER: dict[str, type[Database]] = {
    "psycopg": Postgres,
    "psycopg2": Postgres,
    "sqlite3": Sqlite,
    "duckdb": DuckDb,
    "_duckdb": DuckDb,
    "MySQLdb": MySql,
    "pymysql": MySql,
    "mysql": MySql,
}


def database_of(connection: Any, where: str) -> Database:
    """The database of a DB-API connection, by its driver.

    :param where: the database in words, for messages.
    """
    driver = type(connection).__module__.partition(".")[0]
    return _OF_DRIVER.get(driver, Database)(connection, where)
