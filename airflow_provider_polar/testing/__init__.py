"""A local Polar: Polar's API of events and meters with its real server's behaviour and traps, on SQLite.

For the demo, this project's tests and the users' own DAG tests::

    from airflow_provider_polar.testing import LocalPolar

    with LocalPolar(token="polar_oat_test") as polar:
        polar.add_events([{"name": "api.call", "external_customer_id": "c1", "timestamp": "2026-10-01T10:00:00Z"}])
        ...  # point a connection's host at polar.base_url
        polar.fail("lost_response", path="ingest", times=1)
        polar.events(), polar.requests

As a process of its own::

    python -m airflow_provider_polar.testing --port 8080 --token polar_oat_test --seed

and as pytest fixtures `polar_server` and `polar_connection` (see `plugin`).

A server in another process is steered over HTTP, without a token, in JSON; these requests are not recorded:

============================= =============================================================================
GET    /_local/state          organization id, counts of events and requests, faults
GET    /_local/truth          {"events": [...]} every stored event with its external id
POST   /_local/events         {"events": [...], "visible_after", "index", "store", "copies"} -> {"ids"}
POST   /_local/events/remove  the arguments of `remove_events`; `restore` gives them back
POST   /_local/events/meter   the arguments of `meter_otherwise`
POST   /_local/customers      {"external_id", "email", "name", "metadata"} -> the customer
POST   /_local/organizations  the arguments of `add_organization`
POST   /_local/tokens         the arguments of `add_token`
POST   /_local/meters         the arguments of `add_meter`
POST   /_local/faults         the arguments of `fail`; DELETE clears them
GET    /_local/requests       {"requests": [...]}; DELETE clears them
POST   /_local/restart        {"down"} connections are refused for so many seconds
PATCH  /_local/settings       {"visibility_lag", "rate_limit", "bounds", "collapse_duplicates", "environment",
                              "analytics", "cost"}
============================= =============================================================================

It stands alone: nothing here imports the provider's own client, so that the two can't share a mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polar.testing.faults import Fault, RequestRecord
    from airflow_provider_polar.testing.local import LocalPolar

__all__ = ["Fault", "LocalPolar", "RequestRecord"]


def __getattr__(name: str) -> Any:
    # The pytest plugin of this package is loaded in every test run of its users; it must cost nothing.
    if name == "LocalPolar":
        from airflow_provider_polar.testing.local import LocalPolar

        return LocalPolar
    if name in ("Fault", "RequestRecord"):
        from airflow_provider_polar.testing import faults

        return getattr(faults, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
