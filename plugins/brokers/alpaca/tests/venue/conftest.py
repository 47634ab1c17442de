"""The venue on real connections, alpaca-py as its client, and the vendor's OpenAPI files as its judge."""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tbot_broker_alpaca.venue.exchange import MORNING
from tbot_broker_alpaca.venue.server import AlpacaServer

from tbot_core.model.clock import ManualClock
from tbot_core.testing.scripted_server import ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from decimal import Decimal
    from pathlib import Path

with warnings.catch_warnings():  # alpaca-py uses a deprecated part of websockets
    warnings.simplefilter("ignore")
    from alpaca.common.exceptions import APIError
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from alpaca.trading.client import TradingClient
    from alpaca.trading.stream import TradingStream

Result = TypeVar("Result")
KEYS = {"APCA-API-KEY-ID": "a-key", "APCA-API-SECRET-KEY": "a-secret"}


class Specification:
    """One of the vendor's OpenAPI files as JSON schema."""

    def __init__(self, file: Path) -> None:
        self._document = json.loads(file.read_text())
        resource = Resource.from_contents(_as_json_schema(self._document), default_specification=DRAFT202012)
        self._registry: Any = Registry().with_resource("spec:", resource)

    def operation(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        """The pointer to the operation of a request, and the operation; None for a path that the file lacks."""
        for template in sorted(self._document["paths"], key=lambda one: one.count("{")):
            if re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)), path):
                found = self._document["paths"][template].get(method.lower())
                if found is not None:
                    pointer = f"/paths/{template.replace('~', '~0').replace('/', '~1')}/{method.lower()}"
                    return pointer, found
        return None

    def faults(self, pointer: str, document: object) -> list[str]:
        """How a document differs from the schema at a pointer."""
        schema = {"$ref": f"spec:#{pointer.replace('{', '%7B').replace('}', '%7D')}"}
        validator: Any = Draft202012Validator(schema, registry=self._registry, format_checker=FormatChecker())
        return [f"{list(one.absolute_path)}: {one.message}" for one in validator.iter_errors(document)]


def _as_json_schema(part: Any) -> Any:
    # OpenAPI 3.0 says nullable where JSON schema has a further type.
    if isinstance(part, list):
        return [_as_json_schema(one) for one in part]
    if not isinstance(part, dict):
        return part
    # An activity is to be one of two kinds whose fields are all optional, so that each is of both.
    found = {"anyOf" if name == "oneOf" else name: _as_json_schema(one) for name, one in part.items()}
    if found.pop("nullable", None) is True:
        return {"anyOf": [{"type": "null"}, found]}
    return found


class Judge:
    """Judges answers: those of success by the vendor's unchanged files, those of errors by the relaxed one."""

    def __init__(self, folder: Path) -> None:
        self.trading = Specification(folder / "trading-api.json")
        self.data = Specification(folder / "market-data-api.json")
        self.relaxed = Specification(folder / "trading-api.relaxed.json")

    def faults(self, request: ServerRequest, reply: ServerReply) -> list[str]:
        """How an answer differs from what the vendor's file says of it."""
        unchanged = self.data if request.path.startswith(("/v2/stocks", "/v1beta1", "/v1/")) else self.trading
        error = reply.status >= 400
        file = self.relaxed if error and unchanged is self.trading else unchanged
        found = file.operation(request.method, request.path)
        if found is None:
            return [] if reply.status == 404 else [f"{request.method} {request.path} is not in the file"]
        pointer, operation = found
        stated = operation["responses"].get(str(reply.status))
        if stated is None or (error and reply.document is None):
            return [] if error else [f"{reply.status} is not stated"]
        if not stated.get("content"):
            return []
        pointer += f"/responses/{reply.status}/content/application~1json/schema"
        document: Any = reply.document
        if reply.status == 207:  # a row that failed has an error in place of the order
            document = [row for row in document if row["status"] < 400]
        return [f"{request.method} {request.path} {reply.status} {one}" for one in file.faults(pointer, document)]

    def request_faults(self, request: ServerRequest, *, relaxed: bool) -> list[str]:
        """How the body of a request differs from what the vendor's file wants."""
        file = self.relaxed if relaxed else self.trading
        found = file.operation(request.method, request.path)
        if found is None or "requestBody" not in found[1]:
            return []
        return file.faults(f"{found[0]}/requestBody/content/application~1json/schema", request.document)


