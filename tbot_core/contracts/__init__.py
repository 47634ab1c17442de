"""What plugins provide and what they are given: the protocols between the core and everything else."""

from tbot_core.contracts.alert import Alert, AlertChannel, Urgency
from tbot_core.contracts.broker import (
    Activity,
    Broker,
    BrokerEvent,
    Finds,
    Holding,
    KeepsHours,
    OrderReport,
    Permit,
    SimulatedVenue,
    Snapshot,
    VenueRules,
)
from tbot_core.contracts.deciding import Check, Explains, Filter, Needs, RiskCheck, Screens, Strategy
from tbot_core.contracts.feed import Feed, FeedLabel, FeedRequest, FeedSession, FeedSource
from tbot_core.contracts.plugin import Context, KeyProvider, Log, Plugin, RunInfo
from tbot_core.credentials import SecretValue

__all__ = [
    "Activity",
    "Alert",
    "AlertChannel",
    "Broker",
    "BrokerEvent",
    "Check",
    "Context",
    "Explains",
    "Feed",
    "FeedLabel",
    "FeedRequest",
    "FeedSession",
    "FeedSource",
    "Filter",
    "Finds",
    "Holding",
    "KeepsHours",
    "KeyProvider",
    "Log",
    "Needs",
    "OrderReport",
    "Permit",
    "Plugin",
    "RiskCheck",
    "RunInfo",
    "Screens",
    "SecretValue",
    "SimulatedVenue",
    "Snapshot",
    "Strategy",
    "Urgency",
    "VenueRules",
]
