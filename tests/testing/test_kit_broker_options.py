"""The cases of options pass for a broker that keeps its promises, and notice each one that is broken."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import nullcontext
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, OptionContract, OptionListing, OptionQuoteReport
from tbot_core.errors import Unavailable
from tbot_core.model.option_symbols import OptionRight, occ_symbol
from tbot_core.testing.broker_options import OPTION_CASES
from tbot_core.testing.contract import run_cases

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from tbot_core.testing.scripted_server import ServerFault

DAYS = (dt.date(2026, 1, 9), dt.date(2026, 1, 16), dt.date(2026, 1, 23))
NEW_YORK = dt.timezone(dt.timedelta(hours=-5))
CLAIMS = BrokerCapabilities(quantity_step=Decimal(1), option_contracts=True, option_quotes=True)


def listing(day: dt.date, strike: float, right: OptionRight = OptionRight.PUT, root: str = "AAA") -> OptionListing:
    """A contract of the chain; one of another root than AAA is not standard."""
    contract = OptionContract(
        underlying="AAA",
        expiry=day,
        expires=dt.datetime.combine(day, dt.time(21), dt.UTC),
        strike=strike,
        right=right,
    )
    symbol = occ_symbol(root, day, right, strike)
    return OptionListing(symbol=symbol, contract=contract, is_standard=root == "AAA", tradable=True)


class Sound:
    """A broker that keeps its promises: its requests are those that its venue's server sees."""

    capabilities = CLAIMS

    def __init__(self, server: Server) -> None:
        self.server = server
        self.listed = [listing(day, strike, right) for day in DAYS for strike in (19.0, 20.0) for right in OptionRight]
        self.listed.append(listing(DAYS[0], 20, root="AAA1"))

    async def option_contracts(
        self, underlying: str, right: OptionRight, first_expiry: dt.date, last_expiry: dt.date
    ) -> Sequence[OptionListing]:
        """The contracts of these days."""
        self.server.request()
        found = [
            one
            for one in self.listed
            if (one.contract.underlying, one.contract.right) == (underlying, right)
            and first_expiry <= one.contract.expiry <= last_expiry
        ]
        return sorted(found, key=lambda one: (one.contract.expiry, one.contract.strike, one.symbol))

    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        """The quotes of those that are listed."""
        known = {one.symbol for one in self.listed}
        return [quote(symbol) for symbol in symbols if symbol in known]


def quote(symbol: str, **change: Any) -> OptionQuoteReport:
    """A quote that has a bid only."""
    found = OptionQuoteReport(
        symbol=symbol,
        bid=0.4,
        ask=None,
        bid_size=3,
        ask_size=0,
        time=dt.datetime(2026, 1, 5, 15, tzinfo=dt.UTC),
        feed="opra",
        is_modified=False,
    )
    return attrs.evolve(found, **change)


