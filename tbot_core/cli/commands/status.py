"""`tbot status`: how the instance stands, read-only."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.model.formatting import labelled, money, percent, plural, price, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CLOSED: Final = 5


@click.command("status")
@home_option
@json_option
def command(home: Path | None, *, as_json: bool) -> int:
    """Show what is running, held and ordered: exit 0 when ready, 1 when something wants attention.

    Live, 5 when it is not armed, or a loss has ended the session's entries.
    """
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.instance import document, standing

    now = SystemClock().now()
    found = standing(home, now)
    shown = document(found)
    emit(shown, as_json=as_json, lines=lines(shown, now))
    if found.closed:
        return _CLOSED
    return 1 if shown["attention"] else 0


def lines(shown: Mapping[str, Any], now: dt.datetime) -> Iterator[str]:
    """The standing for a person, from its document."""
    from tbot_core.status import feed, live_figures

    running = f"running, process {shown['process']}" if shown["running"] else "not running"
    label = "SIMULATED PRICES, " if shown["simulated"] else ""
    what = f"{shown['mode']}, {label}{shown['source']}" if shown["mode"] else "nothing has run here yet"
    yield labelled("instance", f"{shown['home']}, {running}")
    yield labelled("run", what)
    if shown["equity"] is not None:
        yield from _account(shown)
        yield from _held(shown)
    elif shown["mode"]:
        yield labelled("session", f"none yet, state {shown['state']}")
    if shown["armed_until"]:
        yield labelled("armed", f"to the end of the session of {shown['armed_until']}")
    elif shown["not_armed"]:
        yield labelled("armed", f"no: {shown['not_armed']}; `tbot arm` does it")
    if shown["confirmations"]:
        yield labelled(
            "confirm", f"{plural(shown['confirmations'], 'entry', 'entries')} to be confirmed: `tbot confirm`"
        )
    if shown["feed"]:
        yield from feed.lines(shown["feed"])
    yield from live_figures.lines(shown)
    if shown["causes"]:
        yield labelled("state", f"{shown['state']}: {', '.join(shown['causes'])}")
    yield from _when(shown, now)
    yield labelled("disk", f"{shown['disk_free_bytes'] / 1e9:,.1f} GB free")
    for sentence in shown["attention"]:
        yield labelled(click.style("ATTENTION", bold=True), sentence)


def _when(shown: Mapping[str, Any], now: dt.datetime) -> Iterator[str]:
    # What goes on and what comes next; of a simulation, when it ran, or how far it is in a time of its own.
    from tbot_core.model.clock import both_times

    event = shown["next_event"]
    if event is not None:
        when = dt.datetime.fromisoformat(event["time"])
        hours, minutes = divmod(int((when - now).total_seconds()) // 60, 60)
        yield labelled("now", shown["phase"])
        yield labelled("next", f"{event['event']}, {when:%Y-%m-%d} {both_times(when)}, in {hours} h {minutes:02} min")
    elif not shown["running"]:
        ended = dt.datetime.fromisoformat(shown["ran_until"])
        yield labelled("ran", f"until {ended:%Y-%m-%d} {both_times(ended)}; it is not running")
    elif shown["last_event"] is not None:
        at = dt.datetime.fromisoformat(shown["last_event"])
        yield labelled("now", f"{at:%Y-%m-%d} {both_times(at)} in the run's own time")


def _account(shown: Mapping[str, Any]) -> Iterator[str]:
    equity, pnl, limit, budget, gross = (
        Decimal(shown[name]) for name in ("equity", "day_pnl", "daily_loss_limit", "budget", "gross")
    )
    used = Decimal(shown["daily_loss_used"] or 0)
    session = "open" if shown["in_session"] else "closed"
    yield labelled("session", f"{shown['session']}, {session}, state {shown['state']}")
    yield labelled("equity", f"{money(equity)}, P&L of the session {money(pnl, signed=True)}{_marked(shown)}")
    yield labelled("limit", f"{money(limit)} loss a session, {percent(used, 0)} used")
    yield labelled("budget", f"{money(budget)} a window, gross {money(gross)}")
    trades = ", ".join(f"{name} {count}" for name, count in shown["trades"].items())
    yield labelled("trades", f"{trades or 'none'} of {shown['most_trades']} each")


def _marked(shown: Mapping[str, Any]) -> str:
    # By which prices what is held is valued.
    from tbot_core.model.clock import exchange_time

    if not shown["positions"]:
        return ""
    if shown["marks_at"] is None:
        return ", at the prices of the last fills"
    return f", at the marks of {exchange_time(dt.datetime.fromisoformat(shown['marks_at'])):%H:%M:%S} New York"


def _held(shown: Mapping[str, Any]) -> Iterator[str]:
    from tbot_core.status.live_figures import cover

    yield labelled("positions", f"{len(shown['positions']) or 'none'}")
    room = max(map(len, shown["brokers"])) if len(shown["brokers"]) > 1 else 0
    for one in shown["positions"]:
        shares, entry = Decimal(one["quantity"]), Decimal(one["entry_price"])
        held = f"{one['side']} {quantity(shares)} {one['symbol']} at {price(entry)}"
        pnl = money(Decimal(one["pnl"]), signed=True)
        yield labelled("", f"{_at(one, room)}{held}, {cover(one)}, P&L {pnl}, {one['strategy']}")
    yield labelled("orders", f"{len(shown['orders']) or 'none'}")
    for one in shown["orders"]:
        what = " ".join(dict.fromkeys((one["leg"], one["type"])))
        order = f"{what} {one['symbol']} {quantity(Decimal(one['quantity']))}: {one['state']}"
        yield labelled("", f"{_at(one, room)}{order}")


def _at(one: Mapping[str, str], room: int) -> str:
    # The broker before what is held or worked there; nothing where there is only one, and no room.
    return f"{one['broker']:<{room}}  " if room else ""
