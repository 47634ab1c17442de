"""The events of the journal: one frozen class for each kind, with the facts that it records.

A class holds facts only: what follows from them is a projection. Amounts are in USD, quantities in shares. The modules
are imported as their kinds are read, so that a command pays for those that it needs.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.journal.codec import EventFacts

CLASSES: Final[Mapping[str, str]] = {
    "run_started": "sessions.RunStarted",
    "run_finished": "sessions.RunFinished",
    "stopped": "sessions.RunStopped",
    "session_opened": "sessions.SessionOpened",
    "session_closed": "sessions.SessionClosed",
    "screened": "sessions.Screened",
    "window_closed": "sessions.WindowClosed",
    "gap": "sessions.MinutesMissed",
    "ready": "sessions.Ready",
    "not_ready": "sessions.NotReady",
    "calendar": "sessions.HoursShortened",
    "holiday": "sessions.HolidayReported",
    "settings": "sessions.SettingsEdited",
    "plugin_failed": "sessions.PluginFailed",
    "drift": "sessions.DriftMeasured",
    "decision": "orders.SignalDecided",
    "top_up": "orders.TopUpDecided",
    "confirmation_asked": "orders.ConfirmationAsked",
    "intended": "orders.OrderIntended",
    "sending": "orders.OrderSending",
    "dropped": "orders.OrderDropped",
    "no_answer": "orders.OrderUnanswered",
    "sent_again": "orders.OrderSentAgain",
    "absent": "orders.OrderAbsent",
    "lost": "orders.OrderLost",
    "silence": "orders.RequestFailed",
    "cancel_requested": "orders.CancelRequested",
    "replace_requested": "orders.ReplaceRequested",
    "execution_reused": "orders.ExecutionReused",
    "taken_otherwise": "orders.OrderTermsDiffer",
    "foreign_order": "accounts.ForeignOrder",
    "foreign_holding": "accounts.ForeignHolding",
    "adjustment": "accounts.Adjustment",
    "disputed": "accounts.PositionDisputed",
    "corporate_action": "accounts.SplitBooked",
    "activity": "accounts.AccountMoved",
    "statement": "accounts.CashStated",
    "settled": "accounts.CashSettled",
    "cash_share": "accounts.CashShareLeft",
    "frozen": "accounts.SymbolFrozen",
    "instrument": "accounts.InstrumentRulesReported",
    "state": "risk.StateChanged",
    "risk": "risk.RiskChanged",
    "request": "risk.RequestExecuted",
    "request_refused": "risk.RequestRefused",
    "live_terms": "risk.LiveTerms",
    "armed": "risk.Armed",
    "arming_kept": "risk.ArmingKept",
    "disarmed": "risk.Disarmed",
    "protection": "risk.ProtectionChanged",
    "closing_late": "risk.ClosingLate",
    "stuck": "risk.PositionStuck",
    "released": "risk.PositionsReleased",
    "universe": "feeds.UniverseCut",
    "feed_gap": "feeds.FeedGap",
    "feed_filled": "feeds.FeedFilled",
    "feeds_apart": "feeds.FeedsApart",
    "halt": "feeds.HaltReported",
    "vix": "feeds.VixRead",
    "facts": "feeds.FactsFetched",
    "circuit": "failover.CircuitChanged",
    "failover": "failover.FailoverChanged",
    "failover_confirmed": "failover.FailoverConfirmed",
    "lease": "failover.LeaseMoved",
    "standby_absent": "failover.StandbyAbsent",
    "drill": "failover.FailoverDrilled",
}
"""Module and class of each kind; every other kind is that of a broker's event."""


@functools.cache
def class_of(kind: str) -> type[EventFacts]:
    """The class of a kind of event."""
    module, _, name = CLASSES.get(kind, "orders.OrderReported").partition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)  # type: ignore[no-any-return]
