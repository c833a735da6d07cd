"""PolarHook.ingest_events: what its documentation says about ids is so, and its example is safe to run again."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_polar.exceptions import PolarTransportError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.testing import LocalPolar

EVENT = {"name": "storage.used", "external_customer_id": "acme"}


def test_the_example_bills_once_through_a_lost_response_and_a_second_try(
    polar_server: LocalPolar, polar_connection: str, run_dag: Any
) -> None:
    text = inspect.getdoc(PolarHook.ingest_events)
    assert text
    found = re.search(r"code-block:: python\n\n((?:    .*\n|\n)+)", text)
    assert found
    names: dict[str, Any] = {}
    exec(inspect.cleandoc(found[1]), names)
    polar_server.fail("lost_response", path="ingest", times=1)
    assert run_dag(names["dag"], logical_date=datetime(2026, 11, 3, tzinfo=UTC)).state == "success"
    stored = sorted(event["external_id"] for event in polar_server.events())
    prefixes, days = zip(*(external_id.rsplit("/", 1) for external_id in stored), strict=True)
    assert prefixes == ("storage/acme", "storage/globex")
    again = names["bill"].function({"acme": 12.5, "globex": 3.0}, days[0])
    assert again == {"inserted": 0, "duplicates": 2}


def test_an_event_without_an_id_is_not_sent_again_and_not_recognised(
    polar_server: LocalPolar, polar_connection: str
) -> None:
    polar_server.fail("lost_response", path="ingest", times=1)
    hook = PolarHook()
    with pytest.raises(PolarTransportError):
        hook.ingest_events([EVENT])
    assert polar_server.count() == 1
    assert hook.ingest_events([EVENT]) == {"inserted": 1, "duplicates": 0}
    assert polar_server.count() == 2
