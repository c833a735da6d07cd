"""The connection form, described once.

Airflow 3.2 and newer read it from the provider's metadata, older ones from the hook's methods."""

from __future__ import annotations

from typing import Any

from airflow_provider_polar.environments import DEFAULT_API_VERSION, DEFAULT_ENVIRONMENT, DEFAULT_TIMEOUT, ENVIRONMENTS

CONN_TYPE = "polar"
_PRODUCTION, _SANDBOX = ENVIRONMENTS["production"], ENVIRONMENTS["sandbox"]
HIDDEN = ["schema", "login", "extra"]
# Port stays visible: without one, the Test button of Airflow 3.3.1 and 3.3.2 only says "Bad Request"
# (apache/airflow#73298).
RELABELING = {"password": "Access Token", "host": "Base URL"}
PLACEHOLDERS = {
    "password": "polar_oat_...",
    "host": "empty: the environment's own",
    "port": "443 makes the Test button work in Airflow 3.3.1 and 3.3.2",
}

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "environment": {
        "label": "Environment",
        "description": "Where the access token was made. Decides the base URL unless one is given.",
        "schema": {"type": ["string", "null"], "enum": [*ENVIRONMENTS], "default": DEFAULT_ENVIRONMENT},
    },
    "organization_id": {
        "label": "Organization ID",
        "description": "Optional UUID: limits reads to this organization, for tokens that may see several.",
        "schema": {"type": ["string", "null"]},
    },
    "api_version": {
        "label": "API Version",
        "description": f"The Polar-Version header; {DEFAULT_API_VERSION} unless given.",
        "schema": {"type": ["string", "null"], "default": DEFAULT_API_VERSION},
    },
    "requests_per_minute": {
        "label": "Requests per Minute",
        "description": (
            "Request budget, evenly spread. Polar counts all of an organization's requests together, its shop's "
            f"included: {_PRODUCTION.granted} a minute in production, {_SANDBOX.granted} in the sandbox. "
            f"Default: {_PRODUCTION.budget:g} and {_SANDBOX.budget:g}."
        ),
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": (
            "How long to wait for a connection, and for a response to begin or go on; "
            f"{DEFAULT_TIMEOUT:g} unless given."
        ),
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "allow_http": {
        "label": "Allow HTTP",
        "description": (
            "Send the access token unencrypted: true only for a server in a network of your own. This machine itself "
            "(localhost) needs no permission."
        ),
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}


def ui_field_behaviour() -> dict[str, Any]:
    """Standard fields: which are hidden, renamed, explained.

    ``schema`` is hidden and never relabelled, because Airflow 3 cannot save a form with a relabelled one."""
    return {"hidden_fields": HIDDEN, "relabeling": RELABELING, "placeholders": PLACEHOLDERS}


def widgets() -> dict[str, Any]:
    """The provider's own fields as wtforms fields.

    Only names that Airflow's API server stands in for where Flask AppBuilder is not installed."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, StringField
    from wtforms.validators import Optional, any_of

    kinds = {"boolean": BooleanField, "integer": IntegerField, "string": StringField}
    fields: dict[str, Any] = {}
    for name, described in CONN_FIELDS.items():
        schema = described["schema"]
        field = kinds[schema["type"][0]]
        fields[name] = field(
            described["label"],
            validators=[Optional()] + ([any_of(schema["enum"])] if "enum" in schema else []),
            description=described["description"],
            default=schema.get("default"),
            **({} if field is BooleanField else {"widget": BS3TextFieldWidget()}),
        )
    return fields
