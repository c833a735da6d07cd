"""Errors of databases, as they are told; and names of tables."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polar.engine.loading.failures import telling
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarDatabaseError,
    PolarError,
    PolarSourceError,
    PolarTableError,
)

KNOWN = {"events", "label", "app"}


class Error(Exception):
    """As PEP 249 has it; each driver has its own."""


class ProgrammingError(Error):
    pass


class OperationalError(Error):
    pass


def told(error: Exception) -> PolarError:
    with pytest.raises(PolarError) as caught, telling("load", "the warehouse", KNOWN):
        raise error
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('permission denied for table "events"', 'permission denied for table "events"'),
        ('column "label" of relation "events" does not exist', 'column "label" of relation "events" does not exist'),
        ("INSERT command denied to user 'me'@'10.0.0.1' for table `app`.`events`", "INSERT command denied to user …"),
        ("Data too long for column 'label' at row 1", "Data too long for column 'label' at row 1"),
        ("Incorrect string value: 'ann@example.com' for column", "Incorrect string value: … for column"),
        ('invalid input syntax: "it\'s a \'secret\' "value" here"', "invalid input syntax: …"),
        ("Can't create table `app`.`events`", "Can't create table `app`.`events`"),
        ("bad 'unfinished secret", "bad …"),
        ("first line\nLINE 2: secret", "first line"),
        ("", "no reason given"),
    ],
)
def test_a_message_is_passed_on_without_the_values_that_it_quotes(message: str, shown: str) -> None:
    text = str(told(ProgrammingError(message)))
    assert text.startswith(f"cannot load in the warehouse: ProgrammingError: {shown}")
    assert "ann@" not in text
    assert "secret" not in text


def test_a_number_before_the_message_and_a_diagnosis_after_it() -> None:
    assert "ProgrammingError: no such thing. The" in str(told(ProgrammingError(1146, "no such thing")))
    error: Any = ProgrammingError("no such thing\nDETAIL: ann@example.com")
    error.diag = SimpleNamespace(message_primary="not a thing")
    assert "ProgrammingError: not a thing. The table is as it was" in str(told(error))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ProgrammingError("x"), PolarTableError),
        (OperationalError("x"), PolarDatabaseError),
        (sqlite3.IntegrityError("x"), PolarTableError),
        (sqlite3.OperationalError("x"), PolarDatabaseError),
    ],
    ids=repr,
)
def test_what_a_retry_may_help(error: Exception, kind: type[PolarError]) -> None:
    found = told(error)
    assert type(found) is kind
    assert found.retryable == (kind is PolarDatabaseError)


@pytest.mark.parametrize("error", [PolarSourceError("x"), KeyError("x")], ids=repr)
def test_errors_of_no_database_are_not_touched(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, telling("load", "the warehouse"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("events", ("events",)),
        (" usage.events ", ("usage", "events")),
        ("lake.usage.events", ("lake", "usage", "events")),
        ('"my.schema"."an ""event"""', ("my.schema", 'an "event"')),
    ],
)
def test_names_of_tables(text: str, parts: tuple[str, ...]) -> None:
    assert TableName.parse(text).parts == parts
    assert TableName.parse(text).beside("polar_loads").parts == (*parts[:-1], "polar_loads")


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.b.c.d", 'a"b', '"a', "a\0", None, 5])
def test_what_is_no_name_of_a_table(text: Any) -> None:
    with pytest.raises(PolarConfigurationError, match=r"^table is .*; it is a table's name, such as"):
        TableName.parse(text)