class JudgedServer(AlpacaServer):
    """The venue, which remembers its answers."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.answers: list[tuple[ServerRequest, ServerReply]] = []

    def answer(self, request: ServerRequest) -> ServerReply:
        """The answer to a request."""
        reply = super().answer(request)
        self.answers.append((request, json_of(reply)))
        return reply


def json_of(reply: ServerReply) -> ServerReply:
    """An answer as a client reads it."""
    document = json.loads(reply.content) if reply.document is not None else None
    return ServerReply(status=reply.status, document=document, headers=reply.headers)


class Venue:
    """The venue as it is served, and how a test asks it."""

    def __init__(self, runner: asyncio.Runner, **options: Any) -> None:
        self._runner = runner
        self.clock = ManualClock(MORNING)
        self.vendor = JudgedServer(self.clock, **options)
        self.account, self.market = self.vendor.account, self.vendor.market
        for symbol in ("AAPL", "KO"):
            self.market.list_symbol(symbol, _twenty(), 1_000_000)
        self.run(self.vendor.server.__aenter__())

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The result of a call in the venue's loop."""
        return self._runner.run(call)

    def ask(self, call: Callable[[], Result]) -> Result:
        """The result of a call that waits for the venue."""
        return self.run(asyncio.to_thread(call))

    def refusal(self, call: Callable[[], Any]) -> tuple[int, int, str]:
        """The status, code and message with which a call of alpaca-py is refused."""
        with pytest.raises(APIError) as caught:
            self.ask(call)
        fault: Any = caught.value
        return fault.status_code, fault.code, fault.message

    def trade(self, price: str | int, most: Decimal | None = None, symbol: str = "AAPL") -> None:
        """Let a symbol trade at a price."""
        self.market.listings[symbol].price = _decimal(price)
        self.account.trade(symbol, most)

    @property
    def trading(self) -> TradingClient:
        """Alpaca-py's client of the account; it does not try again."""
        client = TradingClient("a-key", "a-secret", paper=True, url_override=self.vendor.server.url)
        client._retry_codes = []
        return client

    @property
    def data(self) -> StockHistoricalDataClient:
        """Alpaca-py's client of past data."""
        return StockHistoricalDataClient("a-key", "a-secret", url_override=self.vendor.server.url)

    @property
    def stream_url(self) -> str:
        """The address of the WebSockets."""
        return self.vendor.server.socket_url.replace("http", "ws")

    def get(self, path: str, headers: dict[str, str] | None = None, **query: str) -> ServerReply:
        """The answer to a GET."""
        return self.send("GET", path, headers=headers, **query)

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: str
    ) -> ServerReply:
        """The answer to a request."""
        return json_of(self.vendor.answer(self.request(method, path, body, headers, **query)))

    @staticmethod
    def request(
        method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: str
    ) -> ServerRequest:
        """A request as the server receives it."""
        given = {name.lower(): text for name, text in (KEYS if headers is None else headers).items()}
        content = b"" if body is None else json.dumps(body).encode()
        return ServerRequest(method=method, path=path, query=query, headers=given, body=content)

    def close(self) -> None:
        """Stop serving."""
        self.run(self.vendor.server.__aexit__(None, None, None))


def _twenty() -> Decimal:
    return _decimal(20)


def _decimal(number: str | int) -> Decimal:
    from decimal import Decimal

    return Decimal(number)


@pytest.fixture(scope="session")
def judge(shared: Path) -> Judge:
    """The vendor's OpenAPI files."""
    folder = shared / "specs" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no OpenAPI files at {folder}")
    return Judge(folder)


@pytest.fixture
def opened(loopback: None, request: pytest.FixtureRequest) -> Iterator[Callable[..., Venue]]:  # noqa: ARG001  -- wanted for its effect
    """Opens venues; every answer that they gave is judged at the end, where the vendor's files are there."""
    try:
        judge: Judge | None = request.getfixturevalue("judge")
    except pytest.skip.Exception:
        judge = None
    venues: list[Venue] = []
    with asyncio.Runner() as runner:

        def open_one(**options: Any) -> Venue:
            venues.append(Venue(runner, **options))
            return venues[-1]

        yield open_one
        for venue in venues:
            with suppress(RuntimeError):
                venue.close()
    if judge is not None:
        assert [fault for venue in venues for answer in venue.vendor.answers for fault in judge.faults(*answer)] == []


@pytest.fixture
def venue(opened: Callable[..., Venue]) -> Venue:
    """A paper account on the basic plan, in which AAPL and KO trade at 20 USD."""
    return opened()


@pytest.fixture
def stream(venue: Venue) -> Iterator[tuple[TradingStream, list[Any]]]:
    """Alpaca-py's stream of trade updates, connected, and what it has received."""
    received: list[Any] = []

    async def receive(update: Any) -> None:
        received.append(update)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = TradingStream("a-key", "a-secret", url_override=f"{venue.stream_url}/stream")
        client.subscribe_trade_updates(receive)
        venue.run(client._start_ws())
        yield client, received
        venue.run(client.close())
