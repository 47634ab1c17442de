"""The way of a plugin to HTTP hosts: what is sent, how often, and what each failure means."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.network import Mail
from tbot_core.contracts.permissions import Host
from tbot_core.errors import (
    LONGEST_PAUSE_S,
    BrokerError,
    LoginNeeded,
    OutcomeUnknown,
    PluginError,
    Rejected,
    RejectionMeaning,
    Unavailable,
    Undelivered,
    Withdrawn,
)
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.plugins.network.http_client import MOST_PAGES
from tbot_core.plugins.network.request_limits import ON_SEND, PRIORITY, RequestPriority
from tbot_core.system import http
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, ServerReply, ServerRequest, context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tbot_core.contracts.network import HttpClient, HttpResponse, OutgoingRequest

NOON = dt.datetime(2026, 3, 3, 17, tzinfo=dt.UTC)
HOSTS = {"trading": Host("https://api.example.com/v2"), "stream": Host("wss://api.example.com")}

pytestmark = pytest.mark.usefixtures("loopback")


class Permit:
    """Counts how often it was redeemed; refuses when it is withdrawn."""

    def __init__(self, *, withdrawn: bool = False) -> None:
        self.redeemed = 0
        self._withdrawn = withdrawn

    def redeem(self) -> None:
        """Count."""
        if self._withdrawn:
            raise Withdrawn("killed")
        self.redeemed += 1


def echo(request: ServerRequest) -> ServerReply:
    """What was received."""
    return ServerReply(
        document={
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "body": request.body.decode(),
            "key": request.headers.get("x-key"),
            "kind": request.headers.get("content-type"),
        }
    )


def talk(
    script: Callable[[ScriptedServer, HttpClient], Awaitable[Any]],
    *,
    handler: Callable[[ServerRequest], ServerReply] = echo,
    hosts: dict[str, Host] | None = None,
    retries: int = 0,
    **options: Any,
) -> tuple[Any, list[ServerRequest], ManualClock]:
    """The script's result, what the server received, and the clock afterwards."""

    async def main() -> tuple[Any, list[ServerRequest], ManualClock]:
        clock = ManualClock(NOON)
        async with ScriptedServer(handler) as server:
            connect = context(server, hosts=hosts or HOSTS, clock=clock, retries=retries, timeout_s=1.0).connect
            try:
                return await script(server, connect.http("trading", **options)), server.requests, clock
            finally:
                await connect.close()

    return asyncio.run(main())


def test_a_reading_carries_headers_and_parameters() -> None:
    """A secret header is revealed only on the wire, and numbers with a fraction are exact."""

    async def script(_server: ScriptedServer, client: HttpClient) -> Any:
        return (await client.get("/account", {"status": "open"})).json()

    answer, _, _ = talk(script, headers={"X-Key": Secret("hush-hush")})
    assert (answer["method"], answer["path"], answer["query"]) == ("GET", "/account", {"status": "open"})
    assert answer["key"] == "hush-hush"
    exact, _, _ = talk(script, handler=lambda _request: ServerReply(body=b'{"price": 0.1}'))
    assert exact == {"price": Decimal("0.1")}


