"""Alerts: test the channels, list alerts, acknowledge them."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions import discard
from tbot_core.actions.assembly import assemble_action
from tbot_core.alerts.delivery import AlertDelivery
from tbot_core.alerts.service import alert_delivery, channel_names, message_writer
from tbot_core.alerts.store import (
    BETWEEN,
    MOST_KEPT,
    AlertStore,
    alerts_file,
    channel_failures,
    limits_end,
    stored_alerts,
)
from tbot_core.engine.assembly import Assembly
from tbot_core.engine.rehearsal_run import NOT_SERVED
from tbot_core.errors import AccessError, Unavailable, UsageError
from tbot_core.instance import Instance
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.status.runs import run_time, with_current_run
from tbot_core.system import environ, filesystem, log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.actions import Notify
    from tbot_core.alerts.store import StoredAlert
    from tbot_core.contracts import Urgency

_LIMITS: Final = {"critical": "hourly limit", "routine": "limit of 20 in ten minutes"}
_log = log.logger(__name__)
_LIST: Final = "`tbot alerts log` lists the numbers."


@attrs.frozen(kw_only=True)
class ChannelTest:
    """A test of the channels that can be sent once; the log of its `assembly` may be started before."""

    assembly: Assembly
    delivery: AlertDelivery

    def send(self) -> list[dict[str, Any]]:
        """Send a test alert for each urgency; one row for each channel, with its answer, which its state keeps.

        All in one event loop: channels keep their connections.
        """
        writer, rows, clock = message_writer(self.assembly), list[dict[str, Any]](), self.assembly.clock

        async def send() -> None:
            for urgency, names in self.delivery.channel_names.items():
                answers = await self.delivery.deliver(writer.compose_test(urgency, clock.now()), names)
                for name, found in answers.items():
                    said = {"taken": not found.fault, "answer": found.words, "fault": found.fault}
                    rows.append({"urgency": urgency.value, "channel": name, **said})

        asyncio.run(self.assembly.closing(send()))
        self._keep(rows)
        return rows

    def _keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        # A channel that failed for one urgency has failed.
        instance = with_current_run(self.assembly.settings.instance)
        now = run_time(instance, self.assembly.clock.now())
        try:
            store = AlertStore(alerts_file(instance))
        except AccessError as fault:
            _log.warning("alerts.test_not_kept", reason=str(fault))
            return
        try:
            for row in sorted(rows, key=lambda one: bool(one["fault"])):
                store.pending.note(row["channel"], row["fault"], now)
        finally:
            store.close()


def channel_test(home: Path | None, channel: str = "", notify: Notify = discard) -> ChannelTest:
    """A test of all channels of the settings, or of one. Raises UsageError for one that they do not name.

    Raises Unavailable for one without a server in the rehearsal of TBOT_REHEARSAL.
    """
    # The secrets of filters do not matter here.
    assembly = assemble_action(Instance.at(home).home, "paper", {"FILTERS": "none"}, notify=notify)
    named = channel_names(assembly.settings.notifications)
    known = dict.fromkeys(name for names in named.values() for name in names)
    if channel in assembly.silent_channels:
        raise Unavailable(
            f"{channel} stays silent in this rehearsal: {NOT_SERVED}.",
            f"Unset {REHEARSAL_VARIABLE} to test it at its own service.",
        )
    if assembly.silent_channels:
        notify(f"No alerts by {', '.join(assembly.silent_channels)} in this rehearsal: {NOT_SERVED}.")
    if channel and channel not in known:
        raise UsageError(
            f"{channel} is not a channel of the settings; those are: {', '.join(known)}.",
            "CRITICAL_ALERT_CHANNEL and ROUTINE_ALERT_CHANNEL name the channels.",
        )
    wanted = {urgency: [name for name in names if channel in {"", name}] for urgency, names in named.items()}
    delivery = alert_delivery(assembly, wanted, logs_failures=False)  # they are in the rows
    return ChannelTest(assembly=assembly, delivery=delivery)


def alert_documents(home: Path | None, last: int, *, only_open: bool = False) -> list[dict[str, Any]]:
    """The last alerts as JSON documents, the oldest first."""
    instance = with_current_run(Instance.at(home))
    ends = limits_end(instance, run_time(instance, SystemClock().now()))
    failures = channel_failures(instance)
    rows = [row for row in stored_alerts(instance, last) if row.open or not only_open]
    return [_alert_document(row, ends, failures.get(row.message or "", {})) for row in rows]


def acknowledge_alerts(home: Path | None, ids: Sequence[int], actor: str = "") -> list[int]:
    """Acknowledge alerts by number, or all without numbers; returns those that were not before.

    `actor` is who has seen them, the account's user name by default. Raises UsageError for an unknown number.
    """
    instance = with_current_run(Instance.at(home))
    path = alerts_file(instance)
    if not filesystem.exists(path):
        if ids:
            raise UsageError(f"Unknown alert {ids[0]}.", _LIST)
        return []
    store = AlertStore(path)
    try:
        unknown = sorted(set(ids) - {row.id for row in store.rows(MOST_KEPT)})
        if unknown:
            raise UsageError(f"Unknown alert {unknown[0]}.", _LIST)
        return store.acknowledge(ids, actor or environ.user_name(), run_time(instance, SystemClock().now()))
    finally:
        store.close()


def _alert_document(
    row: StoredAlert, limits: Mapping[Urgency, dt.datetime], failures: Mapping[str, str]
) -> dict[str, Any]:
    # An alert as a JSON document; `limits`: until when an urgency's limit lets no message go.
    # `failures`: why channels did not deliver it with the others; those that delivered it later are left out.
    until = None if row.sent else limits.get(row.urgency)
    moments = {name: getattr(row, name) for name in ("opened", "cleared", "sent", "acked")}
    return {
        "id": row.id,
        "urgency": row.urgency.value,
        "what": row.what,
        "command": row.command,
        "open": row.open,
        "times": row.times,
        "via": row.via,
        "failed": {name: reason for name, reason in failures.items() if name not in row.channels},
        "acked_by": row.actor,
        "waits_until": None if until is None else until.isoformat(),
        **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
    }


def channels_without(row: Mapping[str, Any], channels: Sequence[Mapping[str, Any]]) -> list[str]:
    """The channels of an alert's urgency that did not deliver it, if it was sent; by the documents of both."""
    reached = (row["via"] or "").split(BETWEEN)
    own = [channel["name"] for channel in channels if row["urgency"] in channel["urgencies"]]
    return [name for name in own if name not in reached] if row["sent"] and row["via"] != "kept" else []


def delivery_words(row: Mapping[str, Any]) -> str:
    """Whether an alert was sent, by which channels, or what it waits for; `row` is its document."""
    if row["waits_until"]:
        until = exchange_time(dt.datetime.fromisoformat(row["waits_until"]))
        return f"not sent yet: waits for the {_LIMITS[row['urgency']]} until {until:%H:%M} New York"
    if row["via"] == "kept":
        return "not sent: too many were waiting"
    failed = "".join(f"; {name} failed: {reason}" for name, reason in row["failed"].items())
    return f"sent by {row['via']}{failed}" if row["sent"] else "not sent yet"
