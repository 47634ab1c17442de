"""Events as text, as alerts, the log, a run's lines and pages have them.

Entries and exits are one line: [OPEN] BUY 12 AAPL @ 173.85 stop 170.37. READY says of which signals a session will not
trade, and what changes it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.journal.events.orders import ConfirmationAsked, SignalDecided, SignalJudged
from tbot_core.model.formatting import first_names, format_money, format_price, format_quantity, plural
from tbot_core.model.types import TICKS_PER_DOLLAR, Leg, Order, Side, SignalId, Trade, price_of, stock
from tbot_core.trading.price_grid import round_to_grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tbot_core.journal.events.accounts import PositionDisputed
    from tbot_core.journal.events.risk import PositionLeft
    from tbot_core.journal.events.sessions import Ready, SettingsEdited
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.trading.orders import OrderRecord


class PlannedStops:
    """The stop levels that the session's decisions planned, as their orders will be rounded."""

    def __init__(self) -> None:
        self._planned: dict[SignalId, Decimal] = {}

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        if event.kind == records.SESSION_OPENED:
            self._planned.clear()
        if event.kind == records.DECISION:
            decided = event.facts(SignalDecided)
            if decided.stop is not None:
                # Towards the price, as its order is rounded.
                stop = round_to_grid(decided.stop * TICKS_PER_DOLLAR, up=decided.side == Side.LONG.word)
                self._planned[decided.signal] = price_of(stop)

    def of(self, entry: Order, orders: Iterable[OrderRecord]) -> Decimal | None:
        """The level of an entry's stop: of its order among `orders`, else as planned; None if neither is known."""
        mine = (record.order for record in orders if record.order.signal == entry.signal)
        return next((order.stop_price for order in mine if order.leg is Leg.STOP), self._planned.get(entry.signal))


def entry_text(order: Order, quantity: Decimal, price: Decimal | None, stop: Decimal | None) -> str:
    """What an entry bought or sold short; a price or level that is not known is left out."""
    action = f"{'TOP-UP ' if order.tops_up else ''}{'BUY' if order.buy else 'SELL SHORT'}"
    level = "" if stop is None else f" stop {format_price(stop)}"
    at = "" if price is None else f" @ {format_price(price)}"
    return f"[{order.signal.strategy.upper()}] {action} {format_quantity(quantity)} {order.symbol}{at}{level}"


def exit_text(trade: Trade) -> str:
    """How a trade ended."""
    how_much = f"{format_quantity(trade.quantity)} @ {format_price(trade.exit_price)}"
    what = f"[{trade.strategy.upper()}] EXIT {trade.symbol} {trade.exit_reason.word}"
    return f"{what} {format_money(trade.pnl, signed=True)} ({how_much})"


def unprotected_text(seconds: Mapping[str, float]) -> str:
    """The seconds without an order at the broker that closes a position, as the end of a sentence; "" under one."""
    bare, emulated = seconds.get("bare", 0.0), seconds.get("emulated", 0.0)
    if bare + emulated < 1:
        return ""
    return f", {bare + emulated:.0f} s without a stop at the broker, {emulated:.0f} s of them emulated"


def action_text(judged: SignalJudged, what: str = "") -> str:
    """What a signal would do, with the name of its strategy; `what` comes before the action."""
    traded = judged.instrument or stock(judged.signal.symbol)
    action = "BUY" if traded.side(Side[judged.side.upper()]) is Side.LONG else "SELL SHORT"
    return f"[{judged.signal.strategy.upper()}] {what}{action}"


def asked_text(asked: ConfirmationAsked) -> str:
    """The entry that a person is asked to confirm."""
    quantity, price = asked.quantity or Decimal(0), Decimal(str(asked.price))
    traded = asked.instrument or stock(asked.signal.symbol)
    if traded.is_proxy and asked.reference is not None:
        price = Decimal(str(asked.reference))
    return f"{action_text(asked)} {format_quantity(quantity)} {traded.symbol} @ about {format_price(price)}"


def contradiction_text(disputed: PositionDisputed) -> str:
    """That readings begin or cease to contradict the books in a symbol."""
    if not disputed.there or disputed.theirs is None or disputed.ours is None:
        return f"The readings of {disputed.symbol} agree with the books again"
    theirs, ours = format_quantity(disputed.theirs), format_quantity(disputed.ours)
    return f"the broker lists {theirs} {disputed.symbol}, and has reported executions for {ours}"


def position_text(position: PositionLeft) -> str:
    """A position that is not closed: side, quantity and symbol."""
    return f"{position.side} {format_quantity(position.quantity)} {position.symbol}"


def settings_text(edited: SettingsEdited) -> str:
    """Which settings of a running bot were changed, and when they take effect, without a full stop."""
    if edited.fault:
        return f"The changed settings are invalid, so the run keeps its previous ones: {edited.fault}"
    changes = ", ".join(f"{name} {old or 'unset'} -> {new or 'unset'}" for name, (old, new) in edited.changes.items())
    if not changes:
        return "The settings files have changed, but no value differs"
    return f"The settings have changed, effective from the next session: {changes}"


def ready_remarks(ready: Ready) -> list[str]:
    """The remarks of a READY event as sentences; none where every signal may be traded, and in older journals."""
    return [*_unknown_vix(ready), *ready.series, *_denied_shorts(ready), *_not_shortable(ready)]


def vix_text(ready: Ready) -> str:
    """The VIX of a READY event with its day and source, as `VIX 16.2 of 2026-12-01 (cboe)`.

    "" where it is asked for live, and in older journals; some of these lack the day and the source.
    """
    if not ready.states("vix"):
        return ""
    if ready.vix is None:
        return "VIX unknown"
    day = f" of {ready.vix_day} ({ready.vix_source})" if ready.vix_day else ""
    return f"VIX {ready.vix:g}{day}"


def _unknown_vix(ready: Ready) -> Iterator[str]:
    if unknown := ready.vix_unknown:
        live = ", or VIX_SOURCE=live" if ready.mode == "live" else ""
        yield (
            f"VIX close of {unknown.day} unknown: no entries by {', '.join(unknown.strategies)}. "
            f"`tbot data download vix` and a new start supply it, or DATA_SOURCE with the VIX{live}."
        )


def _denied_shorts(ready: Ready) -> Iterator[str]:
    if not (denied := ready.shorts_denied):
        return
    count, parts = denied.sessions, []
    for short_type in sorted({shorts.short_type for shorts in denied.strategies}):
        strategies = [shorts for shorts in denied.strategies if shorts.short_type == short_type]
        listed = ", ".join(f"{shorts.strategy} {shorts.denied}" if count else shorts.strategy for shorts in strategies)
        parts.append(f"{listed} ({short_type} is not available)")
    what = f"denied in the last {plural(count, 'session')}" if count else "are denied"
    settings = ", ".join(f"SHORT_TYPE_{shorts.strategy.upper()}" for shorts in denied.strategies)
    yield f"Short signals {what}: {', '.join(parts)}; see {settings}."


def _not_shortable(ready: Ready) -> Iterator[str]:
    for reason, symbols in sorted(ready.not_shortable.items()):
        yield f"{reason}: no short sales of {plural(len(symbols), 'symbol')}: {first_names(symbols)}."