def test_a_request_has_headers_of_its_own() -> None:
    """They replace those of all requests whatever the case of their names, and the kind of the body; once each."""

    async def script(server: ScriptedServer, client: HttpClient) -> Any:
        server.fail(ServerFault.SERVER_ERROR)
        read = await client.get("/account", headers={"x-key": Secret("of this one")})
        sent = await client.send(
            "POST", "/orders", json={}, headers={"X-Idempotency": "o-1", "Content-Type": "application/x+json"}
        )
        pages = client.pages("/orders", {}, following=lambda _page: None, headers={"X-KEY": "paged"})
        return read.json(), sent.json(), [page.json()["key"] async for page in pages], (await client.get("/a")).json()

    (read, sent, paged, after), requests, _ = talk(script, headers={"X-Key": Secret("of all")}, retries=1)
    assert (read["key"], sent["key"], paged, after["key"]) == ("of this one", "of all", ["paged"], "of all")
    assert sent["kind"] == "application/x+json"
    assert [one.headers.get("x-idempotency") for one in requests] == [None, None, "o-1", None, None]
    assert requests[0].headers["x-key"] == requests[1].headers["x-key"] == "of this one"


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_reading_may_have_a_body() -> None:
    """A reading by POST is repeated, and unavailable where it fails, as one by GET; its body is that of a sending."""

    async def script(server: ScriptedServer, client: HttpClient) -> Any:
        server.fail(ServerFault.LOST_REPLY)
        found = (await client.read("POST", "/quotes", form={"symbols": "A,B"}, headers={"X-Key": "1"})).json()
        server.fail(ServerFault.UNREADABLE, times=2)
        with pytest.raises(Unavailable, match="cannot be read"):
            (await client.read("POST", "/quotes", json={"a": 1})).json()
        server.recover()
        server.fail(ServerFault.NO_REPLY, times=None)
        with pytest.raises(Unavailable, match="POST /quotes: no answer"):
            await client.read("POST", "/quotes")
        return found

    found, requests, _ = talk(script, retries=1)
    assert (found["method"], found["body"], found["key"]) == ("POST", "symbols=A%2CB", "1")
    assert len(requests) == 5


def test_a_signature_covers_the_headers_of_the_request() -> None:
    """The function that makes headers sees those of the request alone, their names in lower case."""
    signed: list[OutgoingRequest] = []

    def headers(request: OutgoingRequest) -> dict[str, Any]:
        signed.append(request)
        return {"X-Key": f"signed {request.headers.get('x-nonce')}"}

    async def script(_server: ScriptedServer, client: HttpClient) -> Any:
        return (await client.send("POST", "/orders", form={"a": "1"}, headers={"X-Nonce": "7"})).json()["key"]

    found, _, _ = talk(script, headers=headers)
    assert found == "signed 7"
    assert signed[0].headers == {"content-type": "application/x-www-form-urlencoded", "x-nonce": "7"}
    assert "7" not in repr(signed[0]).partition("http")[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [("X-Key\r\nX-More", "1"), ("X Key", "1"), ("", "1"), ("X-Key", "a\r\nX-More: 1"), ("X-Key", " a"), ("X-Key", "é")],
)
def test_a_header_that_http_does_not_allow_sends_nothing(name: str, text: str) -> None:
    """It could add another header; the error names it, and does not show its value."""
    permit = Permit()

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        with pytest.raises(PluginError, match="cannot be sent") as caught:
            await client.send("POST", "/orders", headers={name: Secret(text)}, permit=permit)
        assert "X-More: 1" not in str(caught.value)
        with pytest.raises(PluginError, match="cannot be sent"):
            await client.get("/account", headers={name: text})

    _, requests, _ = talk(script)
    assert requests == []
    assert permit.redeemed == 0


@pytest.mark.parametrize("before", [0, 295])
def test_a_secret_that_the_vendor_repeats_is_not_shown(before: int) -> None:
    """Also where the words of the vendor are cut within it, and where it was sent with one request alone."""
    key = "k-0123456789-0123456789"

    def refuse(request: ServerRequest) -> ServerReply:
        return ServerReply(status=403, body=b"x" * before + b" " + request.headers["x-own"].encode())

    async def script(_server: ScriptedServer, client: HttpClient) -> str:
        with pytest.raises(Rejected) as caught:
            await client.get("/account", headers={"X-Own": Secret(key)})
        return str(caught.value)

    words, _, _ = talk(script, handler=refuse)
    assert "403" in words
    assert key[:3] not in words


def test_headers_may_be_made_for_each_attempt() -> None:
    """With a renewed token, or a signature of what is sent: the address with its parameters, and the body."""
    signed: list[OutgoingRequest] = []

    def headers(request: OutgoingRequest) -> dict[str, Any]:
        signed.append(request)
        return {"X-Key": Secret(f"token {len(signed)}")}

    async def script(server: ScriptedServer, client: HttpClient) -> list[Any]:
        server.fail(ServerFault.SERVER_ERROR)
        return [
            (await client.get("/account", {"status": "open"})).json()["key"],
            (await client.send("POST", "/orders", json={"a": 1})).json()["key"],
        ]

    found, _, _ = talk(script, headers=headers, retries=1)
    assert found == ["token 2", "token 3"]
    assert [(one.method, one.body) for one in signed] == [("GET", b""), ("GET", b""), ("POST", b'{"a": 1}')]
    assert signed[0].url.startswith("http://127.0.0.1:")
    assert signed[0].url.endswith("/account?status=open")


