"""Servers that drip, never end, swell, echo and talk nonsense: bounded, told for what it is, and nothing shown."""

import asyncio
import gzip
import json
import logging
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import httpx
import pytest

from airflow_provider_polar import exceptions
from airflow_provider_polar.api import bodies, retrying, wire
from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
from airflow_provider_polar.api.errors import retry_after
from airflow_provider_polar.api.pacing import Pacer
from airflow_provider_polar.api.retrying import NO_RETRIES, Retries

TOKEN = "polar_oat_secret_of_the_test"
EVENTS = [
    {
        "name": "sample",
        "external_customer_id": "Jane Doe",
        "external_id": "e1",
        "metadata": {"contact": "jane@example.com", "note": "a very private note"},
    }
]
SECRETS = (TOKEN, TOKEN[:-4], "Jane", "Doe", "jane@example.com", "private note")
EMPTY = b'{"items":[],"pagination":{"total_count":0,"max_page":0}}'


@pytest.fixture
def server():
    """``server.respond = function(handler, request body)`` is what it does; ``server.seen`` counts the requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def do_GET(self):
            http.seen += 1
            http.respond(self, self.rfile.read(int(self.headers.get("content-length", 0))))

        do_POST = do_GET

        def give(self, status, body, length=None, **headers):
            self.send_response(status)
            self.send_header("content-length", str(len(body) if length is None else length))
            for name, value in {"content_type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    http.seen = 0
    http.base_url = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.fixture(params=["sync", "async"])
def call(request, server):
    def call(method, *args, **options):
        options = {"base_url": server.base_url, "retries": NO_RETRIES, "connection": "polar_default", **options}
        if request.param == "sync":
            with PolarClient(TOKEN, **options) as client:
                return getattr(client, method)(*args)

        async def run():
            async with AsyncPolarClient(TOKEN, **options) as client:
                return await getattr(client, method)(*args)

        return asyncio.run(run())

    return call


def test_a_dripping_body_ends_at_the_deadline(server, call):
    def drip(handler, _):
        handler.give(200, b"", length=10_000)
        for _ in range(10_000):
            handler.wfile.write(b" ")
            time.sleep(0.02)

    server.respond = drip
    started = time.monotonic()
    with pytest.raises(exceptions.PolarTransportError, match=r"within 0\.8 s") as raised:
        call("list", timeout=0.2)
    assert raised.value.sent
    assert raised.value.retryable
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_an_endless_body_ends_at_the_size_limit(server, call, monkeypatch, coding):
    monkeypatch.setattr(bodies, "MAX_RESPONSE_BYTES", 3 * 1024 * 1024)
    block = b" " * 1024 * 1024
    sent = gzip.compress(block) if coding == "gzip" else block
    written = []

    def swell(handler, _):
        handler.give(200, b"", length=10**12, content_encoding=coding)
        for _ in range(200):
            handler.wfile.write(gzip.compress(block * 50) if coding == "gzip" else sent)
            written.append(len(sent))

    server.respond = swell
    with pytest.raises(exceptions.PolarResponseError, match="larger than 3 MiB") as raised:
        call("list", timeout=20)
    assert not raised.value.retryable
    assert len(written) < 200


def test_a_small_gzip_is_never_decoded_beyond_the_limit():
    import tracemalloc

    bomb = gzip.compress(b" " * 96 * 1024 * 1024)
    assert len(bomb) < 100 * 1024
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(bomb))
    body = bodies.Body(response, float("inf"))
    tracemalloc.start()
    try:
        with pytest.raises(bodies.UnusableBody):
            body.add(bomb)
        assert tracemalloc.get_traced_memory()[1] < bodies.MAX_RESPONSE_BYTES + 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [0, 1, 9])
def test_gzip_is_read_and_a_gzip_cut_short_is_transient(server, call, cut):
    zipped = gzip.compress(EMPTY)
    server.respond = lambda handler, _: handler.give(200, zipped[: len(zipped) - cut], content_encoding="gzip")
    if not cut:
        assert call("list").items == []
        return
    with pytest.raises(exceptions.PolarTransportError, match="cut short") as raised:
        call("list")
    assert raised.value.retryable


def test_a_page_of_100_large_events_fits(server, call):
    large = {f"key_{n}": "\u00e9" * 500 for n in range(50)}
    event = {"id": "x", "timestamp": "2026-01-01T00:00:00Z", "name": "n", "source": "user", "metadata": large}
    page = {"items": [event] * 100, "pagination": {"total_count": 100, "max_page": 1}}
    body = json.dumps(page).encode()
    assert len(body) > 15_000_000
    server.respond = lambda handler, _: handler.give(200, body)
    assert len(call("list").items) == 100


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (EMPTY.replace(b"0", b"NaN"), "NaN"),
        (EMPTY.replace(b"0", b"-Infinity"), "-Infinity"),
        (EMPTY[:-1] + b',"x":"\xff"}', "not UTF-8"),
        (b'{"items":[{"id":1}]}', "another form"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
    ],
)
def test_nonsense_is_told_for_what_it_is_at_once(server, call, body, reason):
    server.respond = lambda handler, _: handler.give(200, body)
    with pytest.raises(exceptions.PolarResponseError, match=reason) as raised:
        call("list", retries=Retries(attempts=6, initial=0))
    assert server.seen == 1
    assert "GET /v1/events/" in str(raised.value)
    assert "connection polar_default" in str(raised.value)


EVENT = b'{"id":"x","timestamp":"2026-01-01T00:00:00Z","name":"n","source":"user","metadata":{"ratio":NaN}}'


@pytest.mark.parametrize(
    ("method", "args", "body"),
    [
        ("get", ("6f9619ff-8b86-4011-b42d-00c04fc964ff",), EVENT),
        ("list", (), b'{"items":[%s],"pagination":{"total_count":1}}' % EVENT),
        ("list_names", (), b'{"items":[],"pagination":{"total_count":0},"more":Infinity}'),
        ("ingest", (EVENTS,), b'{"inserted":1,"duplicates":0,"more":NaN}'),
    ],
)
def test_what_no_json_has_is_no_value_of_a_model(server, call, method, args, body):
    server.respond = lambda handler, _: handler.give(200, body)
    with pytest.raises(exceptions.PolarResponseError, match=r"its body holds (NaN|Infinity), which is not JSON"):
        call(method, *args)


@pytest.mark.parametrize("body", [EMPTY[:-9], b"<html>", b"", EMPTY[:-1] + ',"x":"\u00e9'.encode()[:-1]])
def test_what_is_merely_garbled_is_read_again(server, call, body):
    server.respond = lambda handler, _: handler.give(200, body if server.seen < 3 else EMPTY)
    assert call("list", retries=Retries(attempts=6, initial=0)).items == []
    assert server.seen == 3


@pytest.mark.parametrize("status", [408, 421, 425, 499, 500, 502, 503])
def test_faults_of_the_way_are_transient(server, call, status):
    server.respond = lambda handler, _: handler.give(*((status, b"{}") if server.seen < 3 else (200, EMPTY)))
    assert call("list", retries=Retries(attempts=6, initial=0)).items == []
    assert server.seen == 3


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@pytest.mark.parametrize("cut", ["within", "before its length"])
def test_a_refusal_that_is_cut_short_is_transient(server, call, status, cut):
    body = b'{"detail":[{"type":"missing","loc":["body"],"msg":"Field requ'
    length = None if cut == "within" else 500

    def respond(handler, _):
        if server.seen < 3:
            handler.give(status, body, length)
            handler.close_connection = True
        else:
            handler.give(200, b'{"inserted":1,"duplicates":0}')

    server.respond = respond
    assert call("ingest", EVENTS, retries=Retries(attempts=6, initial=0)).inserted == 1
    assert server.seen == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 502])
@pytest.mark.parametrize("form", ["text", "detail", "msg", "loc", "input", "cut", "scope"])
def test_an_echo_is_never_shown(server, call, caplog, status, form):
    caplog.set_level(logging.INFO)  # httpcore's own DEBUG lines show the headers of a response

    def echo(handler, body):
        said = f"{handler.headers} {body.decode()}"
        entry = {"type": "value_error", "loc": ["body", "events", 0, "name"], "msg": "Field required"}
        shapes = {
            "detail": {"error": said, "error_description": said, "detail": said},
            "msg": {"detail": [{**entry, "msg": said}, {**entry, "msg": "Jane Doe"}, {**entry, "type": said}]},
            "loc": {"detail": [{**entry, "loc": ["body", said, "jane@example.com", TOKEN]}]},
            "input": {"detail": [{**entry, "input": said}]},
        }
        text = json.dumps(shapes[form]) if form in shapes else said
        text = json.dumps(shapes["detail"])[:-200] if form == "cut" else text
        scope = {"www_authenticate": f'Bearer scope="{TOKEN} Jane {TOKEN}"'} if form == "scope" else {}
        kind = "application/json" if form in shapes or form == "cut" else "text/plain"
        handler.give(status, text.encode(), content_type=kind, retry_after="0", **scope)

    server.respond = echo
    with pytest.raises(exceptions.PolarApiError) as raised:
        call("ingest", EVENTS, retries=Retries(attempts=2, initial=0))
    error, shown = raised.value, [caplog.text]
    while error is not None:
        shown += [str(error), repr(error), str(getattr(error, "problems", ""))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for secret in SECRETS:
        assert secret not in "\n".join(shown)
    assert server.base_url in str(raised.value)


def test_headers_that_are_no_http_are_never_shown(server, call):
    def nonsense(handler, _):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + handler.headers["authorization"].encode() + b"\r\n\r\n")
        handler.close_connection = True

    server.respond = nonsense
    with pytest.raises(exceptions.PolarTransportError) as raised:
        call("list")
    assert TOKEN not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("60", 60),
        ("1", 1),
        ("0.5", 0.5),
        ("-5", 0),
        ("1e12", 300),
        ("inf", 60),
        ("nan", 60),
        ("", 60),
        ("soon", 60),
        ("9" * 5000, 60),
        (format_datetime(datetime(2020, 1, 1, tzinfo=UTC)), 0),
        (format_datetime(datetime(9999, 1, 1, tzinfo=UTC)), 300),
        ("Wed, 99 Foo 99999 99:99:99 GMT", 60),
    ],
)
def test_retry_after_is_bounded(value, seconds):
    assert retry_after(httpx.Headers({"retry-after": value})) == seconds


def test_retry_after_may_be_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 60 < retry_after(httpx.Headers({"retry-after": soon})) <= 90


def test_a_refused_connection_says_that_nothing_was_sent(call):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(exceptions.PolarTransportError) as raised:
            call("list", base_url=nowhere)
    assert not raised.value.sent
    assert raised.value.retryable
    assert str(raised.value) == (
        f"Polar cannot be reached: connection refused ({nowhere}, connection polar_default). A retry usually helps"
    )


def test_an_unknown_host_says_that_nothing_was_sent(call):
    with pytest.raises(exceptions.PolarTransportError, match="Polar cannot be reached") as raised:
        call("list", base_url="https://polar.invalid", timeout=5)
    assert not raised.value.sent


@pytest.mark.parametrize("kind", [PolarClient, AsyncPolarClient])
@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://localhost:8000", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9:1", True),
        ("http://[::1]:80", True),
        ("http://polar", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1", False),
        ("http://0.0.0.0", False),
        ("http://127.1", False),
        ("http://api.polar.sh", False),
    ],
)
def test_the_token_goes_unencrypted_to_this_machine_only(kind, url, is_local):
    if is_local:
        kind(TOKEN, base_url=url)
        return
    with pytest.raises(exceptions.PolarConfigurationError, match="unencrypted") as raised:
        kind(TOKEN, base_url=url, connection="polar_default")
    assert "connection polar_default" in str(raised.value)
    kind(TOKEN, base_url=url, allow_http=True)


@pytest.mark.parametrize("kind", [PolarClient, AsyncPolarClient])
@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "nonsense://user:hidden@proxy"), ("SSL_CERT_FILE", "/nowhere/at/all.pem")],
)
def test_an_unusable_proxy_is_told_without_its_password(monkeypatch, kind, name, value):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(exceptions.PolarConfigurationError, match=name) as raised:
        kind(TOKEN)
    assert "hidden" not in str(raised.value)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def patient(monkeypatch):
    """A client over responses from a list, in a clock's time."""
    clock = Clock()
    monkeypatch.setattr(wire, "Attempts", partial(retrying.Attempts, clock=clock))

    def sleep(seconds):
        clock.now += seconds

    monkeypatch.setattr(time, "sleep", sleep)

    def make(respond, **options):
        client = PolarClient(TOKEN, transport=httpx.MockTransport(respond), connection="polar_default", **options)
        client.pacer = Pacer(options.get("requests_per_minute"), clock=clock)
        return clock, client

    return make


