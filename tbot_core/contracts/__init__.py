"""What plugins provide and what they are given: the protocols between the core and everything else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_core.contracts.alert import Alert, AlertChannel, Urgency
    from tbot_core.contracts.broker import (
        Activity,
        AnnouncesMaintenance,
        Broker,
        BrokerEvent,
        DayTradeRule,
        Finds,
        Holding,
        Instrument,
        KeepsHours,
        Maintenance,
        Meaning,
        OrderReport,
        Permit,
        ReadsRefusals,
        SimulatedVenue,
        Snapshot,
        TellsInstruments,
        TellsPrices,
        TellsTime,
        VenueRules,
    )
    from tbot_core.contracts.credentials import SecretValue
    from tbot_core.contracts.feed import (
        DELAYED,
        Bar,
        Feed,
        FeedLabel,
        FeedQuality,
        FeedRequest,
        FeedSession,
        FeedSource,
        Heartbeat,
        IndexQuote,
        LiveSession,
        News,
        Quote,
        Status,
        TellsVix,
        TellsVixNow,
    )
    from tbot_core.contracts.plugin import Context, KeyProvider, Log, Plugin, RunInfo
    from tbot_core.contracts.strategy import Check, Explains, Filter, Needs, RiskCheck, Screens, Strategy

_MODULES = ("alert", "plugin", "strategy", "feed", "broker")

__all__ = [
    "DELAYED",
    "Activity",
    "Alert",
    "AlertChannel",
    "AnnouncesMaintenance",
    "Bar",
    "Broker",
    "BrokerEvent",
    "Check",
    "Context",
    "DayTradeRule",
    "Explains",
    "Feed",
    "FeedLabel",
    "FeedQuality",
    "FeedRequest",
    "FeedSession",
    "FeedSource",
    "Filter",
    "Finds",
    "Heartbeat",
    "Holding",
    "IndexQuote",
    "Instrument",
    "KeepsHours",
    "KeyProvider",
    "LiveSession",
    "Log",
    "Maintenance",
    "Meaning",
    "Needs",
    "News",
    "OrderReport",
    "Permit",
    "Plugin",
    "Quote",
    "ReadsRefusals",
    "RiskCheck",
    "RunInfo",
    "Screens",
    "SecretValue",
    "SimulatedVenue",
    "Snapshot",
    "Status",
    "Strategy",
    "TellsInstruments",
    "TellsPrices",
    "TellsTime",
    "TellsVix",
    "TellsVixNow",
    "Urgency",
    "VenueRules",
]


def __getattr__(name: str) -> object:
    """The public name, imported when it is asked for: listing plugins needs none of them, nor numpy."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}"))
            if name in found:
                return found[name]
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