def test_a_failure_to_make_headers_sends_nothing() -> None:
    """It is the plugin's own, and the permit stays."""
    permit = Permit()

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        with pytest.raises(IndexError):
            await client.send("POST", "/orders", permit=permit)

    _, requests, _ = talk(script, headers=lambda request: {"key": str(request)[10_000]})
    assert requests == []
    assert permit.redeemed == 0


def test_a_client_is_used_again_after_a_close() -> None:
    """A broker logs out, and in again on the next day."""

    async def main() -> None:
        async with ScriptedServer(echo) as server:
            connect = context(server, hosts=HOSTS).connect
            client = connect.http("trading")
            for _ in range(2):
                assert (await client.get("/account")).status == 200
                await connect.close()

    asyncio.run(main())


def test_clients_with_made_headers_share_one_budget() -> None:
    """Whatever token they have: the account behind it is one."""
    budgets = RequestBudgets(ManualClock(NOON))
    host = HOSTS["trading"]
    assert budgets.of(host, lambda _request: {"a": Secret("x")}) is budgets.of(host, lambda _request: {})
    assert budgets.of(host, {"a": Secret("x")}) is not budgets.of(host, lambda _request: {})


def test_an_order_is_sent_once_with_its_permit() -> None:
    """JSON or form; a Decimal keeps its digits, and one that no JSON number can hold is refused before sending."""
    permit = Permit()

    async def script(_server: ScriptedServer, client: HttpClient) -> Any:
        first = await client.send("POST", "/orders", json={"qty": Decimal("1.50"), "n": Decimal(3)}, permit=permit)
        second = await client.send("PUT", "/orders", form={"side": "buy to cover"})
        third = await client.send("DELETE", "/orders/1", params={"hard": "no"})
        for wrong in (Decimal("0.12345678901234567890"), Decimal("NaN"), float("nan"), object()):
            with pytest.raises((TypeError, ValueError)):
                await client.send("POST", "/orders", json={"qty": wrong})
        return first.json(), second.json(), third.json()

    (first, second, third), requests, _ = talk(script)
    assert (first["body"], first["kind"]) == ('{"qty": 1.5, "n": 3}', "application/json")
    assert (second["body"], second["kind"]) == ("side=buy+to+cover", "application/x-www-form-urlencoded")
    assert (third["method"], third["query"], third["body"]) == ("DELETE", {"hard": "no"}, "")
    assert permit.redeemed == 1
    assert len(requests) == 3


def test_a_withdrawn_permit_sends_nothing() -> None:
    """The permit is asked after the connection stands, and before the first byte."""

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        with pytest.raises(Withdrawn, match="killed"):
            await client.send("POST", "/orders", permit=Permit(withdrawn=True))

    _, requests, _ = talk(script)
    assert requests == []


@pytest.mark.parametrize(
    ("fault", "raised", "redeemed"),
    [
        (ServerFault.LOST_REQUEST, OutcomeUnknown, 1),
        (ServerFault.LOST_REPLY, OutcomeUnknown, 1),
        (ServerFault.NO_REPLY, OutcomeUnknown, 1),
        (ServerFault.GATEWAY_TIMEOUT, OutcomeUnknown, 1),
        (ServerFault.SERVER_ERROR, OutcomeUnknown, 1),
        (ServerFault.TOO_MANY, OutcomeUnknown, 1),
        (ServerFault.LOGIN, LoginNeeded, 1),
    ],
)
def test_an_order_without_a_clear_answer_is_unknown(
    fault: ServerFault, raised: type[BrokerError], redeemed: int
) -> None:
    """Once a byte may have left nothing else is said of it, and it is never sent again."""
    permit = Permit()

    async def script(server: ScriptedServer, client: HttpClient) -> BaseException:
        server.fail(fault)
        with pytest.raises(raised) as caught:
            await client.send("POST", "/orders", permit=permit)
        return caught.value

    found, requests, _ = talk(script, retries=5)
    assert type(found) is raised
    assert "tested plugin (trading): POST /orders: " in str(found)
    assert permit.redeemed == redeemed
    assert len(requests) == 1


