"""The Test button: tells apart what a user can fix."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import NO_RETRIES
from airflow_provider_polar.exceptions import PolarError, PolarRateLimitError, PolarScopeError, PolarVersionError
from airflow_provider_polar.hooks.settings import ConnectionSettings
from airflow_provider_polar.wording import number_of


def check_connection(read_settings: Callable[[], ConnectionSettings]) -> tuple[bool, str]:
    """Whether the connection works, and for what, in words. Never raises, never shows the token.

    It takes two requests, for none alone tells everything: a list shows whether the token is valid, may read, and
    which server and version respond; an ingest of no events, which stores nothing, whether the token may ingest.
    """
    settings = None
    try:
        settings = read_settings()
        works, told = _check(settings)
    except PolarRateLimitError as error:
        works, told = True, f"The token is valid. {error}"
    except PolarError as error:
        works, told = False, str(error)
    except Exception as error:  # the button must show something, whatever happens
        works, told = False, f"The connection could not be tested: {type(error).__name__}"
    for secret in settings.secrets if settings else ():
        told = told.replace(secret, "***")
    return works, told


def _check(settings: ConnectionSettings) -> tuple[bool, str]:
    with PolarClient(**settings.client_options(), retries=NO_RETRIES) as client:
        try:
            count = client.list(limit=1, organization_id=settings.organization_id).pagination.total_count
        except PolarScopeError as error:
            return False, f"The token is valid, but lacks a scope: reading needs {' or '.join(error.scopes)}"
        except PolarVersionError:
            return False, (
                f"{settings.base_url} responds, but does not know Polar's Events API in version "
                f"{settings.api_version!r}: check API Version and Base URL"
            )
        works, needs = "reading and ingesting work", ""
        try:
            client.ingest([])
        except PolarScopeError:
            works, needs = "reading works", "; ingesting needs the scope events:write"
    visible = f"{number_of(count, 'event')} {'is' if count == 1 else 'are'} visible"
    if settings.organization_id and not count:
        visible = f"no event of organization {settings.organization_id} is visible"
    return True, f"Connected to {settings.base_url} (API version {settings.api_version}): {works}; {visible}{needs}"
