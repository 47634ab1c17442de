"""What a broker declares about itself."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import OrderType

if TYPE_CHECKING:
    from collections.abc import Iterable


def _order_types(types: Iterable[str]) -> frozenset[OrderType]:
    return frozenset(map(OrderType, types))


class AccountKind(StrEnum):
    """The kind of an account.

    `MARGIN`: it may borrow, and sell short where the broker allows it. `CASH`: it spends settled cash only.
    """

    MARGIN = "margin"
    CASH = "cash"


@attrs.frozen(kw_only=True)
class DayTradeRule:
    """A limit on day trades: `max_day_trades` of them in five sessions, up to and including the day `until`.

    It applies to accounts of the kind `account` that are worth less than `equity_below` dollars. Raises ValueError for
    a text that is no `AccountKind`.
    """

    until: date
    account: AccountKind = attrs.field(converter=AccountKind)
    equity_below: Decimal
    max_day_trades: int


class ReplaceMode(StrEnum):
    """What a venue does to replace a working order; it covers the position at each moment unless it must be cancelled.

    `SAME_ID`: it changes the order in place. `NEW_ID`: it puts another order with another id of its own in its place;
    the plugin reports both under the client order id of the first, with the fills of both. `CANCEL_AND_NEW`: it cannot;
    the core cancels the order, and places another one when the cancel is confirmed.
    """

    SAME_ID = "same_id"
    NEW_ID = "new_id"
    CANCEL_AND_NEW = "cancel_and_new"


@attrs.frozen(kw_only=True)
class BrokerCapabilities:
    """The capabilities of a broker, as it declares them.

    `simulated`: it is a `SimulatedVenue`; the core passes it every closed minute. `streams`: it pushes order events
    (`events`); a broker without it is polled (`poll`) at least every SLEEP_TIME, after each sending, and four times a
    second, for two seconds, while an exit waits for the end of its stop. `brackets`: an entry's stop and target rest
    there from its fill on, and protect what a partial fill bought; without it the core places the stop after each fill.
    `replace`: how a working order is replaced. `query_by_cid`, `lists_closed`, `lists_fills`: an ended order can be
    looked up, is listed, or its executions are listed; one of the three is required, or a fill missed by the stream
    would never be known. `lookup_window_s`: how long after sending an order may still appear.
    `confirms_submit`: a `submit` that returns was accepted by the broker, and not only sent; that its lists do not show
    the order yet leaves its outcome known. `unique_client_order_id`: an order under a client order id that it has seen
    before is refused with DUPLICATE_ID, also one that has ended; a stop or exit without a known outcome is sent again
    under its id there. `list_lag_s`: how many seconds its lists of orders, positions and executions may be behind what
    it has reported.
    `requests_per_minute`: 0 without a limit. `quantity_step`: the smallest quantity in shares, for the types in
    `fractional_types`; without stops among them, the stop of a fraction is emulated on closed bars.
    `day_trade_rules`: the limits on day trades; all that are in force apply. `shortable`: every instrument may be sold
    short unless its `InstrumentRules` say otherwise, as at a simulator; without it only those whose rules say so.
    `both_sides`: orders to buy and to sell an instrument may work at once; without it the rest of an entry is cancelled
    when a part has filled, and the stop is placed when it has ended. `buy_stop_collar`: a stop to buy may become a
    stop-limit order there, with a limit of this fraction above its level; 0: never. A short whose price is beyond that
    limit is covered at the market, since its stop may not fill.

    These declare optional methods (`tbot_core.contracts.abilities`); each is declared exactly where the broker has it:
    `streams` (`events`; without it `poll`), `replace` (a method of that name, unless it is `CANCEL_AND_NEW`),
    `query_by_cid` (`find`), `lists_open` (`open_orders`), `instruments`, `maintenance`, `hours`, `server_time`
    (`clock_ahead_s`), `prices`, `daily_vix` (`vix_close`), `live_vix` (`vix_now`), `market_caps`, `option_contracts`,
    `option_quotes`, `feed`.

    Raises ValueError for a fractional type that is no `OrderType`, and for a text that is no `ReplaceMode`.
    """

    simulated: bool = False
    streams: bool = False
    brackets: bool = False
    replace: ReplaceMode = attrs.field(default=ReplaceMode.CANCEL_AND_NEW, converter=ReplaceMode)
    query_by_cid: bool = False
    lists_open: bool = False
    lists_closed: bool = False
    lists_fills: bool = False
    exec_ids_unique: bool = False
    lookup_window_s: float = 600.0
    confirms_submit: bool = False
    unique_client_order_id: bool = False
    list_lag_s: float = 5.0
    requests_per_minute: int = 0
    quantity_step: Decimal = Decimal(1)
    fractional_types: frozenset[OrderType] = attrs.field(default=frozenset(), converter=_order_types)
    cid_length: int = 48
    day_trade_rules: tuple[DayTradeRule, ...] = ()
    shortable: bool = False
    both_sides: bool = True
    buy_stop_collar: Decimal = Decimal(0)
    instruments: bool = False
    maintenance: bool = False
    hours: bool = False
    server_time: bool = False
    prices: bool = False
    daily_vix: bool = False
    live_vix: bool = False
    market_caps: bool = False
    option_contracts: bool = False
    option_quotes: bool = False
    feed: bool = False

    @property
    def replaces(self) -> bool:
        """Whether the venue replaces a working order without leaving its position uncovered."""
        return self.replace is not ReplaceMode.CANCEL_AND_NEW

    @property
    def polls(self) -> bool:
        """Whether order events are polled: the broker has no stream."""
        return not self.streams

    @property
    def matrix(self) -> dict[str, str]:
        """Each capability as text, in order of the names."""
        declared = attrs.asdict(self, recurse=False)
        return {name: _text(declared[name]) for name in sorted(declared)}


def _text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple() | frozenset():
            return ", ".join(sorted(map(str, value))) or "none"
        case _:
            return str(value)
