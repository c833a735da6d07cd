"""PolarHook: every way to write the connection, the Test button, and the calls themselves."""

import asyncio
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from polar.v2026_04 import Polar

from airflow_provider_polar import exceptions
from airflow_provider_polar.hooks.polar import PolarHook

ORGANIZATION = "1dcbb152-fc83-4415-9bb7-be2956dd0a9d"
TOKEN = "polar_oat_secret_of_the_test"


def connection(monkeypatch, **fields):
    fields = {"conn_type": "polar", "password": TOKEN, **fields}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(fields))
    return PolarHook()


def test_environments_decide_url_and_budget(monkeypatch):
    hook = connection(monkeypatch)
    assert hook.settings.base_url == "https://api.polar.sh"
    assert (hook.settings.requests_per_minute, hook.settings.timeout, hook.settings.api_version) == (300, 30, "2026-04")
    hook = connection(monkeypatch, extra={"environment": "sandbox"})
    assert hook.settings.base_url == "https://sandbox-api.polar.sh"
    assert hook.settings.requests_per_minute == 60


def test_empty_form_fields_mean_the_default(monkeypatch):
    empty = {"environment": "", "api_version": None, "timeout": "", "organization_id": "", "requests_per_minute": None}
    assert connection(monkeypatch, extra=empty, host="").settings == connection(monkeypatch).settings


def test_everything_said_in_a_json_connection(monkeypatch):
    settings = connection(
        monkeypatch,
        host="https://polar.example/base/",
        extra={
            "environment": "sandbox",
            "organization_id": ORGANIZATION.upper(),
            "api_version": "2026-10",
            "requests_per_minute": "90",
            "timeout": 5,
        },
    ).settings
    assert settings.base_url == "https://polar.example/base"
    assert (settings.organization_id, settings.api_version) == (ORGANIZATION, "2026-10")
    assert (settings.requests_per_minute, settings.timeout) == (90, 5)
    assert PolarHook(requests_per_minute=7).settings.requests_per_minute == 7


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        (f"polar://:{TOKEN}@", "https://api.polar.sh"),
        (f"polar://:{TOKEN}@/?environment=sandbox", "https://sandbox-api.polar.sh"),
        (f"polar://:{TOKEN}@polar.example", "https://polar.example"),
        (f"polar://:{TOKEN}@localhost:8765", "http://localhost:8765"),
        (f"polar://:{TOKEN}@127.0.0.1:8765", "http://127.0.0.1:8765"),
        (f"polar://:{TOKEN}@polar.example:8443/http", "http://polar.example:8443"),
        (f"polar://:{TOKEN}@http%3A%2F%2F127.0.0.1%3A8765", "http://127.0.0.1:8765"),
        (f"polar://:{TOKEN}@https%3A%2F%2Fpolar.example%2Fbase", "https://polar.example/base"),
        (f"polar://:{TOKEN}@[::1]:8765", "http://[::1]:8765"),
        (f"polar://:{TOKEN}@[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        (f"polar://:{TOKEN}@127.0.0.1.example:8443", "https://127.0.0.1.example:8443"),
    ],
)
def test_a_uri_connection(monkeypatch, uri, base_url):
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", uri)
    settings = PolarHook().settings
    assert (settings.base_url, settings.token) == (base_url, TOKEN)


@pytest.mark.parametrize(
    ("host", "port", "base_url"),
    [
        ("polar.example", 8443, "https://polar.example:8443"),
        ("polar.example:1234", 8443, "https://polar.example:1234"),
        ("polar.example/base/", 8443, "https://polar.example:8443/base"),
        ("HTTPS://Polar.example/Base", None, "https://polar.example/Base"),
        ("127.1.2.3", 8765, "http://127.1.2.3:8765"),
        ("::1", 8765, "http://[::1]:8765"),
        ("[::1]:8765", 443, "http://[::1]:8765"),
        ("http://[::1]:8765/base", None, "http://[::1]:8765/base"),
        ("2001:db8::1", None, "https://[2001:db8::1]"),
        ("localhost.example", None, "https://localhost.example"),
    ],
)
def test_a_host(monkeypatch, host, port, base_url):
    hook = connection(monkeypatch, host=host, port=port)
    assert hook.settings.base_url == base_url
    assert hook.get_conn().server.base_url == base_url


