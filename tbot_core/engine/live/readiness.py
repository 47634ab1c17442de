"""Reports READY once, and until then every ten minutes NOT READY with the reasons.

Before the open a lasting objection withdraws READY. It is reported again after a time without objections, which grows
with each withdrawal.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import LiveSession
from tbot_core.engine.session.vix import known_vix
from tbot_core.journal import records
from tbot_core.journal.events.risk import Armed
from tbot_core.journal.events.sessions import DeniedShorts, NotReady, Ready, ShortDenials, UniverseCounts, UnknownVix
from tbot_core.journal.projections.approvals import armed_of
from tbot_core.journal.projections.earlier_sessions import SHORT_TYPES, short_denials
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.model.types import RiskState, dollars_of
from tbot_core.trading.risk.states import KINDS, StateCause

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tbot_core.engine.live.feed_connection import FeedConnection
    from tbot_core.engine.live.market_session import LiveTradingSession
    from tbot_core.engine.live.session_inputs import DailyServices
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.feed_session import SessionFeed
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.model.calendar import Session
    from tbot_core.trading.universe import Universe

AGAIN: Final = timedelta(minutes=10)
"""How often a session that is not ready is reported, until it is."""

LASTS: Final = timedelta(seconds=30)
"""How long a ready session must have an objection before it is reported, and how long the first reading of the account
and of instruments may take.
"""

HOLDS: Final = (timedelta(0), LASTS, AGAIN)
"""How long there must be no objection before READY: at first, after one withdrawal, and after more."""

LOOK_S: Final = 1.0
_SHORT_SALES: Final = "ShortSell"


def ready_facts(market: LiveTradingSession, feed: SessionFeed, config: LiveConfig, services: DailyServices) -> Ready:
    """The event READY for a session with this feed."""
    engine = market.run.decision_engine
    armed = market.run.execution.recorder.journal.last_event(records.ARMED) if market.live else None
    cap, counts = engine.limits.first_live_day, feed.universe.counts
    quality = feed.source.quality if isinstance(feed.source, LiveSession) else None
    return Ready(
        session=market.run.session.date,
        mode=services.mode,
        armed=None if armed is None else armed_of(armed.facts(Armed)).sessions[-1],
        equity=dollars_of(engine.portfolio.equity_atoms),
        feed=config.feed,
        feed_quality=None if quality is None else quality.words,
        request_limit=config.request_limit,
        windows=tuple(entrant.name for entrant in market.run.entrants),
        worst_day=services.worst_day,
        first_live_day_cap=dollars_of(cap) if cap else None,
        universe=None if counts is None else UniverseCounts(**attrs.asdict(counts)),
        facts=(*(known.text for known in feed.universe.facts), *feed.universe.lacking),
        series=tuple(feed.universe.series),
        positions=tuple(market.run.books.positions),
        stuck=tuple(sorted(market.stuck_symbols)),
        shorts_denied=_shorts_denied(market),
        not_shortable=_not_shortable(market, feed.universe),
        **_vix(market, feed.universe, config, services),
    )


def _vix(market: LiveTradingSession, universe: Universe, config: LiveConfig, services: DailyServices) -> dict[str, Any]:
    # The VIX; of an unknown one the day, and the strategies that will not enter.
    if config.vix is not None:
        return {"vix_live": True}
    found: dict[str, Any] = {"vix": known_vix(market.run.day)}
    if universe.vix is not None:
        found |= {"vix_day": universe.vix.day, "vix_source": universe.vix.source}
    if universe.without_vix:
        day = look_back_sessions(services.calendar, market.run.session.date)[-1].date
        found["vix_unknown"] = UnknownVix(day=day, strategies=tuple(universe.without_vix))
    return found


def _shorts_denied(market: LiveTradingSession) -> ShortDenials | None:
    # The short signals that will be denied because their SHORT_TYPE is not available.
    types = {entrant.name: entrant.frame.short_type for entrant in market.run.entrants}
    denied = [(name, word) for name, word in types.items() if word in SHORT_TYPES.values()]
    if not denied:
        return None
    past = short_denials(market.run.execution.recorder.journal, market.run.session.date)
    rows = (DeniedShorts(strategy=name, short_type=word, denied=past.denied(name, word)) for name, word in denied)
    return ShortDenials(sessions=len(past.sessions), strategies=tuple(rows))


def _not_shortable(market: LiveTradingSession, universe: Universe) -> dict[str, tuple[str, ...]]:
    # The symbols that cannot be sold short, by reason.
    reasons: dict[str, tuple[str, ...]] = {}
    if any(entrant.frame.short_type == _SHORT_SALES for entrant in market.run.entrants):
        for symbol in sorted({*universe.symbols} - universe.watch_only):
            if (reason := market.run.decision_engine.short_denial(symbol)) is not None:
                reasons[reason.name] = (*reasons.get(reason.name, ()), symbol)
    return reasons


class ReadinessAnnouncer:
    """The READY and NOT READY reports of a run's sessions."""

    def __init__(self, recorder: JournalRecorder) -> None:
        self._recorder = recorder
        self._reported_at: datetime | None = None

    def announce_not_ready(self, session: Session, reasons: list[str]) -> None:
        """Report that a session is not ready: at once, then at most every ten minutes."""
        now = self._recorder.clock.now()
        if self._reported_at is None or now - self._reported_at >= AGAIN:
            self._reported_at = now
            self._recorder.record(NotReady(session=session.date, reasons=tuple(reasons)))

    async def announce_ready(
        self, market: LiveTradingSession, connection: FeedConnection | None, ready_facts: Callable[[], Ready]
    ) -> None:
        """Watch a session until it is ready and has opened; `ready_facts` makes the event."""
        clock, session = self._recorder.clock, market.run.session
        reading_until, ready, withdrawals = clock.now() + LASTS, False, 0
        blocked, clear = _Duration(), _Duration()
        while not (ready and clock.now() >= session.open):
            await clock.sleep(LOOK_S)  # by then the account is being read
            now = clock.now()
            reasons = _reasons(market, connection, reading=now <= reading_until)
            connected = connection is None or connection.is_connected
            known = market.reconciler.instruments.are_known or now > reading_until  # READY says what cannot be shorted
            clear.update(now, on=connected and known and not (reasons or _blocking_causes(market)))
            blocked.update(now, on=ready and bool(reasons))
            if not ready and clear.lasts(now, HOLDS[min(withdrawals, len(HOLDS) - 1)]):
                ready = True
                self._recorder.record(ready_facts())
            elif blocked.lasts(now, LASTS):
                ready, withdrawals = False, withdrawals + 1
                self._reported_at = None  # withdraw READY at once
            if not ready and reasons:
                self.announce_not_ready(session, reasons)