@pytest.mark.parametrize("fault", ["refused", 503, "black hole"])
def test_what_is_transient_is_retried_for_two_minutes(patient, fault):
    tried = []

    def respond(request):
        tried.append(clock.now)
        if fault == "refused":
            raise httpx.ConnectError("refused")
        if fault == "black hole":
            clock.now += 30
            raise httpx.ConnectTimeout("")
        return httpx.Response(fault)

    clock, client = patient(respond)
    with pytest.raises(exceptions.PolarApiError):
        client.list()
    assert 100 <= clock.now <= 155
    pauses = [after - before for before, after in pairwise(tried)]
    assert max(pauses) <= 61
    assert client.retries_made == len(tried) - 1
    assert client.seconds_waited == pytest.approx(sum(pauses) - (30 * len(pauses) if fault == "black hole" else 0))


def test_a_restart_of_a_minute_is_waited_out(patient, caplog):
    caplog.set_level(logging.INFO)

    def respond(request):
        if clock.now < 75:
            raise httpx.ConnectError("", request=request) from ConnectionRefusedError(111, "Connection refused")
        return httpx.Response(200, content=EMPTY)

    clock, client = patient(respond)
    assert client.list().items == []
    lines = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert len(lines) == client.retries_made > 3
    assert lines[2].startswith(
        "Polar cannot be reached: connection refused (https://api.polar.sh, connection polar_default): waiting "
    )
    assert lines[2].endswith(" s, retry 3")


