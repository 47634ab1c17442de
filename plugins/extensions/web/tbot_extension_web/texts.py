"""How times, amounts and states read on the page."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup, escape

from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import format_money, format_percent, format_price, format_quantity
from tbot_core.status.alert_channels import FAILED, NOT_SET_UP, channel_words
from tbot_core.status.phases import phase_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NONE: Final = "\N{EN DASH}"
"""What stands where a value is not known."""

_COMMAND: Final = re.compile(r"`([^`]+)`")
_WITHOUT_HOME: Final = frozenset({"options", "rehearse"})
_PAGES: Final[Mapping[str, str]] = {
    "alerts": "/alerts",
    "arm": "/risk",
    "backtest": "/runs",
    "check": "/check",
    "config": "/settings",
    "confirm": "/confirmations",
    "data download": "/runs",
    "data import": "/runs",
    "defense": "/risk",
    "disarm": "/risk",
    "kill": "/risk",
    "secrets": "/secrets",
    "secrets backup": "/secrets#backup",
    "stop": "/risk",
    "why": "/decisions",
}
NO_PAGES: Final[Mapping[str, str]] = {}
_STRONG: Final = ("\x02", "\x03")
_FIGURES: Final = 4
_DEEPEST: Final = 3


def clock(moment: str | datetime | None, form: str = "%H:%M:%S") -> str:
    """The time of a moment in New York."""
    if moment is None or moment == "":
        return NONE
    return exchange_time(_moment(moment)).strftime(form)


def date(moment: str | datetime | None) -> str:
    """The day and minute of a moment in New York."""
    return clock(moment, "%Y-%m-%d %H:%M")


def upcoming(moment: str | datetime, now: str | datetime) -> str:
    """The minute of a moment in New York, with its day if that is not today's."""
    return clock(moment, "%H:%M") if clock(moment, "%Y-%m-%d") == clock(now, "%Y-%m-%d") else date(moment)


