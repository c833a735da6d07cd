"""The asset scheme ``polar``: ``polar://ORGANIZATION/events`` and ``polar://ORGANIZATION/events/NAME``.

ORGANIZATION is whatever tells your organizations apart and never changes: its slug, its id or the connection id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

_ORGANIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def create_asset(*, organization: str, event_name: str | None = None, extra: dict[str, Any] | None = None) -> Asset:
    """An asset for the events of an organization.

    :param organization: slug, id or connection id.
    :param event_name: only the events with this name; None for all.
    :raises ValueError: an organization that cannot stand in a URI.
    """
    path = f"/{quote(event_name, safe='')}" if event_name else ""
    return Asset(uri=f"polar://{organization}/events{path}", extra=extra or {})


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """The URI in its one form.

    :raises ValueError: it is not ``polar://ORGANIZATION/events`` or ``polar://ORGANIZATION/events/NAME``.
    """
    parts = uri.path.strip("/").split("/")
    if not _ORGANIZATION.fullmatch(uri.netloc) or parts[0] != "events" or len(parts) > 2 or uri.query:
        raise ValueError("URI format polar:// must be polar://ORGANIZATION/events or polar://ORGANIZATION/events/NAME")
    name = "".join(f"/{quote(unquote(part), safe='')}" for part in parts[1:])
    return uri._replace(netloc=uri.netloc.lower(), path=f"/events{name}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:  # noqa: ARG001
    """The same as a data set of OpenLineage: namespace ``polar://ORGANIZATION``, name ``events/NAME``."""
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

    uri = urlsplit(asset.uri)
    return OpenLineageDataset(namespace=f"polar://{uri.netloc}", name=unquote(uri.path.lstrip("/")))
