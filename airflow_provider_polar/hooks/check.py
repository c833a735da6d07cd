"""The Test button: tells apart what a user can mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_polar.exceptions import (
    PolarAuthenticationError,
    PolarConfigurationError,
    PolarError,
    PolarRateLimitError,
    PolarScopeError,
    PolarTransportError,
    PolarVersionError,
)

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import PolarClient
    from airflow_provider_polar.hooks.polar import PolarHook


def check_connection(hook: PolarHook) -> tuple[bool, str]:
    """Whether the connection works, and for what, in words. Never raises."""
    try:
        return _check(hook)
    except PolarError as error:
        return False, str(error)
    except Exception as error:  # the button must show something, whatever happens
        return False, f"The connection could not be tested: {type(error).__name__}"


def _check(hook: PolarHook) -> tuple[bool, str]:
    from airflow_provider_polar.api.client import PolarClient
    from airflow_provider_polar.api.retrying import NO_RETRIES

    settings = hook.settings
    with PolarClient(**settings.client_options(), retries=NO_RETRIES) as client:
        try:
            count = client.list(limit=1, organization_id=settings.organization_id).pagination.total_count
        except PolarAuthenticationError as error:
            return False, str(error)
        except PolarScopeError as error:
            return False, f"The token is valid, but lacks a scope: reading needs {' or '.join(error.scopes)}."
        except PolarVersionError:
            return False, (
                f"{settings.base_url} answers, but does not know Polar's Events API in version "
                f"{settings.api_version!r}: check API Version and Base URL."
            )
        except PolarRateLimitError as error:
            return True, f"The token is valid; the organization's request budget is used up just now: {error}"
        except PolarTransportError as error:
            return False, f"{settings.base_url} cannot be reached: {error}"
        except PolarConfigurationError as error:
            return False, str(error)
        writing = _may_write(client)
    place = f"{settings.base_url} (API version {settings.api_version})"
    if writing:
        return True, f"Connected to {place}: reading and ingesting work; {count:,} events are visible."
    return (
        True,
        f"Connected to {place}: reading works ({count:,} events visible); ingesting needs the scope events:write.",
    )


def _may_write(client: PolarClient) -> bool:
    """An ingest of no events stores nothing, and is refused without the scope."""
    try:
        client.ingest([])
    except PolarScopeError:
        return False
    return True