class _Duration:
    # How long a condition has lasted without a break.
    def __init__(self) -> None:
        self._since: datetime | None = None

    def update(self, now: datetime, *, on: bool) -> None:
        self._since = (self._since or now) if on else None

    def lasts(self, now: datetime, span: timedelta) -> bool:
        return self._since is not None and now - self._since >= span


def _blocking_causes(market: LiveTradingSession) -> list[StateCause]:
    # The causes that block entries.
    return [cause for cause in market.trading_state.causes if KINDS[cause].state >= RiskState.EXIT_ONLY]


def _reasons(market: LiveTradingSession, connection: FeedConnection | None, *, reading: bool) -> list[str]:
    # The blocking causes as text, with that of the feed's connection.
    texts = [
        _cause_text(market, cause)
        for cause in _blocking_causes(market)
        if not (reading and cause is StateCause.UNRECONCILED)
    ]
    return [
        *texts,
        *([connection.disconnect_reason] if connection is not None and connection.disconnect_reason else []),
    ]


def _cause_text(market: LiveTradingSession, cause: StateCause) -> str:
    # Abandoned positions are listed with their quantities.
    more = market.abandoned_positions.description if cause is StateCause.LEFT_BEHIND else ""
    return f"{cause.value}: {more}" if more else cause.value
