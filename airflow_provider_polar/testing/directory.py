"""Who and what a local Polar knows beside events: organizations, tokens, customers, meters."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_polar.testing.database import Database
from airflow_provider_polar.testing.times import to_text


class Directory:
    """Safe to use from the server's thread and from the test's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._customers: dict[str, dict[str, Any]] = {}
        self._customers_by_external: dict[tuple[str, str], dict[str, Any]] = {}
        for (body,) in database.connection.execute("SELECT body FROM customers"):
            self._remember_customer(json.loads(body))

    def add_organization(self, name: str) -> str:
        with self._database.lock:
            organization = self._database.new_id()
            self._database.connection.execute("INSERT INTO organizations VALUES (?, ?)", (organization, name))
            return organization

    def add_token(self, token: str, organization: str, scopes: Sequence[str]) -> None:
        with self._database.lock:
            self._database.connection.execute(
                "INSERT OR REPLACE INTO tokens VALUES (?,?,?)", (_digest(token), organization, " ".join(scopes))
            )

    def remove_token(self, token: str) -> None:
        with self._database.lock:
            self._database.connection.execute("DELETE FROM tokens WHERE digest = ?", (_digest(token),))

    def token(self, token: str) -> tuple[str, frozenset[str]] | None:
        """The organization and the scopes of a token, None for a token that is not known."""
        with self._database.lock:
            row = self._database.connection.execute(
                "SELECT organization, scopes FROM tokens WHERE digest = ?", (_digest(token),)
            ).fetchone()
            return (row[0], frozenset(row[1].split())) if row else None

    def add_customer(
        self,
        organization: str,
        external_id: str | None,
        email: str | None,
        name: str | None,
        metadata: Mapping[str, Any] | None,
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        with self._database.lock:
            number = len(self._customers) + 1
            email = email or f"customer{number}@example.com"
            gravatar = hashlib.sha256(email.encode()).hexdigest()
            customer: dict[str, Any] = {
                "id": self._database.new_id(),
                "created_at": to_text(time.time_ns() // 1000),
                "modified_at": None,
                "metadata": dict(metadata or {}),
                "external_id": external_id,
                "email": email,
                "email_verified": False,
                "type": "individual",
                "name": name or f"Customer {number}",
                "billing_name": name or f"Customer {number}",
                "billing_address": None,
                "tax_id": None,
                "locale": None,
                "organization_id": organization,
                "default_payment_method_id": None,
                "deleted_at": None,
                "first_user_event_at": None,
                "avatar_url": f"https://www.gravatar.com/avatar/{gravatar}?d=404",
                **(fields or {}),
            }
            self._database.connection.execute(
                "INSERT INTO customers VALUES (?,?,?,?)",
                (customer["id"], organization, external_id, json.dumps(customer)),
            )
            self._remember_customer(customer)
            return dict(customer)

    def _remember_customer(self, customer: dict[str, Any]) -> None:
        self._customers[customer["id"]] = customer
        if customer["external_id"] is not None:
            self._customers_by_external[customer["organization_id"], customer["external_id"]] = customer

    def customer(self, organization: str, customer_id: str) -> dict[str, Any] | None:
        customer = self._customers.get(customer_id)
        return customer if customer and customer["organization_id"] == organization else None

    def with_external_ids(self, organization: str, external_ids: Sequence[str]) -> list[str]:
        """The ids of the customers that have these external ids."""
        found = (self._customers_by_external.get((organization, external)) for external in external_ids)
        return [customer["id"] for customer in found if customer]

    def external_ids(self, organization: str, customer_ids: Sequence[str]) -> list[str]:
        """The external ids of the customers that have these ids."""
        found = (self.customer(organization, customer_id) for customer_id in customer_ids)
        return [customer["external_id"] for customer in found if customer and customer["external_id"] is not None]

    def customers_like(self, organization: str, text: str) -> list[dict[str, Any]]:
        text = text.casefold()
        fields = ("id", "external_id", "name", "email")
        return [
            customer
            for customer in self._customers.values()
            if customer["organization_id"] == organization
            and any(text in (customer[name] or "").casefold() for name in fields)
        ]

    def add_meter(self, organization: str, meter: Mapping[str, Any]) -> str:
        with self._database.lock:
            meter_id = self._database.new_id()
            fixed = {"id": meter_id, "created_at": to_text(time.time_ns() // 1000), "organization_id": organization}
            self._database.connection.execute(
                "INSERT INTO meters VALUES (?,?,?)", (meter_id, organization, json.dumps({**meter, **fixed}))
            )
            return meter_id

    def meters(self, organization: str) -> list[dict[str, Any]]:
        """Every meter as the API gives it, in the order of creation."""
        with self._database.lock:
            rows = self._database.connection.execute(
                "SELECT body FROM meters WHERE organization = ? ORDER BY rowid", (organization,)
            )
            return [json.loads(body) for (body,) in rows]

    def meter(self, organization: str, meter_id: str) -> dict[str, Any] | None:
        """The meter of this id."""
        return next((meter for meter in self.meters(organization) if meter["id"] == meter_id), None)

    def customer_of(self, organization: str, customer_id: str | None, external: str | None) -> dict[str, Any] | None:
        """The customer that Polar shows in an event."""
        customer = self.customer(organization, customer_id) if customer_id else None
        if customer is None and external is not None:
            customer = self._customers_by_external.get((organization, external))
        return customer


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
