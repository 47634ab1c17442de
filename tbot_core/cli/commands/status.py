"""`tbot status`: the status of the instance, read-only, and its text."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.model.clock import SystemClock, both_times, exchange_time
from tbot_core.model.formatting import (
    figure_text,
    format_money,
    format_percent,
    format_price,
    format_quantity,
    labelled_line,
    plural,
    request_words,
)
from tbot_core.system import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_CLOSED: Final = 5
_REHEARSED: Final = "at a server on this machine, with a journal of its own: "


@click.command("status")
@home_option
@json_option
def command(home: Path | None, *, as_json: bool) -> int:
    """Show the session, positions and orders. Exits with 0 if ready, 1 if something needs attention.

    Live: exits with 5 if it is not armed, or a loss has ended the session's entries.
    """
    with garbage.kept_start():
        from tbot_core.status.instance import status_document

        shown = status_document(home, SystemClock().now())
    emit(shown, as_json=as_json, lines=lines(shown, dt.datetime.fromisoformat(shown["now"])))
    if shown["entries_blocked"]:
        return _CLOSED
    return 1 if shown["attention"] else 0


def lines(shown: Mapping[str, Any], now: dt.datetime) -> Iterator[str]:
    """The whole status as text."""
    running = f"running, process {shown['process']}" if shown["running"] else "not running"
    label = "SIMULATED PRICES, " if shown["simulated"] else ""
    label = _REHEARSED if shown["mode"] == "REHEARSAL" else label
    market = f"{label}{shown['source']}" if shown["source"] else _without_session(shown)
    what = ", ".join(filter(None, (shown["mode"], market)))
    yield labelled_line("instance", f"{shown['home']}, {running}")
    if shown["service"] is not None:
        from tbot_core.status.service import service_sentence

        yield labelled_line("service", service_sentence(shown["service"]))
    yield labelled_line("run", what)
    if shown["equity"] is not None:
        yield from _account(shown)
        yield from _positions(shown)
    elif shown["mode"] or shown["at_next_start"] not in {"", shown["state"]}:
        yield labelled_line("session", f"none yet, state {_state_words(shown)}")
    if shown["armed_until"]:
        yield labelled_line("armed", f"to the end of the session of {shown['armed_until']}")
    elif shown["arming_waits"]:
        first, last = shown["arming_from"], shown["arming_waits"]
        more = "" if first == last else f", then to the end of that of {last}"
        yield labelled_line("armed", f"waits for the session of {first}{more} (`tbot arm` was given)")
    elif shown["not_armed"]:
        yield labelled_line("armed", f"no: {shown['not_armed']}; `tbot arm` arms it")
    if shown["confirmations"]:
        yield labelled_line(
            "confirm", f"{plural(shown['confirmations'], 'entry', 'entries')} to confirm: `tbot confirm`"
        )
    if shown["feed"]:
        yield from feed_lines(shown["feed"], running=shown["running"])
    yield from figure_lines(shown)
    yield from _state(shown)
    yield from _times(shown, now)
    yield from channel_lines(shown["alert_channels"])
    yield labelled_line("disk", f"{shown['disk_free_bytes'] / 1e9:,.1f} GB free")
    for sentence in shown["attention"]:
        yield labelled_line(click.style("ATTENTION", bold=True), sentence)


def _state_words(shown: Mapping[str, Any]) -> str:
    # The state, and that of the next start where requests wait for it.
    then = shown["at_next_start"]
    return f"{shown['state']}; from the next start on {then}" if then not in {"", shown["state"]} else shown["state"]


def _state(shown: Mapping[str, Any]) -> Iterator[str]:
    # The causes of the state, and until when it outlasts them.
    if shown["causes"]:
        yield labelled_line("state", f"{shown['state']}: {', '.join(shown['causes'])}")
    yield from (labelled_line("", condition["lasting"]) for condition in shown["conditions"] if condition["lasting"])


def channel_lines(channels: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The alert channels as text: their state, what waits, and the command that tries one that does not deliver."""
    from tbot_core.status.alert_channels import OK, channel_words

    width = max(len(channel["name"]) for channel in channels)
    for number, one in enumerate(channels):
        parts = [channel_words(one)]
        parts += [f"{plural(one['waiting'], 'message')} waiting"] if one["waiting"] else []
        parts += [] if one["state"] == OK or one["silent"] else [f"`tbot alerts test {one['name']}`"]
        words = f"{one['name']:<{width}}  {' and '.join(one['urgencies'])}: {'; '.join(parts)}"
        yield labelled_line("" if number else "alerts", words)


