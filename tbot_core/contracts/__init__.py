"""The contracts between the core and its plugins: protocols to implement, and the values that they receive."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_core.contracts.abilities import (
        InstrumentRules,
        MaintenanceWindow,
        SupportsEventStream,
        SupportsInstruments,
        SupportsMaintenanceNotices,
        SupportsOpenOrders,
        SupportsOrderLookup,
        SupportsPolling,
        SupportsPrices,
        SupportsReplace,
        SupportsServerTime,
        SupportsTradingHours,
    )
    from tbot_core.contracts.alert import (
        Alert,
        AlertChannel,
        SendsOnce,
        SupportsAcknowledgement,
        SupportsConnectionCheck,
        Urgency,
    )
    from tbot_core.contracts.broker import (
        AccountActivity,
        AccountActivityKind,
        AccountSnapshot,
        Broker,
        BrokerEvent,
        OrderStatus,
        OrderStatusReport,
        Permit,
        PositionReport,
        SimulatedVenue,
    )
    from tbot_core.contracts.capabilities import AccountKind, BrokerCapabilities, DayTradeRule, ReplaceMode
    from tbot_core.contracts.credentials import KeyProvider, SecretValue
    from tbot_core.contracts.extension import ClosedTrade, Extension, JournalCursor, JournalEntry
    from tbot_core.contracts.feed import (
        Bar,
        BarHistory,
        DailyBar,
        ExtraFacts,
        Feed,
        FeedCoverage,
        FeedLabel,
        FeedMessage,
        FeedQuality,
        FeedRequest,
        FeedSession,
        FeedSource,
        HaltStatus,
        Heartbeat,
        IndexQuote,
        LiveSession,
        Quote,
        ReportsLeftOut,
        Split,
        SupportsDailyVix,
        SupportsLiveVix,
        SupportsMarketCaps,
        SupportsPartialVolume,
        SupportsSplits,
    )
    from tbot_core.contracts.network import Connect, Gap, HttpClient, HttpResponse, WebSocket
    from tbot_core.contracts.options import (
        ExerciseStyle,
        ModelInput,
        OptionContract,
        OptionListing,
        OptionQuote,
        OptionQuoteReport,
        OptionRequest,
        OptionsModel,
        OptionValuation,
        OptionVerdict,
        SupportsOptionContracts,
        SupportsOptionQuotes,
    )
    from tbot_core.contracts.permissions import Host, PluginNeeds
    from tbot_core.contracts.plugin import Context, Plugin, RunInfo, StructuredLogger
    from tbot_core.contracts.series import DailyValue, SupportsDailySeries
    from tbot_core.contracts.strategy import (
        Check,
        Filter,
        RequiresDailyBars,
        RequiresData,
        RiskCheck,
        Strategy,
        SupportsExplain,
        SupportsRefresh,
        SupportsScreening,
    )
    from tbot_core.errors import RejectionMeaning
    from tbot_core.model.option_symbols import OptionPriceSteps, OptionRight
    from tbot_core.model.types import BrokerEventKind, InstrumentKind


# In this order imported, those that are there already searched first: the journal's readers need the first ones alone,
# listing plugins none.
_MODULES = (
    "alert",
    "credentials",
    "capabilities",
    "broker",
    "abilities",
    "network",
    "permissions",
    "feed",
    "plugin",
    "options",
    "extension",
    "series",
    "strategy",  # the last one, since it needs numpy
)

__all__ = [
    "AccountActivity",
    "AccountActivityKind",
    "AccountKind",
    "AccountSnapshot",
    "Alert",
    "AlertChannel",
    "Bar",
    "BarHistory",
    "Broker",
    "BrokerCapabilities",
    "BrokerEvent",
    "BrokerEventKind",
    "Check",
    "ClosedTrade",
    "Connect",
    "Context",
    "DailyBar",
    "DailyValue",
    "DayTradeRule",
    "ExerciseStyle",
    "Extension",
    "ExtraFacts",
    "Feed",
    "FeedCoverage",
    "FeedLabel",
    "FeedMessage",
    "FeedQuality",
    "FeedRequest",
    "FeedSession",
    "FeedSource",
    "Filter",
    "Gap",
    "HaltStatus",
    "Heartbeat",
    "Host",
    "HttpClient",
    "HttpResponse",
    "IndexQuote",
    "InstrumentKind",
    "InstrumentRules",
    "JournalCursor",
    "JournalEntry",
    "KeyProvider",
    "LiveSession",
    "MaintenanceWindow",
    "ModelInput",
    "OptionContract",
    "OptionListing",
    "OptionPriceSteps",
    "OptionQuote",
    "OptionQuoteReport",
    "OptionRequest",
    "OptionRight",
    "OptionValuation",
    "OptionVerdict",
    "OptionsModel",
    "OrderStatus",
    "OrderStatusReport",
    "Permit",
    "Plugin",
    "PluginNeeds",
    "PositionReport",
    "Quote",
    "RejectionMeaning",
    "ReplaceMode",
    "ReportsLeftOut",
    "RequiresDailyBars",
    "RequiresData",
    "RiskCheck",
    "RunInfo",
    "SecretValue",
    "SendsOnce",
    "SimulatedVenue",
    "Split",
    "Strategy",
    "StructuredLogger",
    "SupportsAcknowledgement",
    "SupportsConnectionCheck",
    "SupportsDailySeries",
    "SupportsDailyVix",
    "SupportsEventStream",
    "SupportsExplain",
    "SupportsInstruments",
    "SupportsLiveVix",
    "SupportsMaintenanceNotices",
    "SupportsMarketCaps",
    "SupportsOpenOrders",
    "SupportsOptionContracts",
    "SupportsOptionQuotes",
    "SupportsOrderLookup",
    "SupportsPartialVolume",
    "SupportsPolling",
    "SupportsPrices",
    "SupportsRefresh",
    "SupportsReplace",
    "SupportsScreening",
    "SupportsServerTime",
    "SupportsSplits",
    "SupportsTradingHours",
    "Urgency",
    "WebSocket",
]


def __getattr__(name: str) -> object:
    """The public name, imported when it is asked for: listing plugins needs none of them, nor numpy."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    modules = sorted((f"{__name__}.{module}" for module in _MODULES), key=lambda module: module not in sys.modules)
    places = (vars(import_module(module)) for module in modules)
    return next(place[name] for place in places if name in place)
