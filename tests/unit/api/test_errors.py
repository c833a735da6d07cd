"""Polar's recorded answers become errors a user can act on."""

import json

import httpx
import pytest

from airflow_provider_polar import exceptions
from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.errors import error_of
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.server import Server
from tests.paths import DATA

SAMPLES = DATA / "samples"
TOKEN = "polar_oat_secret_of_the_test"


def recorded(name: str) -> tuple[PolarRequest, httpx.Response]:
    sample = json.loads((SAMPLES / f"{name}.json").read_text())
    body = sample["response"]["body"]
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    asked = sample["request"]
    return PolarRequest(asked["method"], asked["path"]), httpx.Response(
        sample["response"]["status"], headers=sample["response"]["headers"], content=content
    )


def error(name: str) -> exceptions.PolarApiError:
    request, response = recorded(name)
    server = Server(TOKEN, connection="polar_default")
    found = error_of(request, response.status_code, response.headers, response.content, server)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ("error-no-token", exceptions.PolarAuthenticationError),
        ("error-wrong-token", exceptions.PolarAuthenticationError),
        ("error-missing-scope", exceptions.PolarScopeError),
        ("error-unknown-version", exceptions.PolarVersionError),
        ("error-rate-limit", exceptions.PolarRateLimitError),
        ("get-not-found", exceptions.PolarNotFoundError),
        ("get-not-a-uuid", exceptions.PolarValidationError),
        ("list-bad-filter", exceptions.PolarValidationError),
        ("list-without-slash", exceptions.PolarApiError),
    ],
)
def test_each_answer_is_its_own_error(sample, kind):
    assert type(error(sample)) is kind


def test_scopes_are_named():
    assert error("error-missing-scope").scopes == ("events:write",)
    assert error("error-no-events-scope").scopes == ("events:read", "events:write")
    assert "events:write" in str(error("error-missing-scope"))


def test_a_rate_limit_says_how_long():
    assert error("error-rate-limit").retry_after == 60
    assert error("error-rate-limit").retryable


@pytest.mark.parametrize(
    ("sample", "problems"),
    [
        ("ingest-bad-cost", ["event 0, metadata._cost.currency: String should match pattern 'usd'"]),
        ("ingest-empty-value", ["event 0, metadata.a: is empty; text has 1 to 500 characters"]),
        ("ingest-future", ["event 0, timestamp: Timestamp must be in the past"]),
        ("ingest-long-name", ["event 0, name: String should have at most 128 characters"]),
        ("ingest-naive", ["event 0, timestamp: Input should have timezone info"]),
        (
            "ingest-nested-metadata",
            ["event 0, metadata.a: is nested; values are text, numbers or booleans"],
        ),
        ("ingest-null-metadata", ["event 0, metadata.a: is null; values are text, numbers or booleans"]),
        ("ingest-no-customer", ["event 0: needs exactly one of customer_id and external_customer_id"]),
        ("ingest-second-event-invalid", ["event 1, name: String should have at most 128 characters"]),
        ("ingest-unknown-customer", ["event 0, customer_id: Customer not found"]),
        (
            "ingest-organization-with-organization-token",
            ["event 0, organization_id: Setting organization_id is disallowed when using an organization token"],
        ),
    ],
)
def test_each_problem_of_an_event_is_said_once_in_words(sample, problems):
    assert [str(problem) for problem in error(sample).problems] == problems


def test_a_long_value_is_not_repeated_in_the_message():
    [problem] = error("ingest-long-value").problems
    assert problem.field == "metadata.a"
    assert "x" * 20 not in str(error("ingest-long-value"))


@pytest.mark.parametrize("token", ["", "  ", "polar oat", "polar\noat", "pol\u00e4r", f"{TOKEN}\r\nX: y"])
def test_a_token_that_cannot_be_sent_is_refused_unseen(token):
    with pytest.raises(exceptions.PolarConfigurationError) as refused:
        PolarClient(token)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "api.polar.sh"},
        {"base_url": f"https://user:{TOKEN}@api.polar.sh"},
        {"base_url": "https://api.polar.sh?x=1"},
        {"timeout": 0},
        {"requests_per_minute": -1},
        {"api_version": "2026 04"},
    ],
)
def test_impossible_settings_are_refused_at_once(options):
    with pytest.raises(exceptions.PolarConfigurationError) as refused:
        PolarClient("token", **options)
    assert TOKEN not in str(refused.value)


def test_every_error_class_says_whether_a_retry_helps():
    for name, kind in vars(exceptions).items():
        if isinstance(kind, type) and issubclass(kind, exceptions.PolarError):
            assert kind.__doc__, name
            if kind not in (exceptions.PolarError, exceptions.PolarApiError):
                assert any(word in kind.__doc__.lower() for word in ("retry", "waiting helps")), name