def test_a_uri_round_trip_keeps_everything(monkeypatch, polar_server):
    """The Test button sends the connection through its URI."""
    from airflow.models import Connection

    made = Connection(
        conn_id="x",
        conn_type="polar",
        password=polar_server.token,
        host=polar_server.base_url,
        extra=json.dumps({"environment": "sandbox", "requests_per_minute": 50, "timeout": 5, "organization_id": None}),
    )
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", made.get_uri())
    hook = PolarHook()
    assert hook.settings.base_url == polar_server.base_url
    assert hook.settings.requests_per_minute == 50
    assert hook.test_connection()[0]


def test_a_secrets_backend(monkeypatch, tmp_path, polar_server):
    from airflow.secrets.local_filesystem import LocalFilesystemBackend

    kept = tmp_path / "connections.json"
    kept.write_text(json.dumps({"kept": json.loads(polar_server.connection_uri())}))
    found = LocalFilesystemBackend(connections_file_path=str(kept)).get_connection("kept")
    monkeypatch.setattr(PolarHook, "get_connection", classmethod(lambda cls, conn_id: found))
    assert PolarHook("kept").get_conn().list().items == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"password": ""}, "has no password"),
        ({"password": "two words"}, "no token has"),
        ({"extra": {"environment": "staging"}}, "environment is 'staging'"),
        ({"extra": {"organization_id": "acme"}}, "organization_id is 'acme', not a UUID"),
        ({"extra": {"requests_per_minute": 0}}, "requests_per_minute is 0"),
        ({"extra": {"timeout": "soon"}}, "timeout is 'soon'"),
        ({"extra": {"allow_http": "perhaps"}}, "allow_http is 'perhaps', not true or false"),
        ({"extra": "environment=sandbox"}, "its extra is not a JSON object"),
        ({"host": "https://x.example?y"}, "is not a base URL"),
        ({"host": "ftp://x.example"}, "is not a base URL"),
        ({"host": "x.example", "schema": "base"}, "is not a base URL"),
        ({"host": "https://x.example:port"}, "no valid host name or port"),
        ({"host": "https://[::1"}, "no valid host name or port"),
        ({"host": f"https://{TOKEN}@x.example"}, "names a user"),
        ({"host": f"https://x.example:80@{TOKEN}.example"}, "names a user"),
    ],
)
def test_a_wrong_connection_is_refused_before_any_request(monkeypatch, fields, says):
    hook = connection(monkeypatch, **fields)
    with pytest.raises(exceptions.PolarConfigurationError, match=says) as refused:
        hook.get_conn()
    ok, shown = hook.test_connection()
    assert not ok
    assert says in shown
    assert TOKEN not in f"{refused.value!r}{shown}{hook!r}"


@pytest.mark.parametrize(
    "field",
    ["host", "environment", "organization_id", "api_version", "requests_per_minute", "timeout", "allow_http"],
)
@pytest.mark.parametrize("pasted", ["polar_oat_pasted0wrong0field", "https://polar_oat_pasted0wrong"])
def test_a_token_in_the_wrong_field_is_not_quoted(monkeypatch, field, pasted):
    hook = connection(monkeypatch, **({"host": pasted} if field == "host" else {"extra": {field: pasted}}))
    with pytest.raises(exceptions.PolarConfigurationError) as refused:
        hook.get_conn()
    assert "pasted0" not in f"{refused.value!r}{hook.test_connection()}"
    assert (
        "Base URL" in str(refused.value)
        if field == "host"
        else field in str(refused.value).replace("API version", "api_version")
    )