def test_an_order_that_never_left_is_unavailable() -> None:
    """Without a server the permit is not redeemed."""
    permit = Permit()

    async def script(server: ScriptedServer, client: HttpClient) -> None:
        await server.__aexit__(None, None, None)
        server._servers.clear()
        with pytest.raises(Unavailable):
            await client.send("POST", "/orders", permit=permit)

    talk(script)
    assert permit.redeemed == 0


def test_an_unreadable_answer_to_an_order_is_unknown() -> None:
    """The order may be there; a reading that cannot be read is only unavailable."""

    async def script(server: ScriptedServer, client: HttpClient) -> None:
        server.fail(ServerFault.UNREADABLE, times=2)
        with pytest.raises(OutcomeUnknown, match="cannot be read"):
            (await client.send("POST", "/orders")).json()
        with pytest.raises(Unavailable, match="cannot be read"):
            (await client.get("/orders")).json()

    talk(script)


@pytest.mark.parametrize("fault", [ServerFault.LOST_REPLY, ServerFault.NO_REPLY, ServerFault.SERVER_ERROR])
def test_a_reading_is_repeated(fault: ServerFault) -> None:
    """As often as the policy says, then it is unavailable."""

    async def script(server: ScriptedServer, client: HttpClient) -> HttpResponse:
        server.fail(fault, times=3)
        with pytest.raises(Unavailable):
            await client.get("/account")
        return await client.get("/account")

    answer, requests, _ = talk(script, retries=1)
    assert answer.status == 200
    assert len(requests) == 4


