"""What `tbot why` without a symbol says of a session: the document of `status/day_decisions.py` as text."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import first_names, format_money, format_percent, plural, trades_text
from tbot_core.status.why_text import SIDES, WhySection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def day_sections(shown: Mapping[str, Any]) -> Iterator[WhySection]:
    """The answer about a session (`day_decisions`), a section for each strategy."""
    label = "SIMULATED PRICES, " if shown["simulated"] else ""
    yield WhySection(
        title=f"{trades_text(shown['trades'], shown['held'])} in the session of {shown['session']}"
        f"{_pnl(shown) if shown['trades'] else ''}",
        notes=(f"{shown['mode']} run {shown['run']}, {label}{shown['source']}", *shown["advice"]),
    )
    for one in shown["windows"]:
        yield WhySection(title=window_title(one), notes=tuple(f"  {line}" for line in window_sentences(one)))
    if shown["left_out"]:
        names = (f"  {_counted(one)} Symbols: {first_names(one['symbols'])}." for one in shown["left_out"])
        yield WhySection(title="Symbols that were left out of the session", notes=tuple(names))
    yield WhySection(notes=("`tbot why SYMBOL` explains each decision on a symbol.",))


def window_title(one: Mapping[str, Any]) -> str:
    """The strategy with the times of its window."""
    start, entry, entry_end, leave = (_time(one[name]) for name in ("start", "entry", "entry_end", "leave"))
    return f"{one['strategy']}: analysis from {start}, entries {entry} to {entry_end}, over at {leave}"


def window_sentences(one: Mapping[str, Any]) -> Iterator[str]:
    """What the strategy did in its window: candidates, triggers, denials with their reasons, and near misses."""
    yield f"{plural(one['candidates'], 'candidate')} before the bell{_vix(one)}."
    yield from (f"  {_counted(found)}" for found in one["before_bell"])
    if one["signals"] or one["triggers"]:
        denied = sum(found["count"] for found in one["denials"])
        yield f"{plural(one['triggers'], 'trigger')}: {one['allowed']} allowed, {denied} denied."
    else:
        yield "No trigger." if one["ended"] else "No trigger yet."
    yield from (f"  {_counted(found)}" for found in one["denials"])
    for near in one["near_misses"] or ():
        yield f"Near miss: {near_miss(near)}."
    if one["bad_prints"]:
        yield f"BAD_PRINT, first bar ignored: {first_names(one['bad_prints'])}."


def near_miss(near: Mapping[str, Any]) -> str:
    """How far a symbol stayed from the trigger, and when it was closest."""
    away = "an unknown distance" if near["distance"] is None else format_percent(abs(near["distance"]))
    return f"{near['symbol']} {away} from {near['rule']} {SIDES[near['side']]} at {_time(near['time'])}"


def _pnl(shown: Mapping[str, Any]) -> str:
    return f", {format_money(Decimal(shown['pnl']), signed=True)}"


def _vix(one: Mapping[str, Any]) -> str:
    return "" if one["vix"] is None else f", VIX {one['vix']:.2f}"


def _counted(found: Mapping[str, Any]) -> str:
    changes: Sequence[str] = found["settings"]
    by = f" Settings that change this: {', '.join(changes)}." if changes else ""
    return f"{found['count']} {found['reason']}: {found['sentence']}{by}"


def _time(text: str) -> str:
    return f"{exchange_time(dt.datetime.fromisoformat(text)):%H:%M}"
