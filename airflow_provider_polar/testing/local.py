"""LocalPolar: a local Polar server with everything in reach that a test wants to set up, break or look up."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from airflow_provider_polar.testing.app import PolarApp
from airflow_provider_polar.testing.control import control
from airflow_provider_polar.testing.database import Database
from airflow_provider_polar.testing.demo import CUSTOMERS, meters, system_events, user_events
from airflow_provider_polar.testing.directory import Directory
from airflow_provider_polar.testing.endpoints import Settings
from airflow_provider_polar.testing.faults import Endpoint, Fault, FaultKind, Faults, RequestRecord
from airflow_provider_polar.testing.metering import new_meter
from airflow_provider_polar.testing.serve import ServerThread
from airflow_provider_polar.testing.store import Lag, Store, new_event

SCOPES = ("events:read", "events:write", "meters:read", "customer_meters:read")


class LocalPolar:
    """A local Polar server; see the package's description for what it does and how to steer it.

    :param token: an access token with every scope that is needed here, for the first organization.
    :param port: 0 takes a free one.
    :param database: path of an SQLite file that outlives the server; None keeps everything in memory.
    :param environment: responses of the ``sandbox`` carry ``x-polar-sandbox: 1``.
    :param visibility_lag: seconds from ingest until lists show an event; a pair, (0.4, 1.6), shows the events
        of a batch one by one between the two, as the real server does.
    :param rate_limit: (requests, seconds) for each organization; None for no limit.
    :param bounds: ``second`` truncates list bounds to whole seconds, as Polar did before July 2026.
    :param collapse_duplicates: give a row that the index has twice once, so that the page is short, as Polar does;
        False gives it as often as it is counted.
    :param analytics: False for an analytics store that is down: lists, names and single events are a 500 then.
    :param cost: ``polar`` takes the time that Polar's own server takes for a page (50 ms at the front, 100 ms at page
        10,000, two at once) and for a batch (0.35 s for 1,000 events, one at a time); None is as fast as it can be.
    :param seed: ``demo`` fills an empty server with days of events, one of every system event, and meters.
    """

    def __init__(
        self,
        token: str = "polar_oat_test",
        *,
        port: int = 0,
        database: str | None = None,
        environment: Literal["sandbox", "production"] = "sandbox",
        visibility_lag: Lag = 0.0,
        rate_limit: tuple[int, float] | None = None,
        bounds: Literal["millisecond", "second"] = "millisecond",
        collapse_duplicates: bool = True,
        analytics: bool = True,
        cost: Literal["polar"] | None = None,
        seed: str | None = None,
    ) -> None:
        self.token = token
        self.settings = Settings(environment, visibility_lag, rate_limit, bounds, collapse_duplicates, analytics, cost)
        self._port = port
        self._faults = Faults()
        self._database = Database(database)
        self._directory = Directory(self._database)
        self._store = Store(self._database, self._directory)
        known = self._directory.token(token)
        self.organization_id = known[0] if known else self.add_organization("Local")
        self.add_token(token)
        if seed is not None:
            self.seed(seed)
        self._app = PolarApp(self._store, self.settings, self._faults, partial(control, self))
        self._server: ServerThread | None = None
        self._closed = threading.Event()

    # Running

    def start(self) -> Self:
        """Begin to serve; a server that is serving already goes on."""
        if self._server is None:
            self._server = ServerThread(self._app, self._port)
        return self

    def stop(self) -> None:
        """Stop serving, at once: requests in flight lose their connection. What is stored stays in reach."""
        if self._server is not None:
            self._port = self._server.port
            self._server.stop()
            self._server = None

    def restart(self, down: float = 1.0) -> None:
        """Stop serving, and start again at the same port after `down` seconds; connections are refused meanwhile."""
        self.stop()

        def start_again() -> None:
            if not self._closed.wait(down):
                self.start()

        threading.Thread(target=start_again, daemon=True).start()

    def close(self) -> None:
        """Stop serving and forget what is in memory."""
        self._closed.set()
        self.stop()
        self._database.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port that is served."""
        return self._server.port if self._server is not None else self._port

    @property
    def base_url(self) -> str:
        """The address, as a connection's host takes it."""
        return f"http://127.0.0.1:{self.port}"

    def connection_uri(self, conn_type: str = "polar") -> str:
        """JSON text for AIRFLOW_CONN_POLAR_DEFAULT."""
        extra: dict[str, Any] = {"environment": self.settings.environment}
        if self.settings.rate_limit is None:
            extra["requests_per_minute"] = 60_000  # nobody shares a local server's budget
        return json.dumps({"conn_type": conn_type, "host": self.base_url, "password": self.token, "extra": extra})

    # What Polar knows

    def add_organization(self, name: str = "Another") -> str:
        """A further organization; returns its id."""
        return self._directory.add_organization(name)

    def add_token(self, token: str, scopes: Sequence[str] = SCOPES, organization_id: str | None = None) -> None:
        """Accept a further token, with the scopes given; of the first organization unless another is named."""
        self._directory.add_token(token, organization_id or self.organization_id, scopes)

    def remove_token(self, token: str) -> None:
        """Revoke a token."""
        self._directory.remove_token(token)

    def add_customer(
        self,
        external_id: str | None = None,
        email: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        organization_id: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A customer as the API gives it, with further fields as they are given."""
        organization = organization_id or self.organization_id
        return self._directory.add_customer(organization, external_id, email, name, metadata, fields)

    def add_meter(
        self,
        meter_filter: Mapping[str, Any] | None = None,
        organization_id: str | None = None,
        *,
        name: str | None = None,
        aggregation: Mapping[str, Any] | None = None,
        unit: Literal["scalar", "token"] = "scalar",
        metadata: Mapping[str, Any] | None = None,
        archived: bool = False,
    ) -> str:
        """The id of a meter over the events that a filter (conjunction, clauses) selects; all of them without one.

        Raises ValueError for a filter or an aggregation that Polar would refuse.

        :param aggregation: ``func`` (count, sum, max, min, avg, unique) and, but for count, ``property``; counts events
            by default.
        """
        meter = new_meter(meter_filter, name, aggregation, unit, metadata, archived)
        return self._directory.add_meter(organization_id or self.organization_id, meter)

    def add_events(
        self,
        events: Iterable[Mapping[str, Any]],
        *,
        visible_after: Lag = 0.0,
        index: bool = True,
        store: bool = True,
        copies: int = 1,
        organization_id: str | None = None,
    ) -> list[str]:
        """Put events straight into the server, nothing validated, and return their ids.

        Raises sqlite3.IntegrityError, storing nothing, for an id or an external id that is stored already.

        :param events: name, timestamp (aware datetime or ISO 8601 text, any moment; now by default),
            external_customer_id or customer_id, metadata, source, external_id, parent_id, id.
        :param visible_after: seconds until lists show them, or a pair between which they are shown one by one.
        :param index: False leaves them out of what lists count and give: stored, but not listed.
        :param store: False leaves them out of the store: counted, but not given.
        :param copies: how often the index has each: 2 counts it twice (and gives it once, as rows are found by id).
        """
        return self._store.add(
            organization_id or self.organization_id,
            (new_event(self._store, event) for event in events),
            visible_after=visible_after,
            index=index,
            store=store,
            copies=copies,
        )

    def remove_events(self, ids: Sequence[str], *, index: bool = True, store: bool = True) -> None:
        """Take events away, as Polar's operators do: out of what lists count, out of the store, or out of both.

        Without `store` they are still metered, and no more listed; without `index` they are counted, and not given.
        """
        self._store.remove(ids, index=index, store=store)

    def restore_events(self, ids: Sequence[str]) -> None:
        """Give back what was removed; raises sqlite3.IntegrityError where an external id is stored again by now."""
        self._store.restore(ids)

    def meter_otherwise(
        self,
        ids: Sequence[str],
        *,
        copies: int = 1,
        customer_id: str | None = None,
        external_customer_id: str | None = None,
    ) -> None:
        """Let meters see stored events otherwise than lists give them; without more than the ids, as they are again.

        :param copies: how often meters have each: 0 for events that are only listed, 2 for such as are counted twice.
        :param customer_id: the customer of whom meters take them to be, by Polar's id.
        :param external_customer_id: the same by the external id.
        """
        self._store.meter_otherwise(
            ids, copies=copies, customer_id=customer_id, external_customer_id=external_customer_id
        )

    def events(self, organization_id: str | None = None) -> list[dict[str, Any]]:
        """The truth: every stored event as the API would give it, with its `external_id`, by (timestamp, id)."""
        organization = organization_id or self.organization_id
        external_ids = self._store.external_ids(organization)
        rows = self._store.rows(organization).values()
        return [{**row, "external_id": external_ids.get(row["id"])} for row in rows]

    def count(self, organization_id: str | None = None) -> int:
        """How many events are stored."""
        return self._store.count(organization_id or self.organization_id)

    def seed(self, kind: str = "demo") -> None:
        """Fill an empty server; one that has events is left as it is."""
        if kind != "demo":
            raise ValueError(f"no seed {kind!r}; there is 'demo'")
        if self.count():
            return
        now, chance = datetime.now(UTC), random.Random(20_260_901)
        customers = [self.add_customer(*customer) for customer in CUSTOMERS]
        for meter in meters():
            self.add_meter(**meter)
        self.add_events(user_events(now, chance))
        self.add_events(system_events(now, customers, chance))

    # What was requested

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request so far, in the order of arrival."""
        return list(self._app.requests)

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._app.requests.clear()

    def requests_per_minute(self) -> float:
        """The most requests within any 60 seconds so far."""
        times = [record.time for record in self._app.requests]
        most = first = 0
        for last, moment in enumerate(times):
            while moment - times[first] >= 60:
                first += 1
            most = max(most, last - first + 1)
        return float(most)

    def on_request(self, callback: Callable[[RequestRecord], None]) -> None:
        """Call back with each request's record before it is handled, from the server's thread."""
        self._app.callbacks.append(callback)

    def clear_callbacks(self) -> None:
        """Call nobody back any more."""
        self._app.callbacks.clear()

    # What goes wrong

    def fail(
        self,
        kind: FaultKind,
        *,
        status: int = 503,
        path: Endpoint = "*",
        times: int | None = None,
        every: int | None = None,
        after: int = 0,
        delay: float = 0.0,
        retry_after: int = 60,
        rows: int = 1,
        total_count: int = 10**9,
        events: Sequence[Mapping[str, Any]] = (),
        before: Literal["page", "count"] = "page",
        old: str = "",
        new: str = "",
        when: Callable[[RequestRecord], bool] | None = None,
    ) -> Fault:
        r"""Order a fault.

        :param kind: ``status`` (that status, nothing done), ``rate_limit`` (429), ``missing_scope`` (403),
            ``reset`` (connection reset, nothing done), ``lost_response`` (done and stored, then the connection is
            closed without a response), ``truncated`` (half of the body under the length of the whole, then
            closed), ``broken`` (half of the body as if it were all), ``delay`` (`delay` seconds late),
            ``short_page`` (the last `rows` rows of a page left out), ``count`` (`total_count` instead of the true one),
            ``arrival`` (`events` arrive between the count and the page of one list request), ``deadlock`` (500 and
            nothing stored for a batch that brings a new event name), ``drip`` (a byte every `delay` seconds),
            ``endless`` (the body never ends), ``gzip_bomb`` (a small body that unpacks to 100 MB), ``rewrite``
            (`old` replaced by `new` in the body).
        :param path: the endpoint it concerns.
        :param after: how many matching requests pass first.
        :param times: how often it strikes; None for ever.
        :param every: strikes only every n-th matching request.
        :param events: what arrives, as `add_events` takes it.
        :param before: ``page`` lets them arrive when they are not counted and may be on the page, ``count`` when the
            page is taken and they are counted.
        :param old: text of the body, and `new` what stands there instead; each character is one byte, so that
            ``\xff`` makes a body that is not UTF-8.
        :param when: strikes only requests for which this holds.
        """
        return self._faults.add(
            Fault(
                kind,
                status=status,
                path=path,
                times=times,
                every=every,
                after=after,
                delay=delay,
                retry_after=retry_after,
                rows=rows,
                total_count=total_count,
                events=events,
                before=before,
                old=old,
                new=new,
                when=when,
            )
        )

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The faults that were ordered, with how often each was met and struck."""
        return self._faults.describe()

    def clear_faults(self) -> None:
        """End all faults that were ordered."""
        self._faults.clear()