def test_a_429_pauses_what_can_wait() -> None:
    """A reading waits as the vendor asks; with rejects_429 an order is rejected, anything else was not processed."""

    async def script(server: ScriptedServer, client: HttpClient) -> None:
        server.fail(ServerFault.TOO_MANY)
        await client.get("/account")
        server.fail(ServerFault.TOO_MANY)
        PRIORITY.set(RequestPriority.PROTECTION)
        with pytest.raises(Unavailable) as caught:
            await client.send("DELETE", "/orders/1")
        assert caught.value.retry_after_s == 1.0
        server.fail(ServerFault.TOO_MANY)
        with pytest.raises(Rejected, match="429") as rejected:
            await client.send("POST", "/orders", permit=Permit())
        assert (rejected.value.retry_after_s, rejected.value.meaning) == (1.0, RejectionMeaning.RATE_LIMITED)
        assert "stop other programs that use this key" in str(rejected.value)
        PRIORITY.set(RequestPriority.READING)
        await client.get("/account")

    _, _, clock = talk(script, retries=1, rejects_429=True)
    assert clock.now() - NOON >= dt.timedelta(seconds=2)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 03 Mar 2026 17:00:09 GMT"}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-reset": str(NOON.timestamp() + 5)}, 5.0),
        ({"x-ratelimit-expiry": str(NOON.timestamp() * 1000 + 4000)}, 4.0),
        ({"x-ratelimit-reset": str(int((NOON.timestamp() + 6) * 1_000_000_000))}, 6.0),
        ({"retry-after": "86400"}, LONGEST_PAUSE_S),
        ({"retry-after": "9" * 22}, LONGEST_PAUSE_S),
        ({"retry-after": "9" * 5000}, LONGEST_PAUSE_S),
        ({"retry-after": "1e308"}, LONGEST_PAUSE_S),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "Tue, 03 Mar 2026 16:59:59 GMT"}, 0.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_PAUSE_S),
        ({"retry-after": "Tue, 99999999999999999999 Mar 2026 17:00:09 GMT"}, None),
        ({"retry-after": "Tue, 03 Mar 2026 17:00:09 +99999999999999999999"}, None),
        ({"retry-after": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"}, 10.0),
        ({"retry-after": "Tue, 03 Mar 2026 17:00:09 GMT, soon, Tue, 03 Mar 2026 17:00:11 GMT"}, 11.0),
        ({"retry-after": "-7", "x-ratelimit-reset": str(NOON.timestamp() + 5)}, 0.0),
        ({"x-ratelimit-reset": "inf"}, None),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": "1e308"}, 0.0),
        ({"x-ratelimit-reset": "9" * 5000}, 0.0),
        ({"x-ratelimit-reset": "-5"}, 0.0),
        ({"x-ratelimit-reset": str(NOON.timestamp() - 5)}, 0.0),
        ({"x-ratelimit-remaining": "9" * 5000}, None),
        ({"x-ratelimit-remaining": "-1"}, None),
        ({}, None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_vendor_says_when_to_come_back(headers: dict[str, str], pause: float | None) -> None:
    """In seconds, as a date, or as the moment at which its count starts anew; two minutes at most, 0 if that passed."""

    async def script(_server: ScriptedServer, client: HttpClient) -> float | None:
        with pytest.raises(Unavailable) as caught:
            await client.get("/account")
        return caught.value.retry_after_s

    found, _, _ = talk(script, handler=lambda _request: ServerReply(status=429, headers=headers))
    assert found == pytest.approx(pause)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "9" * 22}, LONGEST_PAUSE_S),
        ({"retry-after": "Tue, 03 Mar 2026 16:59:59 GMT"}, 0.0),
        ({"x-ratelimit-reset": str(NOON.timestamp() + 5)}, None),
    ],
)
def test_a_server_that_failed_says_when_to_come_back(headers: dict[str, str], pause: float | None) -> None:
    """By Retry-After alone, two minutes at most; what protects does not wait for it."""

    async def script(_server: ScriptedServer, client: HttpClient) -> float | None:
        with pytest.raises(Unavailable) as caught:
            await client.get("/account")
        PRIORITY.set(RequestPriority.PROTECTION)
        with pytest.raises(OutcomeUnknown):
            await client.send("DELETE", "/orders/1")
        PRIORITY.set(RequestPriority.READING)
        if pause:
            with pytest.raises(Unavailable, match=f"would be {pause:.1f} s"):
                await client.get("/account")
        return caught.value.retry_after_s

    found, requests, clock = talk(script, handler=lambda _request: ServerReply(status=503, headers=headers))
    assert found == pytest.approx(pause)
    assert len(requests) == 2
    assert clock.now() == NOON


@pytest.mark.parametrize(
    ("asked", "pause", "alert"),
    [
        (None, None, None),
        (float("nan"), None, None),
        (-1.0, 0.0, 0.0),
        (5.0, 5.0, 5.0),
        (200.0, 120.0, 200.0),
        (1e308, 120.0, 3600.0),
        (float("inf"), 120.0, 3600.0),
    ],
)
def test_no_plugin_asks_for_a_longer_pause(asked: float | None, pause: float | None, alert: float | None) -> None:
    """An error of a broker's or channel's plugin holds the pause within its bounds, whatever made it."""
    assert Unavailable("busy", retry_after_s=asked).retry_after_s == pause
    assert Rejected("busy", retry_after_s=asked).retry_after_s == pause
    assert Undelivered("busy", retry_after_s=asked).retry_after_s == alert


