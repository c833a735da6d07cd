"""What Airflow reads about this provider."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    from airflow_provider_polar.hooks.connection_form import CONN_FIELDS, HIDDEN, PLACEHOLDERS, RELABELING

    return {
        "package-name": "airflow-provider-polar",
        "name": "Polar",
        # Airflow's list of providers takes what follows an address without a space for a part of it.
        "description": "Ingest, wait for and export billing events of `Polar <https://polar.sh/>`__",
        "integrations": [
            {
                "integration-name": "Polar",
                "external-doc-url": "https://polar.sh/docs/features/usage-based-billing/event-ingestion",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Polar", "python-modules": ["airflow_provider_polar.hooks.polar"]}],
        "connection-types": [
            {
                "connection-type": "polar",
                "hook-class-name": "airflow_provider_polar.hooks.polar.PolarHook",
                "hook-name": "Polar",
                "ui-field-behaviour": {
                    "hidden-fields": HIDDEN,
                    "relabeling": RELABELING,
                    "placeholders": PLACEHOLDERS,
                },
                "conn-fields": CONN_FIELDS,
            }
        ],
        "operators": [
            {
                "integration-name": "Polar",
                "python-modules": [
                    "airflow_provider_polar.operators.ingest",
                    "airflow_provider_polar.operators.export",
                    "airflow_provider_polar.operators.reconcile",
                    "airflow_provider_polar.operators.verify",
                    "airflow_provider_polar.operators.names",
                    "airflow_provider_polar.operators.get",
                    "airflow_provider_polar.operators.plan",
                    "airflow_provider_polar.operators.assemble",
                ],
            }
        ],
        "transfers": [
            {
                "source-integration-name": "Polar",
                "target-integration-name": "Common SQL",
                "python-module": "airflow_provider_polar.transfers.events_to_sql",
            },
            {
                "source-integration-name": "Polar",
                "target-integration-name": "Apache Iceberg",
                "python-module": "airflow_provider_polar.transfers.events_to_iceberg",
            },
        ],
        "sensors": [{"integration-name": "Polar", "python-modules": ["airflow_provider_polar.sensors.event"]}],
        "triggers": [
            {
                "integration-name": "Polar",
                "python-modules": ["airflow_provider_polar.triggers.event", "airflow_provider_polar.triggers.watch"],
            }
        ],
        "task-decorators": [
            {"name": "polar_ingest", "class-name": "airflow_provider_polar.decorators.ingest.polar_ingest_task"}
        ],
        "notifications": ["airflow_provider_polar.notifications.event.PolarEventNotifier"],
        "extra-links": [
            "airflow_provider_polar.links.polar.PolarEventsLink",
            "airflow_provider_polar.links.polar.PolarManifestLink",
            "airflow_provider_polar.links.polar.PolarReportLink",
        ],
        "config": {
            "polar": {
                "description": "The ledger, Polar's page in Airflow.",
                "options": {
                    "ledger_destinations": {
                        "description": (
                            "Directories of exports, separated by white space, each of which keeps an index that the "
                            "ledger reads: it shows windows that Airflow has forgotten. Workers and web servers need "
                            "the same value."
                        ),
                        "version_added": None,
                        "type": "string",
                        "example": "s3://aws_default@my-bucket/polar/events",
                        "default": "",
                    }
                },
            }
        },
        "asset-uris": [
            {
                "schemes": ["polar"],
                "handler": "airflow_provider_polar.assets.polar.sanitize_uri",
                "factory": "airflow_provider_polar.assets.polar.create_asset",
                "to_openlineage_converter": "airflow_provider_polar.assets.polar.convert_asset_to_openlineage",
            }
        ],
    }
