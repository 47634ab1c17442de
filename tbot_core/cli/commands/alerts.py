"""`tbot alerts`: test the channels, list alerts, acknowledge them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.alerts.store import MOST_KEPT, limits_end, stored_alerts
from tbot_core.cli.options import BoundedInt, emit, home_option, json_option, resolve_home
from tbot_core.errors import UsageError
from tbot_core.model.clock import SystemClock, exchange_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.alerts.delivery import AlertDelivery
    from tbot_core.alerts.store import StoredAlert
    from tbot_core.contracts import Urgency
    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.model.clock import Clock

UNSENT = 4
_LIMITS: Final = {"critical": "hourly limit", "routine": "limit of 20 in ten minutes"}


@click.group("alerts")
def command() -> None:
    """Test the alert channels, list alerts, acknowledge them."""


@command.command("test", short_help="Send test alerts, and show the answers.")
@click.argument("channel", default="")
@home_option
@json_option
def test(home: Path | None, channel: str, *, as_json: bool) -> int:
    """Send one critical and one routine test alert, each by all of its channels, or only those of CHANNEL.

    Prints what the channel answered. Exits with 4 when one was not delivered. The console channel writes to standard
    error, at the log level of a run; it leaves the log file to the running bot.
    """
    from tbot_core.alerts.service import alert_delivery, channel_names
    from tbot_core.cli.assembly import assemble_command
    from tbot_core.cli.run_display import start_log
    from tbot_core.system import log

    assembly = assemble_command(resolve_home(home), "paper", {"FILTERS": "none"})  # their secrets do not matter here
    clock = assembly.clock
    named = channel_names(assembly.settings.notifications)
    known = dict.fromkeys(name for names in named.values() for name in names)
    if channel and channel not in known:
        raise UsageError(
            f"{channel} is not a channel of the settings; those are: {', '.join(known)}.",
            "CRITICAL_ALERT_CHANNEL and ROUTINE_ALERT_CHANNEL name the channels.",
        )
    wanted = {urgency: [name for name in names if channel in {"", name}] for urgency, names in named.items()}
    channels = alert_delivery(assembly, wanted)
    channels.logs_failures = False  # they are in the table
    start_log(assembly)
    try:
        rows = _tested(assembly, channels, clock)
    finally:
        log.close()
    emit({"channels": rows}, as_json=as_json, lines=(_channel_line(row) for row in rows))
    return 0 if all(row["taken"] for row in rows) else UNSENT


def _tested(assembly: Assembly, channels: AlertDelivery, clock: Clock) -> list[dict[str, Any]]:
    # One row for each urgency whose channel is tested, all in one event loop: channels keep their connections.
    import asyncio

    from tbot_core.alerts.service import message_writer

    writer, rows = message_writer(assembly), []

    async def send() -> None:
        for urgency, names in channels.channel_names.items():
            answers = await channels.deliver(writer.compose_test(urgency, clock.now()), names)
            for name, found in answers.items():
                said = {"taken": not found.fault, "answer": found.words, "fault": found.fault}
                rows.append({"urgency": urgency.value, "channel": name, **said})

    asyncio.run(assembly.closing(send()))
    return rows


@command.command("log", short_help="List alerts, oldest first.")
@click.option("--open", "only_open", is_flag=True, help="Only open incidents.")
@click.option("--last", type=BoundedInt(1, MOST_KEPT), default=50, metavar="N", help="Number of alerts. Default: 50.")
@home_option
@json_option
def history(home: Path | None, *, only_open: bool, last: int, as_json: bool) -> int:
    """List alerts, oldest first: time, urgency, and whether they were sent, closed and acknowledged.

    In a rehearsal they are those of its run.
    """
    from tbot_core.instance import Instance
    from tbot_core.status.runs import run_time, with_current_run

    instance = with_current_run(Instance.at(home))
    ends = limits_end(instance, run_time(instance, SystemClock().now()))
    rows = [document(row, ends) for row in stored_alerts(instance, last) if row.open or not only_open]
    emit({"alerts": rows}, as_json=as_json, lines=_lines(rows))
    if instance.rehearsal:
        click.echo(f"These are the alerts of {instance.rehearsal}.", err=True)
    return 0


@command.command("ack")
@click.argument("ids", nargs=-1, type=BoundedInt(1), metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All alerts.")
@home_option
@json_option
def acknowledge(home: Path | None, ids: tuple[int, ...], *, every: bool, as_json: bool) -> int:
    """Acknowledge alerts by number. `tbot status` then no longer asks for attention because of them."""
    from tbot_core.alerts.store import AlertStore, alerts_file
    from tbot_core.instance import Instance
    from tbot_core.status.runs import run_time, with_current_run
    from tbot_core.system import environ, filesystem

    if bool(ids) == every:
        raise UsageError("Give the numbers of the alerts, or --all.", "`tbot alerts log` lists the numbers.")
    instance = with_current_run(Instance.at(home))
    path = alerts_file(instance)
    seen: list[int] = []
    if filesystem.exists(path):
        store = AlertStore(path)
        try:
            unknown = sorted(set(ids) - {row.id for row in store.rows(MOST_KEPT)})
            if unknown:
                raise UsageError(f"Unknown alert {unknown[0]}.", "`tbot alerts log` lists the numbers.")
            seen = store.acknowledge(ids, environ.user_name(), run_time(instance, SystemClock().now()))
        finally:
            store.close()
    elif ids:
        raise UsageError(f"Unknown alert {ids[0]}.", "`tbot alerts log` lists the numbers.")
    emit({"acknowledged": seen}, as_json=as_json, lines=[f"Acknowledged: {', '.join(map(str, seen)) or 'nothing'}."])
    return 0


def document(row: StoredAlert, limits: Mapping[Urgency, dt.datetime]) -> dict[str, Any]:
    """An alert as a JSON document; `limits`: until when an urgency's limit lets no message go."""
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
        "acked_by": row.actor,
        "waits_until": None if until is None else until.isoformat(),
        **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
    }


def _lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "No alerts."
    for row in rows:
        words = ["open" if row["open"] else "resolved" if row["cleared"] else ""]
        words += [_sending(row)]
        words += [f"acknowledged by {row['acked_by']}" if row["acked"] else ""]
        times = f" ({row['times']} times)" if row["times"] > 1 else ""
        yield f"{row['id']:6}  {row['opened'][:19]}Z  {row['urgency']:8}  {row['what']}{times}"
        yield f"{'':8}{', '.join(word for word in words if word)}; next: {row['command']}"


def _sending(row: Mapping[str, Any]) -> str:
    if row["waits_until"]:
        until = exchange_time(dt.datetime.fromisoformat(row["waits_until"]))
        return f"not sent yet: waits for the {_LIMITS[row['urgency']]} until {until:%H:%M} New York"
    if row["via"] == "kept":
        return "not sent: too many were waiting"
    return f"sent by {row['via']}" if row["sent"] else "not sent yet"


def _channel_line(row: Mapping[str, Any]) -> str:
    words = row["fault"] or row["answer"]
    return f"{'ok' if row['taken'] else 'FAIL':4}  {row['urgency']:8}  {row['channel']:12}  {words}".rstrip()
