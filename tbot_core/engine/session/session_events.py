"""The events that are recorded when a session opens and closes, and the opening equity.

An equity that neither the previous close nor payments explain is recorded, and blocks entries.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.accounts import AccountMoved, CashShareLeft
from tbot_core.journal.events.sessions import CarriedPosition, Screened, SessionClosed, SessionOpened, TradedAccount
from tbot_core.journal.projections import carryover
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of
from tbot_core.trading.positions import rebalance_rules
from tbot_core.trading.risk.account import equity_jumped
from tbot_core.trading.verdicts import Verdicts, denial_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tbot_core.engine.session.broker_session import BrokerSession, SessionBooks
    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.journal.store import Journal, JournalRecorder
    from tbot_core.model.bars import Bars
    from tbot_core.trading.portfolio import Portfolio
    from tbot_core.trading.proposals import ActiveStrategy, TradingRules


class CashShareNotice:
    """Records that the cash share of equity at the primary broker left its target, once until it is back."""

    def __init__(self, rules: TradingRules, strategies: int, portfolio: Portfolio) -> None:
        self._rules = rules
        self._strategies = strategies
        self._portfolio = portfolio
        self._off_target = False

    def check(self, minute: int, recorder: JournalRecorder) -> None:
        """Check it at the end of a minute, each REBALANCE_CHECK_INTERVAL."""
        policy, allocation = self._rules.rebalance, self._rules.risk.total_allocation
        if not (policy.enable_rebalance_notifier and rebalance_rules.interval_elapsed(policy, minute)):
            return
        found = rebalance_rules.cash_share(self._portfolio, allocation, self._strategies)
        before, self._off_target = self._off_target, found.exceeds_trigger(policy)
        if self._off_target and not before:
            recorder.record(CashShareLeft(share=found.share, target=found.target))


def session_opened(books: SessionBooks, entrants: Sequence[ActiveStrategy]) -> SessionOpened:
    """The event of a session's open."""
    session, broker_sessions = books.session, books.broker_sessions
    primary = broker_sessions[0]
    venue, exposure = primary.execution.venue, primary.decision_engine.exposure
    power_limit, first_day = exposure.funds.power_limit_atoms, primary.decision_engine.limits.first_live_day
    return SessionOpened(
        date=session.date,
        primary=venue.name,
        account=venue.account_id,
        open=session.open,
        close=session.close,
        minutes=session.minutes,
        symbols=len(books.symbols),
        equity=dollars_of(primary.decision_engine.portfolio.opening_atoms),
        buying_power=None if power_limit is None else dollars_of(power_limit),
        state=exposure.current_state.word,
        windows={entrant.name: entrant.window for entrant in entrants},
        first_live_day_cap=dollars_of(first_day) if first_day else None,
        carried=tuple(_carried(broker_sessions)),
        accounts=_accounts(broker_sessions) if broker_sessions[1:] else {},
    )


def session_closed(books: SessionBooks, unclosed: Iterable[str], without_bars: Mapping[str, int]) -> SessionClosed:
    """The event of a session's close; `unclosed` are the symbols still held."""
    primary = books.broker_sessions[0]
    portfolio = primary.decision_engine.portfolio
    return SessionClosed(
        date=books.session.date,
        equity=dollars_of(portfolio.equity_atoms),
        cash=dollars_of(portfolio.cash_atoms),
        pnl=dollars_of(primary.decision_engine.exposure.pnl_atoms),
        trades=sum(len(broker_session.decision_engine.portfolio.closed) for broker_session in books.broker_sessions),
        open=tuple(sorted(set(unclosed))),
        account=primary.execution.venue.account_id,
        without_bars=without_bars,
    )


def screened(strategy: str, verdicts: Verdicts) -> Screened:
    """The event of a screening: how many symbols a strategy may enter, and how many each reason denied."""
    reasons = verdicts.reasons
    candidates = int((reasons == Reason.ALLOWED).sum())
    return Screened(strategy=strategy, candidates=candidates, reasons=denial_counts(reasons))


def denials_without_bars(screened: Iterable[Verdicts], bars: Bars) -> dict[str, int]:
    """The denials, by reason, of symbols that had no bar in the session, which do not count.

    Empty without such denials, and if no symbol had a bar.
    """
    absent = ~bars.traded
    counts: Counter[str] = Counter()
    if not absent.all():
        for verdicts in screened:
            counts.update(denial_counts(verdicts.reasons[absent]))
    return dict(counts)


def _accounts(broker_sessions: Sequence[BrokerSession]) -> dict[str, TradedAccount]:
    # The accounts that the session trades, with their opening equity.
    return {
        broker_session.name: TradedAccount(
            account=broker_session.account_id,
            equity=dollars_of(broker_session.decision_engine.portfolio.opening_atoms),
        )
        for broker_session in broker_sessions
    }


def _carried(broker_sessions: Sequence[BrokerSession]) -> Iterator[CarriedPosition]:
    # Positions held at the open: the previous session could not close them.
    for broker_session in broker_sessions:
        for position in broker_session.decision_engine.portfolio.positions.values():
            fill = fill_facts(carryover.carried_entry(position))
            held = position.instrument.recorded
            yield CarriedPosition(signal=position.signal, instrument=held, broker=broker_session.journal_tag, **fill)


def _expected_opening_equity(journal: Journal, venue: BrokerAccount, opens: datetime) -> tuple[Decimal, Decimal] | None:
    # An account's equity at the last close and the net payments since; None if that close was of another account.
    closed = journal.last_event(records.SESSION_CLOSED)
    if closed is None or closed.facts(SessionClosed).account != venue.account_id:
        return None
    paid = (
        moved.cash
        for event in journal.events(closed.seq, kind=records.ACTIVITY)
        if event.source is not None and event.source[:2] == (venue.name, venue.account_id)
        if (moved := event.facts(AccountMoved)).time <= opens
    )
    return closed.facts(SessionClosed).equity, sum(paid, Decimal(0))


def check_opening_equity(books: SessionBooks, journal: Journal, venue: BrokerAccount) -> None:
    """Compare the opening equity with the last close; a jump that no payment explains is recorded, and blocks entries.

    The first believed reading books the payments since then. The close of another account, such as paper trading, is
    not compared.
    """
    exposure, opening = books.decision_engine.exposure, dollars_of(books.decision_engine.portfolio.opening_atoms)
    before = _expected_opening_equity(journal, venue, books.session.open)
    if before is not None and not exposure.equity_jump and equity_jumped(opening, *before):
        exposure.record_equity_jump(opening, sum(before, Decimal(0)))
