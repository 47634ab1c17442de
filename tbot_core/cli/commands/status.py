"""`tbot status`: the status of the instance, read-only."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.model.formatting import (
    format_money,
    format_percent,
    format_price,
    format_quantity,
    labelled_line,
    plural,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CLOSED: Final = 5


@click.command("status")
@home_option
@json_option
def command(home: Path | None, *, as_json: bool) -> int:
    """Show the session, positions and orders. Exits with 0 if ready, 1 if something needs attention.

    Live: exits with 5 if it is not armed, or a loss has ended the session's entries.
    """
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.instance import document, instance_status

    now = SystemClock().now()
    found = instance_status(home, now)
    shown = document(found)
    emit(shown, as_json=as_json, lines=lines(shown, now))
    if found.closed:
        return _CLOSED
    return 1 if shown["attention"] else 0


def lines(shown: Mapping[str, Any], now: dt.datetime) -> Iterator[str]:
    """The status as text, from its document."""
    from tbot_core.status import feed, live_figures

    running = f"running, process {shown['process']}" if shown["running"] else "not running"
    label = "SIMULATED PRICES, " if shown["simulated"] else ""
    what = f"{shown['mode']}, {label}{shown['source']}" if shown["mode"] else "nothing has run here yet"
    yield labelled_line("instance", f"{shown['home']}, {running}")
    yield labelled_line("run", what)
    if shown["equity"] is not None:
        yield from _account(shown)
        yield from _held(shown)
    elif shown["mode"]:
        yield labelled_line("session", f"none yet, state {shown['state']}")
    if shown["armed_until"]:
        yield labelled_line("armed", f"to the end of the session of {shown['armed_until']}")
    elif shown["not_armed"]:
        yield labelled_line("armed", f"no: {shown['not_armed']}; `tbot arm` arms it")
    if shown["confirmations"]:
        yield labelled_line(
            "confirm", f"{plural(shown['confirmations'], 'entry', 'entries')} to confirm: `tbot confirm`"
        )
    if shown["feed"]:
        yield from feed.lines(shown["feed"])
    yield from live_figures.lines(shown)
    if shown["causes"]:
        yield labelled_line("state", f"{shown['state']}: {', '.join(shown['causes'])}")
    yield from _when(shown, now)
    yield labelled_line("disk", f"{shown['disk_free_bytes'] / 1e9:,.1f} GB free")
    for sentence in shown["attention"]:
        yield labelled_line(click.style("ATTENTION", bold=True), sentence)


def _when(shown: Mapping[str, Any], now: dt.datetime) -> Iterator[str]:
    # What goes on and what comes next; of a simulation, when it ran, or how far it is in a time of its own.
    from tbot_core.model.clock import both_times

    event = shown["next_event"]
    if event is not None:
        when = dt.datetime.fromisoformat(event["time"])
        hours, minutes = divmod(int((when - now).total_seconds()) // 60, 60)
        yield labelled_line("now", shown["phase"])
        yield labelled_line(
            "next", f"{event['event']}, {when:%Y-%m-%d} {both_times(when)}, in {hours} h {minutes:02} min"
        )
    elif not shown["running"]:
        ended = dt.datetime.fromisoformat(shown["ran_until"])
        yield labelled_line("ran", f"until {ended:%Y-%m-%d} {both_times(ended)}; it is not running")
    elif shown["last_event"] is not None:
        at = dt.datetime.fromisoformat(shown["last_event"])
        yield labelled_line("now", f"{at:%Y-%m-%d} {both_times(at)} in the time of the run")


def _account(shown: Mapping[str, Any]) -> Iterator[str]:
    equity, pnl, limit, budget, gross = (
        Decimal(shown[name]) for name in ("equity", "day_pnl", "daily_loss_limit", "budget", "gross")
    )
    used = Decimal(shown["daily_loss_used"] or 0)
    session = "open" if shown["in_session"] else "closed"
    yield labelled_line("session", f"{shown['session']}, {session}, state {shown['state']}")
    yield labelled_line(
        "equity", f"{format_money(equity)}, P&L of the session {format_money(pnl, signed=True)}{_marked(shown)}"
    )
    yield labelled_line("limit", f"{format_money(limit)} loss per session, {format_percent(used, 0)} used")
    yield labelled_line("budget", f"{format_money(budget)} per window, gross {format_money(gross)}")
    trades = ", ".join(f"{name} {count}" for name, count in shown["trades"].items())
    yield labelled_line("trades", f"{trades or 'none'} of {shown['most_trades']} each")


def _marked(shown: Mapping[str, Any]) -> str:
    # By which prices what is held is valued.
    from tbot_core.model.clock import exchange_time

    if not shown["positions"]:
        return ""
    if shown["marks_at"] is None:
        return ", at the last fill prices"
    return f", at the marks of {exchange_time(dt.datetime.fromisoformat(shown['marks_at'])):%H:%M:%S} New York"


def _held(shown: Mapping[str, Any]) -> Iterator[str]:
    from tbot_core.status.live_figures import protection_text

    yield labelled_line("positions", f"{len(shown['positions']) or 'none'}")
    room = max(map(len, shown["brokers"])) if len(shown["brokers"]) > 1 else 0
    for one in shown["positions"]:
        shares, entry = Decimal(one["quantity"]), Decimal(one["entry_price"])
        held = f"{one['side']} {format_quantity(shares)} {one['symbol']} at {format_price(entry)}"
        pnl = format_money(Decimal(one["pnl"]), signed=True)
        yield labelled_line("", f"{_at(one, room)}{held}, {protection_text(one)}, P&L {pnl}, {one['strategy']}")
    yield labelled_line("orders", f"{len(shown['orders']) or 'none'}")
    for one in shown["orders"]:
        what = " ".join(dict.fromkeys((one["leg"], one["type"])))
        order = f"{what} {one['symbol']} {format_quantity(Decimal(one['quantity']))}: {one['state']}"
        yield labelled_line("", f"{_at(one, room)}{order}")


def _at(one: Mapping[str, str], room: int) -> str:
    # The broker before what is held or worked there; nothing where there is only one, and no room.
    return f"{one['broker']:<{room}}  " if room else ""
