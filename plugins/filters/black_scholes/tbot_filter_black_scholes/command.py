"""`tbot options`: the price of an option by the model, and the verdict on its quote.

The model is the options model of an instance; what a request lacks comes from its stored bars.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option, print_notice
from tbot_core.contracts import OptionContract, OptionRequest, OptionRight, OptionValuation
from tbot_core.errors import PluginError, UsageError
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model import calendar as exchange
from tbot_core.model.clock import exchange_time
from tbot_core.model.dates import parse_date
from tbot_core.model.formatting import figure_text, format_percent
from tbot_core.plugins.guarded import GuardedFilter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import ModelInput
    from tbot_core.engine.assembly import Assembly
    from tbot_core.instance import Instance
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.plugins.guarded import GuardedOptionsModel

_OPTIONS: Final = {"spot": "--spot PRICE", "volatility": "--volatility FRACTION", "quote": "--bid PRICE --ask PRICE"}
_CLOSES: Final = 21
_WEEK: Final = timedelta(days=7)


class _PriceOptions(TypedDict):
    # The arguments and options as click passes them.

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


@attrs.frozen(kw_only=True)
class PricedOption:
    """A contract and its valuation by the filter `model`.

    `note`: that it expires before its date, and why stored bars did not supply what is missing.
    """

    contract: OptionContract
    model: str
    valuation: OptionValuation
    note: str = ""


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
def price_command(*, home: Path | None, as_json: bool, **given: Unpack[_PriceOptions]) -> int:
    """Show the model's price of an option, the market's, the deviation and the verdict, with the source of each input.

    SYMBOL EXPIRY STRIKE as in AAPL 2026-12-18 200. Quotes of option chains are not read: give --bid and --ask. Exits
    with 1 where the model has no price.
    """
    from tbot_core.actions.assembly import assemble_action
    from tbot_core.instance.sources import find_instance
    from tbot_core.system.secure_memory import harden

    for sentence in harden():
        click.echo(f"tbot: {sentence}", err=True)
    instance = find_instance(home)
    assembly = assemble_action(instance.home, "replay", notify=print_notice)
    found = value_option(instance, assembly, _request(given, assembly.calendar, assembly.clock.now()))
    emit(valuation_document(found), as_json=as_json, lines=valuation_lines(found))
    return 0 if found.valuation.model is not None else 1


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
    contract, valuation = priced.contract, priced.valuation
    yield f"{contract.underlying} {contract.expiry} {contract.strike:g} {contract.right} by {priced.model}"
    rows = [("model", _price(valuation.model)), ("market", _price(valuation.market))]
    if valuation.deviation is not None:
        rows.append(
            (
                "deviation",
                f"{format_percent(valuation.deviation, 1, signed=True)}, at most {format_percent(valuation.limit, 1)}",
            )
        )
    if valuation.implied_volatility is not None:
        rows.append(("implied volatility", format_percent(valuation.implied_volatility)))
    rows.append(("verdict", f"{valuation.verdict.upper()}: {valuation.reason}"))
    yield from (f"  {label:<20}{text}" for label, text in rows)
    yield "Inputs:"
    yield from (f"  {one.name:<20}{_shown(one):<12}{one.source}" for one in valuation.inputs)
    for one in valuation.missing:
        yield f"Missing: {one}{f' (give {_OPTIONS[one]})' if one in _OPTIONS else ''}."
    if priced.note:
        yield priced.note


def option_contract(
    symbol: str, expiry: date, strike: float, right: OptionRight, calendar: ExchangeCalendar
) -> OptionContract:
    """The contract; on a day without a session it expires at the close of the session before.

    Raises UsageError for an expiry outside the calendar.
    """
    known = exchange.FIRST_DAY + _WEEK <= expiry <= exchange.LAST_DAY
    sessions = calendar.sessions(expiry - _WEEK, expiry) if known else ()
    if not sessions:
        remedy = f"Give a date from {exchange.FIRST_DAY + _WEEK} to {exchange.LAST_DAY}."
        raise UsageError(f"The expiry {expiry} is outside the calendar.", remedy)
    return OptionContract(underlying=symbol, expiry=expiry, expires=sessions[-1].close, strike=strike, right=right)


def stored_prices(instance: Instance, calendar: ExchangeCalendar, request: OptionRequest) -> tuple[OptionRequest, str]:
    """The request with the spot, unless it has one, and the daily closes of stored bars; and why they lack these.

    Bars that end before the last closed session give nothing: an older price is not the price.
    """
    symbol, last = request.contract.underlying, calendar.previous(calendar.current(request.at).date).date
    closes = BarStore(folder=instance.bars, calendar=calendar).closes(symbol, last, _CLOSES)
    remedy = f"`tbot data download --symbols {symbol}` gets them from the data source."
    if not closes:
        return request, f"No bars of {symbol} are stored: {remedy}"
    end = closes[-1][0]
    if end < last:
        return request, f"The stored bars of {symbol} end on {end}, the last session was on {last}: {remedy}"
    source = f"stored bars to {end}"
    filled = attrs.evolve(request, closes=tuple(close for _, close in closes), closes_source=source)
    if request.spot is not None:
        return filled, ""
    return attrs.evolve(filled, spot=closes[-1][1], spot_source=f"stored bars, close of {end}"), ""


def options_model(assembly: Assembly) -> tuple[str, GuardedOptionsModel]:
    """The first enabled filter that prices options, with its name. Raises PluginError without one."""
    for name, one in assembly.filters.items():
        model = one.options_model if isinstance(one, GuardedFilter) else None
        if model is not None:
            return name, model
    failed = "".join(f" {failure.sentence}" for failure in assembly.failures if failure.kind == "filter")
    remedy = "Name one in FILTERS, or switch it on, as with ENABLE_BSM_FILTER=true."
    if off := off_by_filters(assembly.settings.filters_off):
        remedy = f"{off} {remedy}"
    raise PluginError(f"No enabled filter prices options.{failed}", remedy)


def value_option(instance: Instance, assembly: Assembly, request: OptionRequest) -> PricedOption:
    """The option by the options model of the instance; what the request lacks comes from stored bars."""
    name, model = options_model(assembly)
    filled, note = stored_prices(instance, assembly.calendar, request)
    valuation = model.value_option(filled)
    lacking = {"spot", "volatility"}.intersection(valuation.missing)
    notes = (_early_expiry(request.contract), note if lacking else "")
    return PricedOption(contract=request.contract, model=name, valuation=valuation, note=" ".join(filter(None, notes)))


def _request(given: _PriceOptions, calendar: ExchangeCalendar, at: datetime) -> OptionRequest:
    from tbot_core.contracts import ExerciseStyle, OptionQuote
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


def _price(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _shown(one: ModelInput) -> str:
    return one.value if isinstance(one.value, str) else figure_text(f"{one.value:.6g}")


def _early_expiry(contract: OptionContract) -> str:
    # That the date of a contract has no session, so that it expires at the close of the one before.
    last = exchange_time(contract.expires).date()
    if last == contract.expiry:
        return ""
    return f"{contract.expiry} has no session: the option is priced to the close of the session before, {last}."