def test_an_event_with_a_number_that_no_json_has_is_refused(monkeypatch, polar_server):
    from airflow_provider_polar.api.client import PolarClient

    monkeypatch.setattr(PolarClient, "_send_once", lambda self, attempts, decode: decode(b'{"metadata":{"ratio":NaN}}'))
    with pytest.raises(ValueError, match="NaN"):
        connection(monkeypatch).get_event("6f9619ff-8b86-4011-b42d-00c04fc964ff")


@pytest.mark.parametrize("how", ["worker", "triggerer"])
def test_the_token_is_masked_in_airflow_s_logs(monkeypatch, how):
    """As the requests send it, too, not only with the line's end that a secrets backend keeps it with."""
    from airflow.providers.common.compat.sdk import redact

    token = f"polar_oat_+{how}_of_this_test"
    hook = connection(monkeypatch, password=f"{token}\n")
    settings = hook.settings if how == "worker" else asyncio.run(hook.aget_settings())
    assert settings.token == token
    assert redact(f"one {token} two") == "one *** two"
    assert redact(f"one {token.replace('+', '%2B')} two") == "one *** two"
    assert token not in f"{hook!r}{vars(hook)!r}{settings!r}{hook.get_conn()!r}{vars(hook.get_conn())!r}"


@pytest.mark.parametrize("conn_type", ["postgres", "http", "generic", "polar_sh", "Polar", ""])
def test_a_password_of_another_type_of_connection_is_sent_nowhere(monkeypatch, polar_server, conn_type):
    fields = {"conn_type": conn_type, "host": polar_server.base_url, "extra": {"enviroment": "x"}}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", polar_server.connection_uri())
    assert PolarHook().get_conn().list().items == []
    heard = len(polar_server.requests)
    hook = connection(monkeypatch, **fields)
    with pytest.raises(exceptions.PolarConfigurationError, match=r"'polar_default' (is of|has no) type") as refused:
        hook.get_conn()
    with pytest.raises(exceptions.PolarConfigurationError, match=r"only .* of type 'polar'"):
        asyncio.run(PolarHook().get_async_conn())
    ok, shown = PolarHook().test_connection()
    assert not ok
    assert "of type 'polar' is sent to Polar, so nothing was sent" in shown
    assert TOKEN not in f"{refused.value!r}{shown}"
    assert len(polar_server.requests) == heard


@pytest.mark.parametrize(
    "uri", [f"postgres://u:{TOKEN}@db.example/x", f"//:{TOKEN}@db.example", f"generic://:{TOKEN}@"]
)
def test_so_is_one_from_a_uri(monkeypatch, uri):
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", uri)
    with pytest.raises(exceptions.PolarConfigurationError, match=r"only .* of type 'polar'"):
        _ = PolarHook().settings


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"enviroment": "sandbox"}, r"enviroment is an unknown extra \(did you mean environment\?\)"),
        ({"organisation_id": ORGANIZATION}, r"\(did you mean organization_id\?\)"),
        ({"access_token": TOKEN}, r"access_token is an unknown extra; a connection to Polar has environment, "),
    ],
)
def test_a_misspelt_extra_does_not_go_to_production(monkeypatch, extra, says):
    hook = connection(monkeypatch, extra=extra)
    with pytest.raises(exceptions.PolarConfigurationError, match=says) as refused:
        _ = hook.settings
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("allowed", [True, "true"])
def test_http_over_a_network_needs_permission(monkeypatch, allowed):
    for host in ("http://polar.example", "http://127.0.0.1.example", "http://10.0.0.7:8765", "http://[2001:db8::1]"):
        with pytest.raises(exceptions.PolarConfigurationError, match="allow_http"):
            connection(monkeypatch, host=host).get_conn()
        with pytest.raises(exceptions.PolarConfigurationError, match="allow_http"):
            connection(monkeypatch, host=host, extra={"allow_http": False}).get_conn()
        assert connection(monkeypatch, host=host, extra={"allow_http": allowed}).get_conn().server.base_url == host


