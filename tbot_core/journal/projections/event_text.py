"""Words of events, as alerts, the log, a run's lines and pages have them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.model.formatting import format_price, format_quantity
from tbot_core.model.types import Side

if TYPE_CHECKING:
    from tbot_core.journal.events.accounts import PositionDisputed
    from tbot_core.journal.events.orders import ConfirmationAsked, SignalJudged
    from tbot_core.journal.events.risk import PositionLeft
    from tbot_core.journal.events.sessions import SettingsEdited


def action_text(judged: SignalJudged, what: str = "") -> str:
    """What a signal would do, with the name of its strategy; `what` comes before the action."""
    action = "BUY" if judged.side == Side.LONG.word else "SELL SHORT"
    return f"[{judged.signal.strategy.upper()}] {what}{action}"


def asked_text(asked: ConfirmationAsked) -> str:
    """The entry that a person is asked to confirm."""
    quantity, price = asked.quantity or Decimal(0), Decimal(str(asked.price))
    return f"{action_text(asked)} {format_quantity(quantity)} {asked.signal.symbol} @ about {format_price(price)}"


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