def test_no_request_is_left() -> None:
    """An answer that says so makes the next reading wait for the reset, before it is refused."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOON.timestamp() + 3)}

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        await client.get("/account")
        await client.get("/account")

    _, requests, clock = talk(script, handler=lambda _request: ServerReply(headers=headers))
    assert len(requests) == 2
    assert clock.now() == NOON + dt.timedelta(seconds=3)


@pytest.mark.parametrize("status", [302, 100 + 299, 404, 422])
def test_a_refusal_quotes_the_vendor(status: int) -> None:
    """Anything else that is not 2xx is `Rejected`, or what the plugin makes of it; a redirect is not followed."""

    def moved(_request: ServerRequest) -> ServerReply:
        return ServerReply(status=status, document={"message": "no\nsuch order"}, headers={"location": "/elsewhere"})

    async def script(_server: ScriptedServer, client: HttpClient) -> BaseException:
        with pytest.raises(BrokerError) as caught:
            await client.send("DELETE", "/orders/1")
        return caught.value

    plain, requests, _ = talk(script, handler=moved)
    assert type(plain) is (OutcomeUnknown if status < 400 else Rejected)
    assert f'DELETE /orders/1: {status} {{"message": "no\\nsuch order"}}' in str(plain)
    assert len(requests) == 1
    if status >= 400:
        own, _, _ = talk(script, handler=moved, rejection=lambda answer: Rejected(answer.json()["message"]))
        assert str(own) == "no\nsuch order"


@pytest.mark.slow
def test_pages_are_read_to_the_last() -> None:
    """A page that comes again, or too many of them, are no whole."""

    def paged(request: ServerRequest) -> ServerReply:
        number = int(request.query.get("page", "0"))
        return ServerReply(
            document={"rows": [number], "next": number + 1 if number < int(request.query["n"]) else None}
        )

    def following(page: HttpResponse) -> dict[str, str] | None:
        number = page.json()["next"]
        return None if number is None else {"page": str(number)}

    async def read(client: HttpClient, n: str, after: Callable[[HttpResponse], dict[str, str] | None]) -> list[int]:
        return [row async for page in client.pages("/rows", {"n": n}, following=after) for row in page.json()["rows"]]

    async def script(_server: ScriptedServer, client: HttpClient) -> list[int]:
        with pytest.raises(Unavailable, match="read before"):
            await read(client, "3", lambda _page: {"page": "1"})
        with pytest.raises(Unavailable, match=f"more than {MOST_PAGES} pages"):
            await read(client, "100000", following)
        return await read(client, "2", following)

    found, _, _ = talk(script, handler=paged)
    assert found == [0, 1, 2]


def test_only_declared_hosts_are_reached() -> None:
    """By their names, and each by its own protocol; the declared address counts unless the instance gives another."""

    async def script(server: ScriptedServer, _client: HttpClient) -> None:
        connect = context(server, hosts=HOSTS).connect
        with pytest.raises(PluginError, match="does not declare the host 'elsewhere'; its hosts: stream, trading"):
            connect.http("elsewhere")
        with pytest.raises(PluginError, match="not with https"):
            connect.http("stream")

    talk(script)


@pytest.mark.parametrize("reach", ["http", "websocket", "mail", "check_mail"])
def test_a_rehearsal_connects_to_no_other_machine(reach: str) -> None:
    """A host without an address on this machine is refused before anything is connected; one with an address is not."""
    hosts = {"api": Host("https://api.example.com"), "live": Host("wss://api.example.com"), "post": Host("smtp://*")}
    clock = ManualClock(NOON)
    there = Connector(plugin="alert acme", hosts=hosts, clock=clock, budgets=RequestBudgets(clock), only_here=True)
    mail = Mail(sender="a@example.com", recipients=("b@example.com",), subject="s", text="t")

    async def connect() -> None:
        match reach:
            case "http":
                there.http("api")
            case "websocket":
                there.websocket("live")
            case "mail":
                await there.mail("post", mail, server="127.0.0.1", plain=True)
            case _:
                await there.check_mail("post", server="mail.example.com")

    with pytest.raises(Unavailable, match="a rehearsal reaches servers on this machine only"):
        asyncio.run(connect())
    attrs.evolve(there, addresses={"api": "http://127.0.0.1:1"}).http("api")


def test_the_limit_is_shared_by_host_and_credential() -> None:
    """Two clients of one key share its requests per minute; another key has its own, and a weight counts as many."""
    hosts = {"trading": Host("https://api.example.com", requests_per_minute=60, budget="example")}

    async def main() -> list[float]:
        clock = ManualClock(NOON)
        async with ScriptedServer() as server:
            connect = context(server, hosts=hosts, clock=clock).connect
            one, two, other = (
                connect.http("trading", headers={"key": Secret(key), "accept": kind})
                for key, kind in (("key a", "json"), ("key a", "text"), ("key b", "json"))
            )
            for client in (one, two, one, two, one, *[other] * 5):  # what may leave at once
                await client.get("/account")
            moments = [clock.monotonic()]
            for client, weight in ((one, 1), (two, 1), (other, 1), (one, 2), (one, 1)):
                await client.get("/account", weight=weight)
                moments.append(clock.monotonic())
            await connect.close()
            return moments

    begun, first, second, third, fourth, fifth = asyncio.run(main())
    assert begun < first < second == third < fourth < fifth
    assert fifth - fourth > second - first


def test_an_answer_without_end_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is too large is no answer."""
    monkeypatch.setattr(http, "LARGEST", 10)

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        with pytest.raises(Unavailable, match="is larger"):
            await client.get("/account")

    talk(script)