@pytest.fixture
def echo():
    """A server, or a proxy before it, whose errors quote the request's headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers = dict(self.headers)
            self.send_response(server.status)
            self.send_header("WWW-Authenticate", f'Bearer scope="{headers["Authorization"]}"')
            self.end_headers()
            told = {"error": "x", "error_description": headers, "detail": [{"loc": ["body"], "msg": str(headers)}]}
            self.wfile.write(json.dumps(told).encode())

        do_POST = do_GET

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.token, server.base_url = TOKEN, f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class TestButton:
    def hook(self, monkeypatch, server, token=None, **extra):
        fields = {"conn_type": "polar", "password": token or server.token, "host": server.base_url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(fields))
        return PolarHook()

    def test_reading_and_ingesting(self, monkeypatch, polar_server):
        ok, shown = self.hook(monkeypatch, polar_server).test_connection()
        assert ok
        assert "reading and ingesting work" in shown
        assert polar_server.count() == 0

    def test_read_only_is_fine_and_is_said(self, monkeypatch, polar_server):
        polar_server.add_token("polar_oat_reader", scopes=("events:read",))
        ok, shown = self.hook(monkeypatch, polar_server, "polar_oat_reader").test_connection()
        assert ok
        assert "ingesting needs the scope events:write" in shown

    def test_wrong_token(self, monkeypatch, polar_server):
        ok, shown = self.hook(monkeypatch, polar_server, "polar_oat_wrong").test_connection()
        assert not ok
        assert "refused the access token" in shown
        assert "polar_oat_wrong" not in shown

    def test_no_scope(self, monkeypatch, polar_server):
        polar_server.add_token("polar_oat_other", scopes=("products:read",))
        ok, shown = self.hook(monkeypatch, polar_server, "polar_oat_other").test_connection()
        assert not ok
        assert "lacks a scope: reading needs events:read or events:write" in shown

    def test_unknown_version(self, monkeypatch, polar_server):
        ok, shown = self.hook(monkeypatch, polar_server, api_version="2020-01").test_connection()
        assert not ok
        assert "version '2020-01'" in shown

    def test_unreachable(self, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            host = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv(
            "AIRFLOW_CONN_POLAR_DEFAULT", json.dumps({"conn_type": "polar", "password": TOKEN, "host": host})
        )
        ok, shown = PolarHook().test_connection()
        assert not ok
        assert "cannot be reached" in shown
        assert f"({host}, connection polar_default)" in shown
        assert TOKEN not in shown

    def test_server_error(self, monkeypatch, polar_server):
        polar_server.fail("status")
        assert self.hook(monkeypatch, polar_server).test_connection() == (
            False,
            f"Polar responded to GET /v1/events/ with HTTP 503 ({polar_server.base_url}, connection polar_default). "
            "A retry usually helps",
        )

    @pytest.mark.parametrize("path", ["list", "ingest"])
    def test_a_used_up_budget_is_no_failure(self, monkeypatch, polar_server, path):
        polar_server.fail("rate_limit", path=path)
        ok, shown = self.hook(monkeypatch, polar_server).test_connection()
        assert ok
        assert "The token is valid" in shown

    def test_two_requests_and_one_event(self, monkeypatch, polar_server):
        polar_server.add_events([{"name": "a", "timestamp": "2026-10-01T00:00:00Z"}])
        ok, shown = self.hook(monkeypatch, polar_server).test_connection()
        assert ok
        assert "1 event is visible" in shown
        assert [record.endpoint for record in polar_server.requests] == ["list", "ingest"]

    def test_an_organization_of_which_nothing_is_visible(self, monkeypatch, polar_server):
        polar_server.add_events([{"name": "a", "timestamp": "2026-10-01T00:00:00Z"}])
        ok, shown = self.hook(monkeypatch, polar_server, organization_id=ORGANIZATION).test_connection()
        assert ok
        assert f"no event of organization {ORGANIZATION} is visible" in shown

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 502])
    def test_a_server_that_echoes_what_it_gets(self, monkeypatch, echo, status):
        echo.status = status
        ok, shown = self.hook(monkeypatch, echo).test_connection()
        assert not ok
        assert echo.token not in shown

    def test_no_connection_at_all(self, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT", raising=False)
        monkeypatch.setattr(PolarHook, "get_connection", classmethod(lambda cls, conn_id: 1 / 0))
        assert PolarHook().test_connection() == (False, "The connection could not be tested: ZeroDivisionError")


def test_the_hook_and_polar_sdk_return_the_same_events(polar_server, polar_connection):
    events = [
        {"name": "sample.used", "external_customer_id": f"c{n}", "timestamp": f"2026-10-01T00:00:{n:02}Z"}
        for n in range(30)
    ]
    hook = PolarHook()
    assert hook.ingest_events([{**e, "external_id": e["timestamp"]} for e in events]) == {
        "inserted": 30,
        "duplicates": 0,
    }
    asked = {"start": "2026-10-01T00:00:05Z", "end": "2026-10-01T00:00:25Z"}
    ours = list(hook.list_events({"name": "sample.used"}, **asked))
    with Polar(polar_server.token, base_url=polar_server.base_url) as sdk:
        theirs = sdk.events.list(
            name="sample.used",
            start_timestamp="2026-10-01T00:00:04.999Z",
            end_timestamp=asked["end"],
            limit=100,
            sorting=["timestamp"],
        ).items
        assert [e["id"] for e in ours] == [e.id for e in theirs]
        assert len(ours) == 20
        names = sdk.events.list_names().items
    assert [n["name"] for n in hook.list_event_names()] == [n.name for n in names]
    assert hook.get_event(ours[0]["id"]) == ours[0]


def test_list_events_from_the_first_year_to_now(polar_server, polar_connection):
    polar_server.add_events(
        [
            {"name": "a", "timestamp": t}
            for t in ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-10-01T00:00:00Z")
        ]
    )
    assert [e["timestamp"] for e in PolarHook().list_events()] == [
        "0001-01-01T00:00:00",
        "1969-12-31T23:59:59Z",
        "2026-10-01T00:00:00Z",
    ]


@pytest.mark.parametrize(
    ("filters", "window", "error"),
    [
        ({"nmae": "a"}, {}, exceptions.PolarFilterError),
        ({}, {"start": "2026-10-01T00:00:00"}, exceptions.PolarWindowError),
        ({}, {"start": "2026-10-01T00:00:00Z", "end": "2026-09-01T00:00:00Z"}, exceptions.PolarWindowError),
        ({}, {"start": "2026-10-01T00:00:00Z", "end": "2026-10-01T00:00:00Z"}, exceptions.PolarWindowError),
        ({}, {"start": "yesterday"}, exceptions.PolarWindowError),
    ],
)
def test_list_events_refuses_before_any_request(polar_server, polar_connection, filters, window, error):
    with pytest.raises(error):
        PolarHook().list_events(filters, **window)
    assert polar_server.requests == []


def test_event_names_refuse_an_unknown_filter(polar_server, polar_connection):
    with pytest.raises(exceptions.PolarFilterError, match="unknown, event names have"):
        PolarHook().list_event_names(nmae="a")
    with pytest.raises(exceptions.PolarFilterError, match=r"\(did you mean query\?\)"):
        PolarHook().list_event_names(querry="a")


def test_more_names_than_a_page(polar_server, polar_connection):
    polar_server.add_events([{"name": f"n{i:03}", "timestamp": "2026-10-01T00:00:00Z"} for i in range(250)])
    assert [n["name"] for n in PolarHook().list_event_names()] == [f"n{i:03}" for i in range(250)]


def test_the_connection_s_organization_is_asked_for(monkeypatch, polar_server):
    other = polar_server.add_organization("Other")
    fields = json.loads(polar_server.connection_uri())
    fields["extra"] = {"organization_id": other}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(fields))
    polar_server.add_events([{"name": "a", "timestamp": "2026-10-01T00:00:00Z"}])
    assert list(PolarHook().list_events(start="2026-01-01T00:00:00Z")) == []
    assert ("organization_id", other) in [tuple(p) for p in polar_server.requests[-1].params]


def test_the_asynchronous_client(polar_server, polar_connection):
    async def call():
        async with await PolarHook().get_async_conn() as client:
            return await client.list()

    assert asyncio.run(call()).items == []


class TestMeters:
    MIDNIGHT = "2026-11-02T00:00:00+00:00"

    @pytest.fixture
    def meter(self, polar_server, polar_connection):
        polar_server.add_events(
            {"name": "use", "timestamp": f"2026-11-02T{hour:02}:00:00Z", "external_customer_id": "acme"}
            for hour in range(24)
        )
        return polar_server.add_meter(name="Use")

    def test_a_window_is_half_open(self, polar_server, meter):
        found = PolarHook().meter_quantities(meter, start=self.MIDNIGHT, end="2026-11-02T02:00:00Z", interval="hour")
        assert found == {
            "quantities": [
                {"timestamp": "2026-11-02T00:00:00Z", "quantity": 1.0},
                {"timestamp": "2026-11-02T01:00:00Z", "quantity": 1.0},
            ],
            "total": 2.0,
        }
        assert ("end_timestamp", "2026-11-02T01:00:00Z") in polar_server.requests[-1].params

    def test_on_the_edges_of_a_zone_s_days(self, meter):
        window = {"start": "2026-11-01T00:00:00-05:00", "end": "2026-11-03T00:00:00-06:00", "interval": "day"}
        with pytest.raises(exceptions.PolarWindowError, match="at its start no day begins in UTC"):
            PolarHook().meter_quantities(meter, **window)
        found = PolarHook().meter_quantities(meter, **window, timezone="America/Chicago", external_customer_id="acme")
        assert [bucket["quantity"] for bucket in found["quantities"]] == [6, 18]

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            ({"end": MIDNIGHT}, "the window is empty"),
            ({"end": "2026-11-01T00:00:00Z"}, "the window is reversed"),
            ({"start": "2026-11-02T00:00:00"}, "without a time zone"),
            ({"interval": "minute"}, "none of hour, day"),
            ({"end": "2026-11-10T01:00:00Z"}, "quantities by hour reach over 7 days at most"),
            ({"zone": "UTC"}, "filter zone: unknown, quantities have: timezone"),
        ],
    )
    def test_others_are_refused_before_any_request(self, polar_server, meter, given, error):
        good = {"start": self.MIDNIGHT, "end": "2026-11-02T02:00:00Z", "interval": "hour"}
        with pytest.raises(exceptions.PolarConfigurationError, match=error):
            PolarHook().meter_quantities(meter, **{**good, **given})
        assert polar_server.requests == []

    def test_more_meters_than_a_page(self, monkeypatch, polar_server, meter):
        names = ["Use", *(f"Meter {n}" for n in range(150))]
        for name in names[1:]:
            polar_server.add_meter(name=name)
        found = PolarHook().list_meters()
        assert [one["name"] for one in found] == names
        assert (found[0]["id"], found[0]["aggregation"]) == (meter, {"func": "count"})
        assert [one["name"] for one in PolarHook().list_meters(query="METER 14", is_archived=False)] == [
            name for name in names if name.startswith("Meter 14")
        ]
        extra = {"organization_id": ORGANIZATION}
        hook = connection(monkeypatch, host=polar_server.base_url, password=polar_server.token, extra=extra)
        assert hook.list_meters() == []
