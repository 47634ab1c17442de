"""Every request of the plugin is one that the vendor's own OpenAPI files allow, unchanged as they are published."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
from tbot_broker_alpaca.venue import open_venue

from tbot_core.contracts import FeedRequest
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.option_symbols import OptionRight
from tbot_core.model.types import Instrument, InstrumentKind
from tbot_core.testing.trades import order as order_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_broker_alpaca.venue import AlpacaExchange

    from tbot_core.testing.scripted_server import ServerRequest

FILES = ("trading-api.json", "market-data-api.json")
DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")

formats = jsonschema.FormatChecker(())
formats.checks("date-time")(lambda text: DATE_TIME.fullmatch(text) is not None)


class Specification:
    """The operations of the vendor's files, and how a request differs from them."""

    def __init__(self, folder: Path) -> None:
        self._files = [json.loads((folder / name).read_text()) for name in FILES]

    def faults(self, request: ServerRequest) -> Iterator[str]:
        """What the specification does not allow in a request."""
        found = self._operation(request)
        if found is None:
            yield f"{request.method} {request.path}: no such operation"
            return
        file, operation, parameters = found
        known = {one["name"]: one for one in parameters if one["in"] == "query"}
        yield from (f"{name} is no parameter" for name in request.query.keys() - known.keys())
        yield from (
            f"{name} is missing" for name, one in known.items() if one.get("required") and name not in request.query
        )
        for name, text in request.query.items():
            if name in known:
                schema = self._whole(file, known[name]["schema"])
                yield from self._broken(file, schema, typed(text, schema), name)
        if (body := operation.get("requestBody")) is not None:
            schema = self._whole(file, body["content"]["application/json"]["schema"])
            yield from (f"{name} is no field" for name in request.document.keys() - schema["properties"].keys())
            yield from self._broken(file, schema, request.document, "body")
        elif request.body:
            yield "a body is sent where there is none"

    def _operation(self, request: ServerRequest) -> tuple[Any, Any, list[Any]] | None:
        for file in self._files:
            for template, path in file["paths"].items():
                pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
                if re.fullmatch(pattern, request.path) and request.method.lower() in path:
                    operation = path[request.method.lower()]
                    given = [*path.get("parameters", ()), *operation.get("parameters", ())]
                    return file, operation, [self._whole(file, one) for one in given]
        return None

    @staticmethod
    def _whole(file: Any, part: Any) -> Any:
        while "$ref" in part:
            found = file
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            part = found
        return part

    @staticmethod
    def _broken(file: Any, schema: Any, value: object, name: str) -> Iterator[str]:
        validator = jsonschema.Draft4Validator({**schema, "components": file["components"]}, format_checker=formats)
        yield from (f"{name}: {fault.message}" for fault in validator.iter_errors(value))


def typed(text: str, schema: Any) -> object:
    """A parameter as the value that its schema describes."""
    match schema.get("type"):
        case "integer":
            return int(text) if text.isdecimal() else text
        case "boolean":
            return {"true": True, "false": False}.get(text, text)
        case "array":
            return text.split(",")
    return text


@pytest.fixture(scope="module")
def specification(shared: Path) -> Specification:
    """The vendor's files."""
    folder = shared / "specs" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no specification at {folder}")
    return Specification(folder)


@pytest.fixture
def venue(loopback: None) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """A fresh account."""
    with open_venue(options_level=2) as exchange:
        exchange.venue.market.options.penny_classes["AAA"] = True
        yield exchange


def submit(venue: AlpacaExchange, order: Any) -> None:
    """Send an order with a permit."""
    venue.wait(venue.broker.submit(order, SendPermit(order, never_refuse)))