def test_a_stale_answer_is_the_one_before() -> None:
    """The server's own fault: the kit needs it."""

    async def script(server: ScriptedServer, client: HttpClient) -> tuple[Any, Any]:
        await client.get("/account", {"n": "1"})
        server.fail(ServerFault.STALE, path="/account")
        server.fail(ServerFault.LOST_REQUEST, path="/elsewhere")
        stale = await client.get("/account", {"n": "2"})
        return stale.json()["query"], (await client.get("/account", {"n": "3"})).json()["query"]

    found, _, _ = talk(script)
    assert found == ({"n": "1"}, {"n": "3"})


def test_the_declared_address_counts_without_another() -> None:
    """A client of a real vendor is made without a connection: the address is the declaration's."""
    clock = ManualClock(NOON)
    connect = Connector(plugin="tested plugin", hosts=HOSTS, clock=clock, budgets=RequestBudgets(clock))

    async def main() -> None:
        client = connect.http("trading")
        assert str(client._transport._client.base_url) == "https://api.example.com/v2/"
        await connect.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.example/x",
        "//elsewhere.example/x",
        "orders",
        "",
        "/a/../../b",
        "/./a",
        "/a?b=1",
        "/a#b",
        "/a b",
        "\\\\x",
    ],
)
def test_a_path_leads_nowhere_else(path: str) -> None:
    """A link of the vendor's, to another host or out of the address, is refused before the first byte."""

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        with pytest.raises(PluginError, match="leads elsewhere"):
            await client.get(path)
        with pytest.raises(PluginError, match="leads elsewhere"):
            await client.send("POST", path, permit=Permit(withdrawn=True))

    _, requests, _ = talk(script, headers={"X-Key": Secret("hush-hush")})
    assert requests == []


def test_a_time_out_of_a_gateway_leaves_an_order_unknown() -> None:
    """408 says nothing about the order."""

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        with pytest.raises(OutcomeUnknown):
            await client.send("POST", "/orders")

    talk(script, handler=lambda _request: ServerReply(status=408))


def test_the_first_byte_of_a_sending_is_noticed() -> None:
    """The core learns of an order that left, whether or not the plugin gave its permit."""
    left: list[str] = []

    async def script(_server: ScriptedServer, client: HttpClient) -> None:
        ON_SEND.set(lambda: left.append("left"))
        await client.get("/account")
        with pytest.raises(Withdrawn):
            await client.send("POST", "/orders", permit=Permit(withdrawn=True))
        assert left == []
        await client.send("POST", "/orders")

    talk(script)
    assert left == ["left"]


def test_one_client_that_cannot_be_closed_keeps_no_other_open() -> None:
    """Every client is closed."""
    closed: list[str] = []

    async def broken() -> None:
        raise OSError("gone")

    async def sound() -> None:
        closed.append("sound")

    clock = ManualClock(NOON)
    connect = Connector(plugin="tested plugin", hosts=HOSTS, clock=clock, budgets=RequestBudgets(clock))
    connect._closing.extend([broken, sound])
    asyncio.run(connect.close())
    assert closed == ["sound"]
