"""A session of a run as a whole: what the window of each strategy did, and why there was no trade, or not more."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.events.feeds import UniverseCut, VixRead
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.events.sessions import NearMiss, Screened, SessionOpened, WindowClosed
from tbot_core.journal.projections.book import SessionBook
from tbot_core.model import dates
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import money_text
from tbot_core.model.reasons import Reason
from tbot_core.model.window import Window
from tbot_core.reports.advice import DenialAdvice
from tbot_core.status import runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tbot_core.journal.store import Event
    from tbot_core.status import Document

_MINUTE: Final = dt.timedelta(minutes=1)


def day_decisions(home: Path | None, *, date: str | None = None, run: str | None = None) -> Document:
    """What the strategies did in one session of a run, from its journal; the newest session without `date`.

    `windows`: of each strategy its times, candidates, triggers, near misses (None until it has ended), and its denials
    before the bell and at signals with the sentence of each reason. `symbols`: those with a decision, traded ones
    first. `trades` are the closed ones, `held` counts the open positions. `left_out`: the symbols that a limit left
    out, by reason. `advice`: sentences on what changes a day without a trade. Raises UsageError for a session that the
    run does not have, JournalError without a run, and DataError without a session.
    """
    file = runs.run_file(Instance.at(home), run)
    with runs.open_run_file(file) as journal:
        opened = runs.opened_sessions(journal)
        day = max(opened) if date is None else dates.parse_day(date).isoformat()
        if day not in opened:
            words = runs.recorded_sessions_text(sorted(opened), dt.date.fromisoformat(day))
            raise UsageError(f"The run has no session on {day}.", words)
        decided = _Day(session=opened[day])
        for event in journal.events():
            if decided.is_over(event):
                break
            decided.apply(event)
    return {
        "run": file.name,
        **{name: decided.book.run.get(name) for name in ("mode", "source", "simulated")},
        "sessions": sorted(opened),
        **decided.document(),
    }


@attrs.define(kw_only=True)
class _Window:
    # What one strategy did.
    window: Window
    candidates: int = 0
    before_bell: Mapping[str, int] = attrs.field(factory=dict)
    ended: WindowClosed | None = None
    vix: float | None = None
    denials: Counter[str] = attrs.field(factory=Counter)
    signals: int = 0


@attrs.define(kw_only=True)
class _Day:
    # The events of the session, and the book of all before.
    session: SessionOpened
    book: SessionBook = attrs.field(factory=SessionBook)
    windows: dict[str, _Window] = attrs.field(factory=dict)
    universe: UniverseCut | None = None
    decided: dict[str, Counter[str]] = attrs.field(factory=dict)
    before: int = 0
    _opened: bool = False

    def is_over(self, event: Event) -> bool:
        return self._opened and event.kind == records.SESSION_OPENED

    def apply(self, event: Event) -> None:
        self.book.apply(event)
        match event.kind:
            case records.UNIVERSE if exchange_time(event.applied).date() == self.session.date:
                self.universe = event.facts(UniverseCut)
            case records.SESSION_OPENED:
                self._open(event.facts(SessionOpened))
            case records.SCREENED:
                screened = event.facts(Screened)
                if (window := self._counted(screened)) is not None:
                    window.before_bell = screened.reasons
            case records.VIX:
                vix = event.facts(VixRead)
                if (window := self._counted(vix)) is not None:
                    window.vix = vix.value
            case records.WINDOW_CLOSED:
                ended = event.facts(WindowClosed)
                if (window := self._counted(ended)) is not None:
                    window.ended = ended
            case records.DECISION:
                self._decide(event.facts(SignalDecided))

    def _open(self, opening: SessionOpened) -> None:
        if opening.date == self.session.date:
            self.session, self._opened, self.before = opening, True, len(self.book.trades)
            self.windows = {name: _Window(window=window) for name, window in opening.windows.items()}

    def _counted(self, facts: Screened | VixRead | WindowClosed) -> _Window | None:
        # The window of the event's strategy with its candidates; None for one that the session does not have.
        window = self.windows.get(facts.strategy)
        if window is not None:
            window.candidates = facts.candidates
        return window

    def _decide(self, decision: SignalDecided) -> None:
        signal, reason = decision.signal, decision.reason
        if signal.session != self.session.date:
            return
        self.decided.setdefault(signal.symbol, Counter())[reason] += 1
        window = self.windows.get(signal.strategy)
        if window is not None:
            window.signals += 1
            if reason != Reason.ALLOWED.name:
                window.denials[reason] += 1

    def document(self) -> Document:
        settings = self.book.run.get("settings", {})
        trades = self.book.trades[self.before :]
        denied = sum((window.denials + Counter(window.before_bell) for window in self.windows.values()), Counter[str]())
        listed = sorted(denied.items(), key=lambda pair: (-pair[1], pair[0]))
        advice = DenialAdvice(strategies=sorted(self.windows), variables=settings or None)
        universe = self.universe
        by_reason = {} if universe is None else {Reason.UNIVERSE_TRUNCATED.name: universe.cut, **universe.denied}
        return {
            "session": self.session.date.isoformat(),
            "open": self.session.open.isoformat(),
            "close": self.session.close.isoformat(),
            "watched": self.session.symbols,
            "in_session": self.book.in_session,
            "trades": len(trades),
            "held": len(self.book.portfolio.positions),
            "pnl": money_text(sum((trade.pnl for trade in trades), Decimal(0))),
            "symbols": self._symbols(),
            "windows": [
                self._window(name, one, settings)
                for name, one in sorted(self.windows.items(), key=lambda pair: pair[1].window.start)
            ],
            "left_out": [
                {**_reason(name, len(cut), (), settings), "symbols": sorted(cut)}
                for name, cut in by_reason.items()
                if cut
            ],
            "advice": [] if trades or self._allowed() else advice.on_no_trade(listed),
        }

    def _allowed(self) -> bool:
        return any(counts[Reason.ALLOWED.name] for counts in self.decided.values())

    def _symbols(self) -> list[Document]:
        trades = self.book.trades[self.before :]
        traded = Counter(trade.instrument.underlying for trade in trades)
        pnl = {
            symbol: sum((trade.pnl for trade in trades if trade.instrument.underlying == symbol), Decimal(0))
            for symbol in traded
        }
        found = [
            {
                "symbol": symbol,
                "trades": traded[symbol],
                "allowed": counts[Reason.ALLOWED.name],
                "denied": counts.total() - counts[Reason.ALLOWED.name],
                "pnl": money_text(pnl[symbol]) if symbol in pnl else None,
            }
            for symbol, counts in {**{one: Counter[str]() for one in traded}, **self.decided}.items()
        ]
        return sorted(found, key=lambda one: (-one["trades"], -one["allowed"], one["symbol"]))

    def _window(self, name: str, one: _Window, settings: Mapping[str, str]) -> Document:
        opened, ended = self.session.open, one.ended
        times = {part: getattr(one.window, part) for part in ("start", "entry", "entry_end", "leave")}
        times["leave"] = min(times["leave"], self.session.minutes)
        return {
            "strategy": name,
            **{part: (opened + minute * _MINUTE).isoformat() for part, minute in times.items()},
            "ended": ended is not None,
            "candidates": one.candidates,
            "vix": one.vix,
            "triggers": one.signals if ended is None else ended.triggers,
            "signals": one.signals,
            "allowed": one.signals - one.denials.total(),
            "before_bell": _reasons(one.before_bell, name, settings),
            "denials": _reasons(one.denials, name, settings),
            "near_misses": None if ended is None else [_near(near, opened) for near in ended.near_misses],
            "bad_prints": [] if ended is None else list(ended.bad_prints),
        }


def _near(near: NearMiss, opened: dt.datetime) -> Document:
    return {**near.values, "time": (opened + (near.minute + 1) * _MINUTE).isoformat()}


def _reasons(counts: Mapping[str, int], strategy: str, settings: Mapping[str, str]) -> list[Document]:
    # The most frequent first.
    listed: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [_reason(name, count, (strategy,), settings) for name, count in listed]


def _reason(name: str, count: int, strategies: tuple[str, ...], settings: Mapping[str, str]) -> Document:
    # A reason with its own sentence, and the settings that change it.
    reason = Reason[name]
    return {
        "reason": name,
        "count": count,
        "sentence": reason.sentence_for(strategies),
        "settings": list(reason.variables_for(strategies, settings or None)) if strategies else [],
        "final": reason.remedy.final,
    }
