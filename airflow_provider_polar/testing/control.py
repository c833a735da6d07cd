"""A local Polar steered from another process, over HTTP."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polar.testing.local import LocalPolar


def control(polar: LocalPolar, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """The status and the JSON content of the response to one control request."""
    controls: dict[tuple[str, str], Callable[..., Any]] = {
        ("GET", "state"): lambda: _state(polar),
        ("PATCH", "settings"): lambda **given: _change_settings(polar, given),
        ("GET", "truth"): lambda **given: {"events": polar.events(**given)},
        ("POST", "events"): lambda **given: {"ids": polar.add_events(**given)},
        ("POST", "events/remove"): polar.remove_events,
        ("POST", "events/restore"): polar.restore_events,
        ("POST", "events/meter"): polar.meter_otherwise,
        ("POST", "customers"): polar.add_customer,
        ("POST", "organizations"): lambda **given: {"id": polar.add_organization(**given)},
        ("POST", "tokens"): polar.add_token,
        ("POST", "meters"): lambda **given: {"id": polar.add_meter(**given)},
        ("POST", "faults"): lambda **given: polar.fail(**given) and {"faults": polar.faults},
        # The response must be out before its own server stops.
        ("POST", "restart"): lambda **given: threading.Timer(0.1, polar.restart, kwargs=given).start(),
        ("DELETE", "faults"): polar.clear_faults,
        ("GET", "requests"): lambda: {"requests": [asdict(record) for record in polar.requests]},
        ("DELETE", "requests"): polar.clear_requests,
    }
    if (wanted := controls.get((method, path))) is None:
        return 404, {"detail": f"no control {method} {path}"}
    try:
        return 200, wanted(**_pairs(**(json.loads(body) if body else {}))) or {}
    except (TypeError, ValueError, sqlite3.IntegrityError) as error:
        return 400, {"detail": str(error)}


def _state(polar: LocalPolar) -> dict[str, Any]:
    return {
        "organization_id": polar.organization_id,
        "count": polar.count(),
        "requests": len(polar.requests),
        "requests_per_minute": polar.requests_per_minute(),
        "faults": polar.faults,
    }


def _change_settings(polar: LocalPolar, given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if not hasattr(polar.settings, name):
            raise ValueError(f"no setting {name!r}")
        setattr(polar.settings, name, value)
    return asdict(polar.settings)


def _pairs(**given: Any) -> dict[str, Any]:
    """JSON has no pairs, only lists; of the arguments that may come as a pair none may come as a list."""
    paired = ("visibility_lag", "visible_after", "rate_limit")
    return {
        name: tuple(value) if name in paired and isinstance(value, list) else value for name, value in given.items()
    }
