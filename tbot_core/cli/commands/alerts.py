"""`tbot alerts`: test the channels, list alerts, acknowledge them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tbot_core.alerts.store import MOST_KEPT
from tbot_core.cli.options import BoundedInt, emit, home_option, json_option, print_notice
from tbot_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_UNSENT = 4


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
    from tbot_core.actions.alerts import channel_test
    from tbot_core.cli.run_display import start_log
    from tbot_core.system import log

    prepared = channel_test(home, channel, print_notice)
    start_log(prepared.assembly)
    try:
        rows = prepared.send()
    finally:
        log.close()
    emit({"channels": rows}, as_json=as_json, lines=(_channel_line(row) for row in rows))
    return 0 if all(row["taken"] for row in rows) else _UNSENT


@command.command("log", short_help="List alerts, oldest first.")
@click.option("--open", "only_open", is_flag=True, help="Only open incidents.")
@click.option("--last", type=BoundedInt(1, MOST_KEPT), default=50, metavar="N", help="Number of alerts. Default: 50.")
@home_option
@json_option
def history(home: Path | None, *, only_open: bool, last: int, as_json: bool) -> int:
    """List alerts, oldest first: time, urgency, and whether they were sent, closed and acknowledged.

    In a rehearsal they are those of its run.
    """
    from tbot_core.actions.alerts import alert_documents
    from tbot_core.instance import Instance
    from tbot_core.status.runs import with_current_run

    rows = alert_documents(home, last, only_open=only_open)
    instance = with_current_run(Instance.at(home))
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
    from tbot_core.actions.alerts import acknowledge_alerts

    if bool(ids) == every:
        raise UsageError("Give the numbers of the alerts, or --all.", "`tbot alerts log` lists the numbers.")
    seen = acknowledge_alerts(home, ids)
    emit({"acknowledged": seen}, as_json=as_json, lines=[f"Acknowledged: {', '.join(map(str, seen)) or 'nothing'}."])
    return 0


def _lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    from tbot_core.actions.alerts import delivery_words

    if not rows:
        yield "No alerts."
    for row in rows:
        words = ["open" if row["open"] else "resolved" if row["cleared"] else ""]
        words += [delivery_words(row)]
        words += [f"acknowledged by {row['acked_by']}" if row["acked"] else ""]
        times = f" ({row['times']} times)" if row["times"] > 1 else ""
        yield f"{row['id']:6}  {row['opened'][:19]}Z  {row['urgency']:8}  {row['what']}{times}"
        yield f"{'':8}{', '.join(word for word in words if word)}; next: {row['command']}"


def _channel_line(row: Mapping[str, Any]) -> str:
    words = row["fault"] or row["answer"]
    return f"{'ok' if row['taken'] else 'FAIL':4}  {row['urgency']:8}  {row['channel']:12}  {words}".rstrip()