def _without_session(shown: Mapping[str, Any]) -> str:
    # What to say of a bot that has only waited for the opening bell, or of an instance in which nothing has run.
    if shown["running"]:
        return "waits for its first session"
    if shown["last_event"] is None:
        return "nothing has run here yet"
    ended = dt.datetime.fromisoformat(shown["last_event"])
    return f"no session yet; the bot waited for one until {ended:%Y-%m-%d} {both_times(ended)}"


def _times(shown: Mapping[str, Any], now: dt.datetime) -> Iterator[str]:
    # What will not be traded, the current phase and the next event; for a simulation when it ended, or its time.
    from tbot_core.status.phases import END_WORDS, phase_words

    for number, sentence in enumerate(shown["remarks"]):
        yield labelled_line("" if number else "today", sentence)
    event = shown["next_event"]
    if event is not None:
        when = dt.datetime.fromisoformat(event["time"])
        hours, minutes = divmod(int((when - now).total_seconds()) // 60, 60)
        yield labelled_line("now", phase_words(shown))
        yield labelled_line(
            "next", f"{event['event']}, {when:%Y-%m-%d} {both_times(when)}, in {hours} h {minutes:02} min"
        )
    elif not shown["running"]:
        ended = dt.datetime.fromisoformat(shown["ran_until"])
        how = f"; {END_WORDS[shown['ended']['how']]}" if shown["ended"] else ""
        yield labelled_line("ran", f"until {ended:%Y-%m-%d} {both_times(ended)}{how}")
    elif shown["last_event"] is not None:
        at = dt.datetime.fromisoformat(shown["last_event"])
        yield labelled_line("now", f"{at:%Y-%m-%d} {both_times(at)} in the time of the run")


def _account(shown: Mapping[str, Any]) -> Iterator[str]:
    equity, pnl, limit, budget, gross = (
        Decimal(shown[name]) for name in ("equity", "day_pnl", "daily_loss_limit", "budget", "gross")
    )
    used = Decimal(shown["daily_loss_used"] or 0)
    session = "closed" if not shown["in_session"] else "open" if shown["running"] else shown["ended"]["how"]
    yield labelled_line("session", f"{shown['session']}, {session}, state {_state_words(shown)}")
    yield labelled_line(
        "equity", f"{format_money(equity)}, P&L of the session {format_money(pnl, signed=True)}{_marked(shown)}"
    )
    yield labelled_line("limit", f"{format_money(limit)} loss per session, {format_percent(used, 0)} used")
    yield labelled_line("budget", f"{format_money(budget)} per window, gross {format_money(gross)}")
    if shown["first_live_day_cap"] is not None:
        cap = format_money(Decimal(shown["first_live_day_cap"]))
        yield labelled_line("first day", f"the account's first live day: entries of at most {cap}")
    most = shown["most_trades"]
    trades = ", ".join(f"{name} {count}/{most}" for name, count in shown["trades"].items())
    yield labelled_line("trades", trades or f"none, at most {most} per strategy")


def _marked(shown: Mapping[str, Any]) -> str:
    # The prices at which the positions are valued.
    if not shown["positions"]:
        return ""
    if shown["marks_at"] is None:
        return ", at the last known prices" if shown["accounts"] else ", at the last fill prices"
    return f", at the marks of {exchange_time(dt.datetime.fromisoformat(shown['marks_at'])):%H:%M:%S} New York"


def _positions(shown: Mapping[str, Any]) -> Iterator[str]:
    yield labelled_line("positions", f"{len(shown['positions']) or 'none'}")
    width = max(map(len, shown["brokers"])) if len(shown["brokers"]) > 1 else 0
    for position in shown["positions"]:
        shares, entry = Decimal(position["quantity"]), Decimal(position["entry_price"])
        held = f"{position['side']} {format_quantity(shares)} {position['symbol']} at {format_price(entry)}"
        pnl = format_money(Decimal(position["pnl"]), signed=True)
        yield labelled_line(
            "",
            f"{_broker_prefix(position, width)}{held}, {_protection_text(position)}, P&L {pnl}, {position['strategy']}",
        )
    yield labelled_line("orders", f"{len(shown['orders']) or 'none'}")
    for one in shown["orders"]:
        what = " ".join(dict.fromkeys((one["leg"], one["type"])))
        order = f"{what} {one['symbol']} {format_quantity(Decimal(one['quantity']))}: {one['state']}"
        yield labelled_line("", f"{_broker_prefix(one, width)}{order}")


def _broker_prefix(one: Mapping[str, str], width: int) -> str:
    # The broker of a position or order, as a prefix; nothing with a single broker.
    return f"{one['broker']:<{width}}  " if width else ""


def feed_lines(shown: Mapping[str, Any], *, running: bool = True) -> Iterator[str]:
    """The state of the market data as text; `running`: whether the run that receives it goes on."""
    if shown["source"]:
        coverage = f", {shown['coverage'].replace('_', ' ')}" if shown["coverage"] else ""
        age = "no bar yet, " if shown["age_s"] is None else f"last bar {shown['age_s']:.0f} s ago, "
        late = f"{plural(shown['late_bars'], 'late bar')}, {shown['revised_bars']} revised"
        yield labelled_line("feed", f"{shown['source']}{coverage}: {age if running else ''}{late}")
    if shown["universe"]:
        from tbot_core.journal import codec
        from tbot_core.journal.events.feeds import UniverseCut
        from tbot_core.status.event_lines import universe_text

        yield labelled_line("universe", universe_text(codec.read(UniverseCut, shown["universe"])))
    if shown["lost_minutes"]:
        yield labelled_line("gaps", f"{plural(shown['lost_minutes'], 'minute')} lost and not backfilled")
    if shown["halted"]:
        yield labelled_line("halted", ", ".join(shown["halted"]))
    if shown["apart"]:
        yield labelled_line("apart", f"feed and broker differ on {', '.join(shown['apart'])}: no entries")


def _protection_text(one: Mapping[str, str]) -> str:
    # The protection of a position as text, with the level of the resting stop.
    match one["protection"]:
        case "resting":
            uncovered = _uncovered(Decimal(one["quantity"]), Decimal(one["covered"]))
            return f"stop {format_price(Decimal(one['stop']))}{uncovered}"
        case "cancelling":
            level = format_price(Decimal(one["stop"]))
            return f"UNPROTECTED, the cancel of its stop {level} was requested and not confirmed"
        case "closing":
            return "UNPROTECTED, being closed"
        case "asked":
            return "UNPROTECTED, its stop is not confirmed"
        case _:
            return "UNPROTECTED, no stop at the broker: simulated at each closed bar"


def _uncovered(held: Decimal, covered: Decimal) -> str:
    # The part of a position that the resting stop does not cover.
    if covered >= held:
        return ""
    rest = "UNPROTECTED" if held - covered >= 1 else "simulated at each closed bar"
    return f" for {format_quantity(covered)}, {format_quantity(held - covered)} {rest}"


def figure_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """External holdings, candidates, brokers, VIX and the last restart as text."""
    for one in shown["foreign"]:
        yield labelled_line("foreign", _external(one))
    if shown["candidates"]:
        yield labelled_line("candidates", ", ".join(f"{name} {count}" for name, count in shown["candidates"].items()))
    for account in shown["accounts"]:
        if parts := _broker_figures(account):
            yield labelled_line("broker", f"{account['broker']}: {', '.join(parts)}")
    for host in shown["hosts"]:
        pause = f"it asked to wait {host['paused_s']:.0f} s, only stops and exits are sent" if host["paused_s"] else ""
        yield labelled_line(
            "host", f"{host['host']}: {pause or request_words(host['requests_per_minute'], host['requests_left'])}"
        )
    if shown["accounts"]:  # the figures of the running bot are there
        known = shown["vix"] is not None and shown["vix_day"]
        of = f"of {shown['vix_day']} ({shown['vix_source']})" if known else "at the previous close"
        vix = f"{_points(shown['vix'])} {of}"
        vix += "".join(f", {name} uses {_points(value)}" for name, value in shown["vix_live"].items())
        ahead = shown["clock_ahead_s"]
        clock = "" if ahead is None else f", clock {figure_text(f'{ahead:+.1f}')} s against the broker's"
        yield labelled_line("VIX", f"{vix}{clock}")
    if shown["restart"] is not None:
        yield labelled_line("restart", _restarted(shown["restart"]))


def _external(one: Mapping[str, Any]) -> str:
    # An external position, and the price at which it counts.
    known = one["price"] is not None
    counted = f"at {format_price(Decimal(one['price']))}" if known else "counted in no limit, its price is unknown"
    at = f", at {one['broker']}" if one["broker"] else ""
    return f"{format_quantity(Decimal(one['quantity']))} {one['symbol']} {counted}, external{at}"


def _points(vix: float | None) -> str:
    return "unknown" if vix is None else f"{vix:.2f}"


def _broker_figures(one: Mapping[str, Any]) -> list[str]:
    parts = [] if one["equity"] is None else [f"equity {format_money(Decimal(one['equity']))}"]
    parts += [] if one["latency_s"] is None else [f"latency {one['latency_s'] * 1000:.0f} ms"]
    if one["requests_spare"] is not None:
        parts.append(f"{plural(one['requests_spare'], 'request')} of {one['requests_per_minute']} per minute left")
    return parts


def _restarted(shown: Mapping[str, Any]) -> str:
    from tbot_core.journal.projections.restarts import found_words

    counts = (shown["found"], shown["missed_minutes"], shown["missed_signals"])
    return f"{both_times(dt.datetime.fromisoformat(shown['at']))}; {found_words(*counts, settled=shown['settled'])}"