class Server:
    """What fails: each request of a chain asks it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.faults: list[ServerFault] = []

    def request(self) -> None:
        """Note a request, or fail it."""
        self.requests.append(SimpleNamespace(path="/chain"))
        if self.faults:
            raise Unavailable(f"the chain cannot be read: {self.faults.pop()}")

    def fail(self, fault: ServerFault, *, path: str) -> None:
        """Let the next request of a path fail."""
        assert path == "/chain"
        self.faults.append(fault)

    def recover(self) -> None:
        """End the faults."""
        self.faults.clear()


class Venue:
    """A broker and the server that it asks."""

    symbol = "AAA"

    def __init__(self, made: type[Sound]) -> None:
        self.server = Server()
        self.broker = made(self.server)

    def trade_at(self, price: Decimal) -> None:
        """Prices of options do not change here."""

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return asyncio.run(call)


def outcomes(made: type[Sound]) -> dict[str, str]:
    """The outcome of each case by its number."""
    return {one.number: one.outcome for one in run_cases(OPTION_CASES, lambda: nullcontext(Venue(made)))}


def test_a_sound_broker_passes() -> None:
    """Each case applies to it."""
    assert outcomes(Sound) == dict.fromkeys(("b21", "b22", "b23", "b24"), "passed")


class _Lists(Sound):
    # Lists what `change` makes of the chain.
    async def option_contracts(self, *asked: Any) -> Sequence[OptionListing]:
        return self.change([*await super().option_contracts(*asked)], *asked)

    def change(self, found: list[OptionListing], *_asked: Any) -> list[OptionListing]:
        return found


class _Unsorted(_Lists):
    def change(self, found: list[OptionListing], *_asked: Any) -> list[OptionListing]:
        return found[::-1]


class _Repeats(_Lists):
    def change(self, found: list[OptionListing], *_asked: Any) -> list[OptionListing]:
        return [one for one in found for _ in range(2)]


class _Empty(_Lists):
    def change(self, _found: list[OptionListing], *_asked: Any) -> list[OptionListing]:
        return []


class _WithoutTheLastDay(_Lists):
    def change(self, found: list[OptionListing], *asked: Any) -> list[OptionListing]:
        return [one for one in found if one.contract.expiry < asked[3]]


class _AnyDay(Sound):
    async def option_contracts(self, underlying: str, right: OptionRight, *_days: Any) -> Sequence[OptionListing]:
        return await super().option_contracts(underlying, right, DAYS[0], DAYS[-1])


class _AnyRight(Sound):
    async def option_contracts(self, underlying: str, right: OptionRight, *days: Any) -> Sequence[OptionListing]:
        del right
        return await super().option_contracts(underlying, OptionRight.PUT, *days)


def _evolved(name: str, **change: Any) -> type[Sound]:
    # A broker whose listings differ so.
    def changed(_self: Any, found: list[OptionListing], *_asked: Any) -> list[OptionListing]:
        contract = {key: change[key] for key in change if key in {"underlying", "expires"}}
        listed = {key: change[key] for key in change if key not in contract}
        return [attrs.evolve(one, contract=attrs.evolve(one.contract, **contract), **listed) for one in found]

    return type(name, (_Lists,), {"change": changed})


class _ShortensWhatFails(Sound):
    async def option_contracts(self, *asked: Any) -> Sequence[OptionListing]:
        try:
            return await super().option_contracts(*asked)
        except Unavailable:
            return []


class _ForgetsAfterAFault(Sound):
    async def option_contracts(self, *asked: Any) -> Sequence[OptionListing]:
        try:
            return await super().option_contracts(*asked)
        except Unavailable:
            self.listed = self.listed[:4]
            raise


class _QuotesMore(Sound):
    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        return [*await super().option_quotes(symbols), quote(occ_symbol("ZZZ", DAYS[0], OptionRight.PUT, 20))]


class _QuotesTheUnknown(Sound):
    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        return [quote(symbol) for symbol in symbols]


class _QuotesTwice(Sound):
    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        return [*await super().option_quotes(symbols)] * 2


class _QuotesNothing(Sound):
    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        del symbols
        return []


class _QuotesManyOnly(Sound):
    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        return await super().option_quotes(symbols if len(symbols) > 1 else ())


class _QuotesAlways(Sound):
    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        return await super().option_quotes(symbols or [self.listed[0].symbol])


def _quoting(**change: Any) -> type[Sound]:
    # A broker whose quotes differ so.
    async def quotes(self: Sound, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        return [attrs.evolve(one, **change) for one in await Sound.option_quotes(self, symbols)]

    return type("_Quotes", (Sound,), {"option_quotes": quotes})


@pytest.mark.parametrize(
    ("made", "failed"),
    [
        (_Unsorted, {"b21"}),
        (_Repeats, {"b21"}),
        (_Empty, {"b21", "b24"}),
        (_WithoutTheLastDay, {"b21"}),
        (_AnyDay, {"b21"}),
        (_AnyRight, {"b21"}),
        (_evolved("_OfAnother", underlying="BBB"), {"b22"}),
        (
            _evolved("_InNewYork", expires=dt.datetime(2026, 1, 9, 16, tzinfo=NEW_YORK)),
            {"b22"},
        ),
        (_evolved("_Late", expires=dt.datetime(2026, 2, 9, 16, tzinfo=dt.UTC)), {"b22"}),
        (_evolved("_Early", expires=dt.datetime(2026, 1, 1, 16, tzinfo=dt.UTC)), {"b22"}),
        (_evolved("_Standard", is_standard=True), {"b22"}),
        (_evolved("_OfTen", multiplier=10), {"b22"}),
        (_ShortensWhatFails, {"b23"}),
        (_ForgetsAfterAFault, {"b23"}),
        (_QuotesMore, {"b24"}),
        (_QuotesTheUnknown, {"b24"}),
        (_QuotesTwice, {"b24"}),
        (_QuotesNothing, {"b24"}),
        (_QuotesManyOnly, {"b24"}),
        (_QuotesAlways, {"b24"}),
        (_quoting(ask=0.0), {"b24"}),
        (_quoting(bid=-1.0), {"b24"}),
        (_quoting(bid_size=-1), {"b24"}),
        (_quoting(feed=" "), {"b24"}),
        (_quoting(time=dt.datetime(2026, 1, 5, 15)), {"b24"}),  # noqa: DTZ001  -- what is noticed
    ],
)
def test_a_broken_promise_fails_its_case(made: type[Sound], failed: set[str]) -> None:
    """And no other case."""
    assert {number for number, outcome in outcomes(made).items() if outcome == "failed"} == failed


def test_a_broker_without_options_is_not_judged() -> None:
    """The cases are not claimed, and those of quotes need contracts to ask for."""
    none = type("_None", (Sound,), {"capabilities": BrokerCapabilities(quantity_step=Decimal(1))})
    assert set(outcomes(none).values()) == {"not claimed"}
    alone = BrokerCapabilities(quantity_step=Decimal(1), option_quotes=True)
    assert outcomes(type("_Quotes", (Sound,), {"capabilities": alone}))["b24"] == "not claimed"