def trade(venue: AlpacaExchange) -> None:
    """Send every order and every reading of the account that the plugin knows."""
    broker = venue.broker
    venue.wait(broker.connect())
    submit(venue, order_of(name="a-market", quantity="10"))
    submit(venue, order_of(name="a-fraction", quantity="0.5"))
    submit(venue, order_of(name="a-limit", limit="10.01", quantity="3"))
    venue.trade_at(Decimal(20))
    venue.wait(broker.cancel("a-limit"))
    stop = order_of(name="a-stop", quantity="10", buy=False, stop="18.5")
    submit(venue, stop)
    venue.wait(broker.snapshot(dt.datetime(2000, 1, 1, tzinfo=dt.UTC)))
    venue.wait(broker.replace("a-stop", attrs.evolve(stop, stop_price=Decimal("18.75"))))
    venue.wait(broker.find("a-stop"))
    venue.wait(broker.cancel("a-stop"))
    put = order_of(name="a-put", quantity="2", limit="0.40")
    instrument = Instrument(
        symbol="AAA260116P00020000", kind=InstrumentKind.PUT, underlying="AAA", multiplier=100, leverage=Decimal(-4)
    )
    put = attrs.evolve(put, instrument=instrument)
    submit(venue, put)
    venue.venue.account.settle()
    venue.wait(broker.replace("a-put", attrs.evolve(put, limit_price=Decimal("0.60"))))
    venue.wait(broker.find("a-put"))
    submit(venue, attrs.evolve(put, client_order_id="a-put-sale", buy=False, limit_price=Decimal("0.30")))
    venue.wait(broker.instruments([instrument.symbol]))
    venue.wait(broker.instruments(["AAA"]))
    venue.wait(broker.instruments(["AAA", "BBB", "CCC", "DDD"]))
    venue.wait(broker.hours(dt.date(2026, 1, 5)))


def read_market(venue: AlpacaExchange) -> None:
    """Send every reading of market data that the plugin knows."""

    async def first() -> Any:
        return await anext(venue.broker.feed(FeedRequest(kind="live")).sessions())

    session, broker = venue.wait(first()), venue.broker
    day = session.session.date
    venue.wait(session.daily(("AAA", "BBB"), day - dt.timedelta(days=30), day))
    venue.wait(session.history(("AAA",), session.session.open, session.session.moment(10)))
    venue.wait(broker.prices(["AAA", "BBB"]))
    venue.wait(broker.vix_close(day - dt.timedelta(days=3)))
    venue.wait(broker.vix_now())
    chain = venue.wait(broker.option_contracts("AAA", OptionRight.PUT, day, day + dt.timedelta(days=30)))
    venue.wait(broker.option_quotes([one.symbol for one in chain]))


def test_a01_each_request_fits_the_specification(venue: AlpacaExchange, specification: Specification) -> None:
    """Market, limit and stop orders, replace, cancel, look-up, and every reading: each fits the vendor's files."""
    trade(venue)
    read_market(venue)
    sent = venue.server.requests
    faults = {f"{one.method} {one.path}: {fault}" for one in sent for fault in specification.faults(one)}
    assert faults == set()
    assert {(one.method, one.path.split("/")[2].partition("?")[0]) for one in sent} == {
        ("GET", "account"),
        ("GET", "assets"),
        ("GET", "calendar"),
        ("GET", "indices"),
        ("GET", "options"),
        ("GET", "orders"),
        ("GET", "orders:by_client_order_id"),
        ("GET", "positions"),
        ("GET", "stocks"),
        ("POST", "orders"),
        ("PATCH", "orders"),
        ("DELETE", "orders"),
    }
    assert {header for one in sent for header in one.headers if header.startswith("apca")} == {
        "apca-api-key-id",
        "apca-api-secret-key",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": {"nested": "True"}}, "nested: 'True' is not of type 'boolean'"),
        ({"query": {"limit": "many"}}, "limit: 'many' is not of type 'integer'"),
        ({"query": {"of": "1"}}, "of is no parameter"),
        ({"path": "/v2/order"}, "no such operation"),
        ({"method": "POST", "body": b'{"type": "market", "time_in_force": "day", "qty": 10}'}, "10 is not of type"),
        ({"method": "POST", "body": b'{"type": "market"}'}, "'time_in_force' is a required property"),
        ({"path": "/v2/calendar", "query": {"start": "2026-01-05"}}, "is not a 'date-time'"),
    ],
)
def test_the_check_notices_what_the_vendor_refuses(
    venue: AlpacaExchange, specification: Specification, change: dict[str, Any], words: str
) -> None:
    """A boolean in capitals, a number in place of text, an unknown parameter and a plain date are violations."""
    venue.wait(venue.broker.account())
    request = attrs.evolve(venue.server.requests[-1], **{"path": "/v2/orders", "query": {}, **change})
    assert any(words in fault for fault in specification.faults(request))
