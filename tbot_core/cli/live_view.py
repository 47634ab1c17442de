"""The live view on a terminal: follows the events of a run, and draws its frame at most ten times per second."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import attrs
import click
from rich.console import Console, Group
from rich.live import Live as Canvas
from rich.text import Text

from tbot_core.cli.run_text import banner
from tbot_core.cli.tables import wrap_sentence
from tbot_core.engine.run_plan import RunWatcher
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.model.calendar import Session
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import DENIALS_COUNT, MINUS, format_money, format_percent, format_price, format_quantity
from tbot_core.model.types import RiskState, dollars_of, price_of, quantity_of
from tbot_core.model.window import Window
from tbot_core.status.event_lines import EventLine, EventNarrator
from tbot_core.system import log
from tbot_core.system.isolated_calls import IsolatedCalls
from tbot_core.trading.risk.exposure import held_atoms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from tbot_core.cli.run_options import RunOptions
    from tbot_core.contracts import Feed
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import NewEvent
    from tbot_core.marketdata.history import DownloadProgress
    from tbot_core.model.clock import Clock

_REDRAW_S: Final = 0.1
_MOST_EVENTS: Final = 200
_NAME: Final = "live view"
_Styled: TypeAlias = "tuple[str, str]"
_MIN_WIDTH: Final = 40
_WIDE_WIDTH: Final = 72
_GAIN, _LOSS, _SOFT = "bright_cyan", "bright_yellow", "dim"
_WEIGHTS: Final = {"session": "bold", "entry": "", "risk": "bold reverse", "denial": _SOFT, "window": _SOFT}
_UNKNOWN: Final = "\N{EN DASH}"
_PLAIN: Final = str.maketrans(f"·░█▒┃{MINUS}{_UNKNOWN}\N{NO-BREAK SPACE}", ".-#=|-- ")
_HINT: Final = "Ctrl-C shuts down cleanly; the same command resumes."


class LiveView:
    """A full screen during the run. At the end the terminal is restored, and the summary is printed below."""

    watched = True

    def __init__(self, options: RunOptions, clock: Clock, console: Console | None = None) -> None:
        self._options = options
        self._clock = clock
        self._console = console or Console()
        self._plain = not self._console.encoding.lower().startswith("utf")
        self._narrator = EventNarrator()
        self._canvas = Canvas(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._drawn = self._polled = -_REDRAW_S
        self._banner: list[str] = []
        self._interrupted = ""
        self._isolated = IsolatedCalls(clock.monotonic)
        self.frame = LiveFrame(mode=options.badge, notice="No order is sent. " if options.dry else "")

    @property
    def watcher(self) -> RunWatcher:
        """Receives the events."""
        return RunWatcher(
            on_resumed=self._resumed,
            on_started=self._started,
            on_minute=self._minute,
            on_events=self._on_events,
            on_idle=self._idle,
            on_round=self._between_minutes,
            on_download=self._download,
            on_disabled=self._close,
        )

    def __enter__(self) -> Self:
        """Switch to the full screen."""
        self._isolated.call(_NAME, self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""
        self._isolated.call(_NAME, self._canvas.stop)
        log.close()

    def _open(self) -> None:
        self._canvas.start()
        self._draw(force=True)  # the first frame shows how to stop the run

    def _close(self, words: str) -> None:
        # The view has failed: restore the terminal, so that no old frame looks like the present.
        self._canvas.stop()
        click.echo(f"tbot: {words}", err=True)

    def end(self, outcome: RunOutcome) -> None:
        """Print the summary of the run, with the source of the prices."""
        from tbot_core.cli.run_text import finished_lines, stopped_lines

        width = self._console.width
        banner_lines = [part for line in self._banner for part in wrap_sentence(line, width)]
        for line in (
            *banner_lines,
            *(stopped_lines if outcome.stopped else finished_lines)(outcome, self._options, width),
        ):
            click.echo(line)

    def _resumed(self, run: str, day: str) -> None:
        self._interrupted = f"the session of {day} (run {run})"

    def _started(self, feed: Feed, book: SessionBook) -> None:
        self._banner = banner(self._options.title, feed.label, book.sessions, self._interrupted)
        if self._interrupted:
            moment = None if self._options.mode in SIMULATED_MODES else self._clock.now()
            self.frame.events.append(EventLine(time=moment, text=self._banner[-1], weight="session"))
        self.frame.simulated, self.frame.source = feed.label.simulated, feed.label.name
        self.frame.equity = book.equity if book.sessions else None
        self._narrator.continue_from(book)  # events that were recorded before are not shown again
        self.frame.number, self.frame.sessions = book.sessions + 1, self._planned
        self._draw(force=True)

    def _on_events(self, entries: Sequence[NewEvent]) -> None:
        frame = self.frame
        frame.events = [*frame.events, *self._narrator.lines_for(entries)][-_MOST_EVENTS:]
        frame.denials = self._narrator.book.denials

    def _minute(self, run: TradingSession, minute: int) -> None:
        self._set_place(run, minute)
        self.frame.waiting, self.frame.moment = None, run.session.moment(minute + 1)
        if self._due or minute + 1 == run.session.minutes:
            self._set_figures(run)
            self._draw(force=True)

    def _download(self, progress: DownloadProgress) -> None:
        done = f"{progress.done:,} of {progress.total:,}"
        self.frame.download = f"one-minute bars, {done} downloads, one for each symbol and past session"
        self._draw(force=True)

    def _between_minutes(self, run: TradingSession) -> None:
        # Between two minutes, and before the first one: shows requests and fills of the meantime.
        if self._clock.monotonic() - self._polled < _REDRAW_S:
            return
        self._polled = self._clock.monotonic()
        self._set_place(run, max(run.tape.closed - 1, 0))
        self.frame.moment = self._clock.now()
        self.frame.waiting = run.session.open if self.frame.moment < run.session.open else None
        self._set_figures(run)
        self._draw()

    def _set_place(self, run: TradingSession, minute: int) -> None:
        frame = self.frame
        frame.number += frame.session not in {None, run.session}
        frame.session, frame.minute = run.session, minute
        windows = ((entrant.name, entrant.window) for entrant in run.entrants)
        frame.windows = tuple((name, window) for name, window in windows if window.start >= 0)

    def _idle(self, moment: datetime) -> None:
        # In a session the clock is shown; before one also the time until it opens.
        self.frame.moment = self._clock.now()
        self.frame.waiting = None if self._narrator.book.in_session else moment
        self._draw()

    def _set_figures(self, run: TradingSession) -> None:
        # The figures of positions and limits, computed only when they are drawn.
        frame, engine, book, several = (
            self.frame,
            run.decision_engine,
            self._narrator.book,
            len(run.broker_sessions) > 1,
        )
        frame.state, frame.sent = engine.exposure.current_state.word, dict(engine.exposure.sent)
        portfolio, limits = engine.portfolio, engine.limits
        frame.equity, frame.pnl = dollars_of(portfolio.equity_atoms), dollars_of(engine.exposure.pnl_atoms)
        frame.loss_limit, frame.budget = dollars_of(limits.daily_loss), dollars_of(limits.budget)
        frame.gross = dollars_of(held_atoms(engine.exposure))
        frame.feed = "" if run.outlook is None else run.outlook.description
        frame.most_trades, frame.most_positions = limits.max_trades, limits.max_positions
        frame.holdings = tuple(
            PositionRow(
                strategy=position.signal.strategy,
                symbol=position.symbol,
                side=position.side.word,
                shares=quantity_of(position.units),
                entry=price_of(round(position.entry_atoms / position.instrument.atoms(position.entry_units, 1))),
                last=price_of(position.mark),
                stop=book.resting(position.symbol, position.signal),
                pnl=dollars_of(position.pnl_atoms),
                broker=broker_session.name if several else "",
                cancelling=book.is_stop_cancelling(position.symbol, position.signal),
            )
            for broker_session in run.broker_sessions
            for position in broker_session.decision_engine.portfolio.by_symbol
        )
        if engine.exposure.daily_loss and engine.exposure.current_state < RiskState.EXIT_ONLY:
            frame.state = RiskState.EXIT_ONLY.word  # no entries after the latch; exits continue

    @property
    def _planned(self) -> int:
        # The number of sessions of the run; 0 if it is not known.
        return self._options.sessions if self._options.mode == "demo" and not self._options.once else 0

    @property
    def _due(self) -> bool:
        return self._clock.monotonic() - self._drawn >= _REDRAW_S

    def _draw(self, *, force: bool = False) -> None:
        if force or self._due:
            self._drawn = self._clock.monotonic()
            width, height = self._console.size
            self._canvas.update(Group(*render_frame(self.frame, width, height, plain=self._plain)), refresh=True)


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
    width = max(width, _MIN_WIDTH)
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
        label = f"{name} {exchange_time(start):%H:%M}" if width >= _WIDE_WIDTH else name
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
    yield Text(f"{heads} broker" if any(holding.broker for holding in holdings) else heads, style=_SOFT)
    if not holdings:
        yield Text("positions are not known yet" if frame.holdings is None else "no open position", style=_SOFT)
    for holding in holdings[:shown]:
        stop = (
            "cancelling" if holding.cancelling else "on close" if holding.stop is None else format_price(holding.stop)
        )
        prices = f"{format_price(holding.entry):>9} {format_price(holding.last):>9} {stop:>10} "
        pnl, style = _signed(holding.pnl)
        parts = (
            (f"{holding.symbol:7} {holding.side:5} {format_quantity(holding.shares):>9} {prices}", ""),
            (f"{pnl:>9}", style),
        )
        yield _line(*parts, (f"  {holding.strategy:6} {holding.broker}".rstrip(), ""))
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


def _signed(amount: Decimal) -> _Styled:
    return format_money(amount, signed=True), _LOSS if amount < 0 else _GAIN if amount > 0 else ""


def _line(*parts: _Styled) -> Text:
    return Text.assemble(*parts)