def logged(text: str) -> str:
    """The time of a line of the log in New York; what is no time stays as it is."""
    try:
        return clock(text, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def money(amount: str | Decimal | None) -> str:
    """An amount in dollars with two decimals and separated thousands."""
    return NONE if amount is None or amount == "" else format_money(Decimal(amount))


def profit(amount: str | Decimal | None) -> str:
    """A gain or loss in dollars, with its sign."""
    return NONE if amount is None or amount == "" else format_money(Decimal(amount), signed=True)


def price(amount: str | Decimal | None) -> str:
    """A price."""
    return NONE if amount is None or amount == "" else format_price(Decimal(amount))


def shares(amount: str | Decimal | None) -> str:
    """A number of shares."""
    return NONE if amount is None or amount == "" else format_quantity(Decimal(amount))


def sign(amount: str | Decimal | None) -> str:
    """The class of an amount: gain, loss or nothing."""
    if amount is None or amount == "":
        return ""
    value = Decimal(amount)
    return "gain" if value > 0 else "loss" if value < 0 else ""


def share(amount: str | float | None) -> str:
    """A fraction in percent."""
    return NONE if amount is None else f"{float(amount):.0%}"


def percent(ratio: float | None) -> str:
    """A ratio in percent with two decimals, without its sign."""
    return NONE if ratio is None else format_percent(abs(ratio))


def strong(text: str) -> str:
    """Mark a part of a line as one that stands out; `marked` shows it."""
    return f"{_STRONG[0]}{text}{_STRONG[1]}"


def marked(line: str) -> Markup:
    """A line with its strong parts, escaped."""
    begin, end = _STRONG
    return Markup(str(escape(line)).replace(begin, "<strong>").replace(end, "</strong>"))  # noqa: S704  -- escaped


def answer(lines: Sequence[str]) -> Markup:
    """The lines of an answer with their columns, escaped; in a `pre` they read as on the command line.

    A line with a name and at most three columns is a `pair`: on a phone the first column stands beside the name and the
    rest below. One with more, all figures, is `amounts`, as are the headings above it: all columns stand below the
    name. Any other line breaks between words. `dN` is the depth of its indent.
    """
    split = [_columns(line) for line in lines]
    shown = []
    for index, (line, columns) in enumerate(zip(lines, split, strict=True)):
        following = split[index + 1] if index + 1 < len(split) else []
        kind = _kind_of_line(columns, following)
        depth = min((len(line) - len(line.lstrip())) // 2, _DEEPEST)
        named = " ".join(("line", *kind.split(), f"d{depth}"))
        shown.append(f'<span class="{named}">{_line(line, columns if kind else [])}</span>\n')
    return Markup("".join(shown))  # noqa: S704  -- each part is escaped


def _columns(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def _kind_of_line(columns: Sequence[str], following: Sequence[str]) -> str:
    if _has_figures(columns) or (len(columns) == _FIGURES and _has_figures(following)):
        return "amounts"
    return "pair" if 1 < len(columns) <= _FIGURES else ""


def _has_figures(columns: Sequence[str]) -> bool:
    return len(columns) > _FIGURES and all(re.match(r"[-\u2212]?\d", column) for column in columns[1:_FIGURES])


def _line(line: str, columns: Sequence[str]) -> str:
    # The text as it is, each column in an element of its own.
    parts, rest = [], line
    for column in columns:
        before, _, rest = rest.partition(column)
        parts.append(f'{before}<span class="cell">{marked(column)}</span>')
    return "".join(parts) + str(marked(rest))


def prose(text: str, home: str = "", pages: Mapping[str, str] = NO_PAGES) -> Markup:
    """A sentence of the command line, escaped; its commands, which stand between backticks, as code.

    They name the folder `home`. `pages`: titles by path; a command that one of them does too has a link to it.
    """

    def shown(found: re.Match[str]) -> str:
        words = found[1].removeprefix("tbot ").split(" ")
        path = _PAGES.get(" ".join(words[:2])) or _PAGES.get(words[0], "")
        title = pages.get(path.partition("#")[0]) if found[1].startswith("tbot ") else None
        link = f' (page <a href="{path}">{title}</a>)' if title else ""
        return f"<code>{escape(command(unescape(found[1]), home))}</code>{link}"

    return Markup(_COMMAND.sub(shown, str(escape(text))))  # noqa: S704  -- escaped


def channel(one: Mapping[str, Any]) -> Markup:
    """How an alert channel is, in the words of `tbot status`; what does not deliver stands out."""
    words = escape(channel_words(one))
    bad = one["state"] in {FAILED, NOT_SET_UP} and not one["silent"]
    return Markup(f'<strong class="loss">{words}</strong>') if bad else words  # noqa: S704  -- escaped


def command(text: str, home: str) -> str:
    """A command as it can be copied: with the folder of the instance, where it takes one."""
    verb = text.removeprefix("tbot ").partition(" ")[0]
    takes = text.startswith("tbot ") and verb not in _WITHOUT_HOME and "--h" not in text
    return f"{text} --home {shlex.quote(home)}" if home and takes else text


def duration(seconds: float | None) -> str:
    """A length of time in its largest units."""
    if seconds is None:
        return NONE
    whole = int(seconds)
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= unit:
            return f"{whole // unit} {name}"
    return f"{whole} s"


def span(seconds: float) -> str:
    """A length of time, exact to the second: 50 min, 1 h 30 min."""
    parts = (int(seconds) // 3600, int(seconds) % 3600 // 60, int(seconds) % 60)
    named = [f"{count} {unit}" for count, unit in zip(parts, ("h", "min", "s"), strict=True) if count]
    return " ".join(named) or "0 s"


def _moment(moment: str | datetime) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)


FILTERS: Final[dict[str, Callable[..., object]]] = {
    "answer": answer,
    "channel": channel,
    "clock": clock,
    "date": date,
    "decimal": Decimal,
    "duration": duration,
    "logged": logged,
    "marked": marked,
    "money": money,
    "percent": percent,
    "phase": phase_words,
    "price": price,
    "profit": profit,
    "prose": prose,
    "share": share,
    "shares": shares,
    "sign": sign,
    "span": span,
    "upcoming": upcoming,
}
"""The filters of the templates."""
