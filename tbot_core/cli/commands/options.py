"""`tbot options`: the price of an option by the model, and the verdict on its quote."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice
from tbot_core.errors import UsageError
from tbot_core.model.dates import parse_date
from tbot_core.model.formatting import figure_text, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tbot_core.actions.options import PricedOption
    from tbot_core.contracts import ModelInput, OptionRequest
    from tbot_core.model.calendar import ExchangeCalendar

_OPTIONS: Final = {"spot": "--spot PRICE", "volatility": "--volatility FRACTION", "quote": "--bid PRICE --ask PRICE"}


class PriceOptions(TypedDict):
    """The arguments and options as click passes them."""

    symbol: str
    expiry: str
    strike: float
    right: str
    bid: float | None
    ask: float | None
    spot: float | None
    volatility: float | None
    dividend_yield: float | None
    rate: float | None
    style: str | None


class BoundedNumber(click.ParamType[float]):
    """A number from `least` to `most`, without them any finite one; NaN is refused, and the help shows no bounds."""

    name = "number"

    def __init__(self, least: float = -math.inf, most: float = math.inf) -> None:
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails for another text and outside the bounds."""
        found: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        if not self.least <= found <= self.most:
            self.fail(f"{value} is not a number from {self.least:,.0f} to {self.most:,.0f}.", param, ctx)
        return found


_PRICE: Final = BoundedNumber(0, 1_000_000)
_FRACTION: Final = BoundedNumber()  # its bounds are the model's


@click.group("options")
def command() -> None:
    """Price options and judge their quotes."""


@command.command("price", short_help="Model, market, deviation and verdict of an option.")
@click.argument("symbol")
@click.argument("expiry")
@click.argument("strike", type=_PRICE)
@click.argument("right", type=click.Choice(("put", "call"), case_sensitive=False))
@click.option("--bid", type=_PRICE, metavar="PRICE", help="The option's bid in USD per share.")
@click.option("--ask", type=_PRICE, metavar="PRICE", help="The option's ask.")
@click.option("--spot", type=_PRICE, metavar="PRICE", help="Price of SYMBOL. Default: the last close of stored bars.")
@click.option(
    "--volatility",
    type=_FRACTION,
    metavar="FRACTION",
    help="Yearly volatility, 0.25 is 25 %. Default: realised, from stored bars.",
)
@click.option("--dividend-yield", type=_FRACTION, metavar="FRACTION", help="Yearly dividend yield. Default: 0.")
@click.option("--rate", type=_FRACTION, metavar="FRACTION", help="Yearly risk-free rate. Default: by the settings.")
@click.option("--style", type=click.Choice(("american", "european")), help="Exercise. Default: by the settings.")
@home_option
@json_option
def price_command(*, home: Path | None, as_json: bool, **given: Unpack[PriceOptions]) -> int:
    """Show the model's price of an option, the market's, the deviation and the verdict, with the source of each input.

    SYMBOL EXPIRY STRIKE as in AAPL 2026-12-18 200. Quotes of option chains are not read: give --bid and --ask. Exits
    with 1 where the model has no price.
    """
    from tbot_core.actions.assembly import assemble_action
    from tbot_core.actions.options import value_option
    from tbot_core.instance.sources import find_instance

    instance = find_instance(home)
    assembly = assemble_action(instance.home, "replay", notify=print_notice)
    found = value_option(instance, assembly, _request(given, assembly.calendar, assembly.clock.now()))
    emit(valuation_document(found), as_json=as_json, lines=valuation_lines(found))
    return 0 if found.valuation.model is not None else 1


def _request(given: PriceOptions, calendar: ExchangeCalendar, at: datetime) -> OptionRequest:
    from tbot_core.actions.options import option_contract
    from tbot_core.contracts import ExerciseStyle, OptionQuote, OptionRequest, OptionRight
    from tbot_core.model.types import is_symbol

    symbol, bid, ask, style = given["symbol"].upper(), given["bid"], given["ask"], given["style"]
    if not is_symbol(symbol):
        raise UsageError(f"{given['symbol']!r} is not a symbol.", "Name the underlying, as in AAPL.")
    expiry, right = parse_date(given["expiry"]), OptionRight(given["right"])
    return OptionRequest(
        contract=option_contract(symbol, expiry, given["strike"], right, calendar),
        at=at,
        quote=None if bid is None and ask is None else OptionQuote(bid=bid, ask=ask),
        spot=given["spot"],
        volatility=given["volatility"],
        rate=given["rate"],
        dividend_yield=given["dividend_yield"],
        style=None if style is None else ExerciseStyle(style),
    )


def valuation_document(priced: PricedOption) -> dict[str, Any]:
    """The valuation for JSON; prices in USD per share, fractions of 1, null where there is none."""
    return {
        **attrs.asdict(priced.valuation),
        "filter": priced.model,
        "contract": attrs.asdict(priced.contract),
        "note": priced.note,
    }


def valuation_lines(priced: PricedOption) -> Iterator[str]:
    """The valuation as text: model, market, deviation, verdict, then each input with its source."""
    contract, found = priced.contract, priced.valuation
    yield f"{contract.underlying} {contract.expiry} {contract.strike:g} {contract.right} by {priced.model}"
    rows = [("model", _price(found.model)), ("market", _price(found.market))]
    if found.deviation is not None:
        rows.append(
            (
                "deviation",
                f"{format_percent(found.deviation, 1, signed=True)}, at most {format_percent(found.limit, 1)}",
            )
        )
    if found.implied_volatility is not None:
        rows.append(("implied volatility", format_percent(found.implied_volatility)))
    rows.append(("verdict", f"{found.verdict.upper()}: {found.reason}"))
    yield from (f"  {label:<20}{text}" for label, text in rows)
    yield "Inputs:"
    yield from (f"  {one.name:<20}{_shown(one):<12}{one.source}" for one in found.inputs)
    for one in found.missing:
        yield f"Missing: {one}{f' (give {_OPTIONS[one]})' if one in _OPTIONS else ''}."
    if priced.note:
        yield priced.note


def _price(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _shown(one: ModelInput) -> str:
    return one.value if isinstance(one.value, str) else figure_text(f"{one.value:.6g}")
