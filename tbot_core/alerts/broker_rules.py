"""Notices about brokers and instrument reports, each with the command to run next.

Pure: events are passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.alerts.alert import Notice
from tbot_core.contracts import Urgency
from tbot_core.execution import instrument_rules, orphan_orders
from tbot_core.journal import records
from tbot_core.journal.projections import failover_text
from tbot_core.journal.projections.leases import FailoverBlocker, FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FAILOVER_STATUS_COMMAND: Final = "tbot failover status"
FAILOVER_CONFIRM_COMMAND: Final = "tbot failover confirm --amount USD"
FAILOVER_DRILL_COMMAND: Final = "tbot failover drill"


def notices_of_event(kind: str, payload: Mapping[str, Any]) -> Iterator[Notice]:
    """The notice for an event alone."""
    if kind == records.INSTRUMENT and not payload["waiting"]:
        what, command = f"{instrument_rules.instrument_rules_text(payload)}.", f"tbot why {payload['symbol']}"
        yield Notice(key="", urgency=Urgency.ROUTINE, what=what, command=command)
    if kind == records.TAKEN_OTHERWISE:
        what, command = f"{orphan_orders.misread_order_text(payload)}.", f"tbot why {payload['ordered']['symbol']}"
        yield Notice(key="", urgency=Urgency.CRITICAL, what=what, command=command)
    if kind not in failover_text.KINDS or kind == records.DRILL:  # the operator of a drill sees its result
        return
    what = f"{failover_text.failover_event_text(kind, payload)}."
    yield Notice(key="", urgency=_urgency(kind, payload), what=what, command=_command(kind, payload))


def _urgency(kind: str, payload: Mapping[str, Any]) -> Urgency:
    critical = kind == records.STANDBY_ABSENT or (kind == records.CIRCUIT and payload["state"] == "open")
    if kind == records.FAILOVER:
        critical = payload["phase"] != FailoverPhase.OVER.value
    return Urgency.CRITICAL if critical else Urgency.ROUTINE


def _command(kind: str, payload: Mapping[str, Any]) -> str:
    if kind == records.STANDBY_ABSENT:
        return "tbot check"
    if kind == records.FAILOVER and payload["phase"] == FailoverPhase.REDUCE_ONLY.value:
        return FAILOVER_DRILL_COMMAND if payload["why"] == FailoverBlocker.NO_DRILL.name else FAILOVER_CONFIRM_COMMAND
    return FAILOVER_STATUS_COMMAND