def test_rate_limits_do_not_use_patience_up_and_are_told(patient, caplog):
    caplog.set_level(logging.INFO)

    def respond(request):
        if clock.now < 10 * 60:
            return httpx.Response(429, headers={"retry-after": "60"})
        return httpx.Response(200, content=EMPTY)

    clock, client = patient(respond, requests_per_minute=300)
    assert client.list().items == []
    assert 600 <= clock.now < 700
    lines = [record.getMessage() for record in caplog.records if "retry" in record.getMessage()]
    assert lines[0] == (
        "Polar responded to GET /v1/events/ with HTTP 429 (https://api.polar.sh, connection polar_default): "
        "waiting 60.0 s, retry 1"
    )
    assert len(lines) == client.retries_made == 10


def test_an_unending_rate_limit_ends(patient):
    clock, client = patient(lambda request: httpx.Response(429, headers={"retry-after": "60"}))
    with pytest.raises(exceptions.PolarRateLimitError):
        client.list()
    assert 1700 <= clock.now <= 1900


def test_a_long_wait_for_the_budget_is_told_once(patient, caplog):
    caplog.set_level(logging.INFO)
    _, client = patient(lambda request: httpx.Response(200, content=EMPTY), requests_per_minute=2)
    for _ in range(5):
        client.list()
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "waits" in line and "GET /v1/events/" in line]) == 1


def test_patience_is_a_knob(patient):
    clock, client = patient(lambda request: httpx.Response(503), retries=Retries(patience=10))
    with pytest.raises(exceptions.PolarServerError):
        client.list()
    assert 5 <= clock.now <= 10.1
    assert retrying.PATIENCE == 120
