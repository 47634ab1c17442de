"""The frame of the live view: one line per terminal row, cut to its width."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
from rich.text import Text

from tbot_core.model.calendar import Session
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import DENIALS_COUNT, MINUS, format_money, format_percent, format_price, format_quantity
from tbot_core.model.window import Window
from tbot_core.status.event_text import EventLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


Styled: TypeAlias = "tuple[str, str]"
MIN_WIDTH: Final = 40
WIDE_WIDTH: Final = 72
_GAIN, _LOSS, _SOFT = "bright_cyan", "bright_yellow", "dim"
_WEIGHTS: Final = {"session": "bold", "entry": "", "risk": "bold reverse", "denial": _SOFT, "window": _SOFT}
_UNKNOWN: Final = "\N{EN DASH}"
_PLAIN: Final = str.maketrans(f"·░█▒┃{MINUS}{_UNKNOWN}\N{NO-BREAK SPACE}", ".-#=|-- ")
_HINT: Final = "Ctrl-C shuts down cleanly; the same command resumes."


@attrs.frozen(kw_only=True)
class PositionRow:
    """A position as it is shown; `stop` is None without a resting stop, `broker` is "" if the session has only one.

    `cancelling`: the cancel of its stop was requested and not confirmed.
    """

    strategy: str
    symbol: str
    side: str
    shares: Decimal
    entry: Decimal
    last: Decimal
    stop: Decimal | None
    pnl: Decimal
    broker: str = ""
    cancelling: bool = False


@attrs.define(kw_only=True)
class LiveFrame:
    """Everything that the view shows; what is None is not known yet. `notice` is a fixed line of the view.

    `number` counts the sessions of the run up to the current one, `sessions` is their total; 0 if unlimited. `download`
    says how far the download of past minutes is.
    """

    mode: str
    notice: str = ""
    simulated: bool = False
    source: str = ""
    number: int = 0
    sessions: int = 0
    download: str = ""
    session: Session | None = None
    minute: int = 0
    moment: datetime | None = None
    waiting: datetime | None = None
    state: str | None = None
    equity: Decimal | None = None
    pnl: Decimal | None = None
    loss_limit: Decimal | None = None
    budget: Decimal | None = None
    gross: Decimal | None = None
    most_trades: int = 0
    most_positions: int = 0
    sent: dict[str, int] = attrs.field(factory=dict)
    windows: tuple[tuple[str, Window], ...] = ()
    feed: str = ""
    holdings: tuple[PositionRow, ...] | None = None
    events: list[EventLine] = attrs.field(factory=list)
    denials: Counter[str] = attrs.field(factory=Counter)


def render_frame(frame: LiveFrame, width: int, height: int, *, plain: bool = False) -> list[Text]:
    """The view, `height` lines of at most `width` columns; `plain` uses ASCII only."""
    width = max(width, MIN_WIDTH)
    available = height - 12
    shown_positions = min(len(frame.holdings or ()), max(available // 2, 1))
    top = [_head(frame, width), Text(), *_progress(frame, width), Text(), *_account(frame), Text()]
    top += [*_positions(frame, shown_positions, width), Text()]
    bottom = [_denied(frame), Text(f"{frame.notice}{_HINT}", style=_SOFT)]
    space = max(height - len(top) - len(bottom), 0)
    feed = [_event_text(line) for line in frame.events[-space:]] if space else []
    lines = [*top, *feed, *(Text() for _ in range(space - len(feed))), *bottom][:height]
    for line in lines:
        if plain:
            line.plain = line.plain.translate(_PLAIN)
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return lines


def _head(frame: LiveFrame, width: int) -> Text:
    label = "SIMULATED PRICES" if frame.simulated else frame.source
    left = f" tbot {frame.mode}  {label} "
    right = ""
    if frame.moment is not None:
        right = f"{exchange_time(frame.moment):%Y-%m-%d %a  %H:%M New York}  {frame.moment:%H:%M} UTC "
    blank = " " * max(width - len(left) - len(right), 1)
    text = Text(style="reverse")
    text.append(f" tbot {frame.mode}  ", style="bold")
    text.append(label, style="bold")
    text.append(f" {blank}{right}")
    return text


def _progress(frame: LiveFrame, width: int) -> Iterator[Text]:
    # The session from open to close with its windows, and their names below.
    session = frame.session
    if session is None or frame.waiting is not None:
        yield Text(_wait_words(frame))
        yield Text()
        return
    bar = Text()
    for column in range(width):
        minute = column * session.minutes // width
        done = minute <= frame.minute
        bar.append(_phase(frame.windows, minute), style="bright_cyan" if done else _SOFT)
    at = min(frame.minute * width // session.minutes, width - 1)
    bar.plain = f"{bar.plain[:at]}┃{bar.plain[at + 1 :]}"
    bar.stylize("bold", at, at + 1)
    yield bar
    names = [" "] * (width + 20)
    for name, window in frame.windows:
        start = session.moment(window.start)
        label = f"{name} {exchange_time(start):%H:%M}" if width >= WIDE_WIDTH else name
        first = min(window.start * width // session.minutes, width - len(label))
        names[first : first + len(label)] = label
    yield Text("".join(names).rstrip(), style=_SOFT)


def _phase(windows: Sequence[tuple[str, Window]], minute: int) -> str:
    for _, window in windows:
        if window.start <= minute < window.entry:
            return "░"
        if window.entry <= minute < window.entry_end:
            return "█"
        if window.entry_end <= minute < window.leave:
            return "▒"
    return "·"


def _wait_words(frame: LiveFrame) -> str:
    if frame.waiting is None or frame.moment is None or frame.waiting < frame.moment:
        return f"Preparing the session{frame.download and ': '}{frame.download}."
    rest = frame.waiting - frame.moment
    hours, minutes = divmod(int(rest.total_seconds()) // 60, 60)
    local = exchange_time(frame.waiting)
    when = f"{local:%Y-%m-%d %H:%M} New York ({frame.waiting:%H:%M} UTC)"
    return f"Waiting for the bell: {when}, in {hours} h {minutes:02} min."


def _account(frame: LiveFrame) -> Iterator[Text]:
    pnl, most, holdings = frame.pnl, frame.loss_limit, frame.holdings
    used = "" if pnl is None or not most else f" ({format_percent(max(-pnl, Decimal(0)) / most, 0)} used)"
    yield _line(
        ("Equity ", _SOFT),
        (_amount(frame.equity), "bold"),
        ("   P&L ", _SOFT),
        (_UNKNOWN, "") if pnl is None else _signed(pnl),
        ("   loss limit ", _SOFT),
        (f"{_amount(most)}{used}", ""),
        ("   state ", _SOFT),
        (frame.state or _UNKNOWN, "" if frame.state in {None, "normal"} else "bold reverse"),
    )
    counts = "  ".join(f"{name} {frame.sent.get(name, 0)}/{frame.most_trades}" for name, _ in frame.windows)
    yield _line(
        ("Trades ", _SOFT),
        (counts or _UNKNOWN, ""),
        ("   positions ", _SOFT),
        (f"{len(holdings)}/{frame.most_positions}" if frame.most_positions and holdings is not None else _UNKNOWN, ""),
    )
    of = f" of {frame.sessions}" if frame.sessions else ""
    yield _line(
        ("Session ", _SOFT),
        (f"{frame.number}{of}" if frame.number else _UNKNOWN, ""),
        ("   gross ", _SOFT),
        (_UNKNOWN if frame.gross is None else f"{format_money(frame.gross)} of budget {_amount(frame.budget)}", ""),
        *((("   feed ", _SOFT), (frame.feed, "")) if frame.feed else ()),
    )


def _amount(amount: Decimal | None) -> str:
    return _UNKNOWN if amount is None else format_money(amount)


def _positions(frame: LiveFrame, shown: int, width: int) -> Iterator[Text]:
    heads = f"{'Symbol':7} {'side':5} {'shares':>9} {'entry':>9} {'last':>9} {'stop':>10} {'P&L':>9}  window"
    holdings = frame.holdings or ()
    yield Text(f"{heads} broker" if any(one.broker for one in holdings) else heads, style=_SOFT)
    if not holdings:
        yield Text("positions are not known yet" if frame.holdings is None else "no open position", style=_SOFT)
    for one in holdings[:shown]:
        stop = "cancelling" if one.cancelling else "on close" if one.stop is None else format_price(one.stop)
        prices = f"{format_price(one.entry):>9} {format_price(one.last):>9} {stop:>10} "
        pnl, style = _signed(one.pnl)
        parts = (f"{one.symbol:7} {one.side:5} {format_quantity(one.shares):>9} {prices}", ""), (f"{pnl:>9}", style)
        yield _line(*parts, (f"  {one.strategy:6} {one.broker}".rstrip(), ""))
    if len(holdings) > shown:
        yield Text(f"and {len(holdings) - shown} more"[:width], style=_SOFT)


def _event_text(line: EventLine) -> Text:
    when = (f"{exchange_time(line.time):%H:%M}  " if line.time is not None else " " * 7, _SOFT)
    if line.gain is None:
        return _line(when, (line.text, _WEIGHTS[line.weight]))
    before, amount, after = line.text.partition(_signed(line.gain)[0])
    return _line(when, (before, ""), (amount, _signed(line.gain)[1]), (after, ""))


def _denied(frame: LiveFrame) -> Text:
    counts = ", ".join(f"{name} {count}" for name, count in frame.denials.most_common())
    return _line((f"Denied ({DENIALS_COUNT}) ", _SOFT), (counts or "none", ""))


def _signed(amount: Decimal) -> Styled:
    return format_money(amount, signed=True), _LOSS if amount < 0 else _GAIN if amount > 0 else ""


def _line(*parts: Styled) -> Text:
    return Text.assemble(*parts)
