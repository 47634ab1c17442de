"""One option by the options model of an instance: what stored bars know of it, and the model's valuation."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import OptionContract, OptionRequest, OptionRight, OptionValuation
from tbot_core.errors import PluginError, UsageError
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model import calendar as exchange
from tbot_core.model.clock import exchange_time
from tbot_core.plugins.guarded import GuardedFilter

if TYPE_CHECKING:
    from tbot_core.engine.assembly import Assembly
    from tbot_core.instance import Instance
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.plugins.guarded import GuardedOptionsModel

_CLOSES: Final = 21
_WEEK: Final = timedelta(days=7)


@attrs.frozen(kw_only=True)
class PricedOption:
    """A contract and its valuation by the filter `model`.

    `note`: that it expires before its date, and why stored bars did not supply what is missing.
    """

    contract: OptionContract
    model: str
    valuation: OptionValuation
    note: str = ""


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
    failed = "".join(f" {one.sentence}" for one in assembly.failures if one.kind == "filter")
    remedy = "Name one in FILTERS, or switch it on, as with ENABLE_BSM_FILTER=true."
    if off := off_by_filters(assembly.settings.filters_off):
        remedy = f"{off} {remedy}"
    raise PluginError(f"No enabled filter prices options.{failed}", remedy)


def value_option(instance: Instance, assembly: Assembly, request: OptionRequest) -> PricedOption:
    """The option by the options model of the instance; what the request lacks comes from stored bars."""
    name, model = options_model(assembly)
    filled, note = stored_prices(instance, assembly.calendar, request)
    found = model.value_option(filled)
    lacking = {"spot", "volatility"}.intersection(found.missing)
    notes = (_early_expiry(request.contract), note if lacking else "")
    return PricedOption(contract=request.contract, model=name, valuation=found, note=" ".join(filter(None, notes)))


def _early_expiry(contract: OptionContract) -> str:
    # That the date of a contract has no session, so that it expires at the close of the one before.
    last = exchange_time(contract.expires).date()
    if last == contract.expiry:
        return ""
    return f"{contract.expiry} has no session: the option is priced to the close of the session before, {last}."
