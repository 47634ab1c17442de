"""The figures of the current session: from its journal, and from the gauges that the running bot writes.

The journal is read again and again: each reading takes the events that came since the last one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import JournalError, TbotError
from tbot_core.instance.journal_chain import chain_key
from tbot_core.journal import gauges, records
from tbot_core.journal.events.feeds import VixRead
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.events.sessions import Ready, Screened
from tbot_core.journal.projection import JournalEvent, project
from tbot_core.journal.projections.approvals import ArmingState, PendingConfirmations
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.carryover import LASTING, ExternalHoldings
from tbot_core.journal.projections.event_text import ready_remarks
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.journal.projections.restarts import Restart
from tbot_core.journal.store import Event, Journal, verify_new_events
from tbot_core.model.formatting import money_text
from tbot_core.model.types import Leg, OrderState, dollars_of, price_of, quantity_of
from tbot_core.reports.trade_levels import OpenTrade, key_of, trade_id
from tbot_core.status.runs import PAPER, RunFile, open_run_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.instance import Instance
    from tbot_core.journal.gauges import Gauges
    from tbot_core.status import Document
    from tbot_core.trading.portfolio import Position
    from tbot_core.trading.risk.limits import Limits

FIGURES: Final = (
    "equity",
    "day_pnl",
    "daily_loss_limit",
    "daily_loss_used",
    "budget",
    "gross",
    "marks_at",
    "first_live_day_cap",
)
_SHOWN: Final = frozenset({*LASTING, records.READY, records.NOT_READY, records.RUN_STARTED, records.FAILOVER})
"""Kinds of which a status shows events of earlier sessions too."""


@attrs.define(kw_only=True)
class SessionActivity:
    """A projection of the current or last session, by strategy: entries sent, candidates, and the live VIX used.

    `remarks` are those of the last READY, `vix_day` and `vix_source` the day and the source of its VIX, None without.
    """

    entries: dict[str, int] = attrs.field(factory=dict)
    candidates: dict[str, int] = attrs.field(factory=dict)
    vix: dict[str, float | None] = attrs.field(factory=dict)
    remarks: list[str] = attrs.field(factory=list)
    vix_day: str | None = None
    vix_source: str | None = None

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        match event.kind:
            case records.SESSION_OPENED:
                self.entries, self.candidates, self.vix = {}, {}, {}
            case records.INTENDED:
                intended = event.facts(OrderIntended)
                if intended.leg is Leg.ENTRY:
                    strategy = intended.signal.strategy
                    self.entries[strategy] = self.entries.get(strategy, 0) + 1
            case records.SCREENED:
                screened = event.facts(Screened)
                self.candidates[screened.strategy] = screened.candidates
            case records.VIX:
                read = event.facts(VixRead)
                self.vix[read.strategy] = read.value
            case records.READY:
                ready = event.facts(Ready)
                self.remarks = ready_remarks(ready)
                self.vix_day = None if ready.vix_day is None else ready.vix_day.isoformat()
                self.vix_source = ready.vix_source
            case records.SESSION_CLOSED:
                self.remarks = []


@attrs.frozen(kw_only=True)
class Projections:
    """What a journal adds up to, as far as a status shows it."""

    book: SessionBook = attrs.field(factory=SessionBook)
    activity: SessionActivity = attrs.field(factory=SessionActivity)
    arming: ArmingState = attrs.field(factory=ArmingState)
    pending: PendingConfirmations = attrs.field(factory=PendingConfirmations)
    holdings: ExternalHoldings = attrs.field(factory=ExternalHoldings)
    health: DataHealth = attrs.field(factory=DataHealth)
    restart: Restart = attrs.field(factory=Restart)


class JournalReader:
    """Reads one journal.

    After a reading `read` holds the projections, `events` those since the opening of the last session with the lasting
    kinds before it, `damage` what is wrong with a journal whose events can still be read. The first reading checks the
    file as well; each later one the chain of the events that are new.
    """

    def __init__(self, file: RunFile) -> None:
        self.file = file
        self.damage: JournalError | None = None
        self._begin()

    def _begin(self) -> None:
        self.read = Projections()
        self._lasting: list[Event] = []
        self._since: list[Event] = []
        self._seq = 0
        self._verified: tuple[int, str] | None = None

    @property
    def events(self) -> list[Event]:
        """The events that a status needs, in their order."""
        return [*self._lasting, *self._since]

    def update(self, instance: Instance) -> None:
        """Take what is new; a damaged journal, and another one under this name, are read from the first event.

        Raises JournalError for a file that cannot be read, and the damage of one whose events are not those that tbot
        wrote.
        """
        with open_run_file(self.file) as journal:
            if journal.head[0] < self._seq or self.damage is not None:
                self._begin()
            self.damage = self._find_damage(journal, instance)
            fresh = list(journal.events(self._seq))
        try:
            project(fresh, *attrs.astuple(self.read, recurse=False))
        except (JournalError, LookupError, TypeError, ValueError, ArithmeticError) as fault:
            self._begin()
            damage = self.damage or self._whole_damage(instance)
            if damage is None:
                raise
            raise damage from fault
        self._keep(fresh)

    def _keep(self, fresh: Iterable[Event]) -> None:
        for event in fresh:
            if event.kind == records.SESSION_OPENED:
                self._lasting += [one for one in self._since if one.kind in _SHOWN]
                self._since = []
            self._since.append(event)
            self._seq = event.seq

    def _find_damage(self, journal: Journal, instance: Instance) -> JournalError | None:
        # What is wrong; None for an intact one. Those of runs have no key.
        try:
            key = chain_key(instance) if self.file.name == PAPER else None
            if self._verified is not None:
                try:
                    self._verified = journal.verify_chain(key, after=self._verified)
                except JournalError:  # another journal may have taken its place: judge the whole
                    self._begin()
                else:
                    return None
            self._verified = journal.verify(key) if self.file.name != PAPER else verify_new_events(journal, key)
        except JournalError as fault:
            return fault
        except TbotError as fault:
            return JournalError(f"The journal cannot be verified: {fault.message}", fault.remedy)
        return None

    def _whole_damage(self, instance: Instance) -> JournalError | None:
        # The damage among the events of before the last start too.
        if self.file.name != PAPER:
            return None
        with open_run_file(self.file) as journal:
            try:
                journal.verify(chain_key(instance))
            except JournalError as fault:
                return fault
            except TbotError as fault:
                return JournalError(f"The journal cannot be verified: {fault.message}", fault.remedy)
        return None


def account_figures(book: SessionBook, limits: Limits, reported: Gauges | None) -> Document:
    """The figures of the account: from the journal at the running bot's marks, against its limits."""
    pnl = dollars_of(book.portfolio.pnl_atoms)
    loss, budget, most = dollars_of(limits.daily_loss), dollars_of(limits.budget), limits.max_trades
    gross = dollars_of(book.portfolio.cost_atoms)
    if reported is not None:
        loss, budget, most = reported.daily_loss_limit, reported.budget, reported.most_trades
        gross = gross if reported.gross is None else reported.gross
    return {
        "equity": money_text(book.equity),
        "day_pnl": money_text(pnl),
        "daily_loss_limit": money_text(loss),
        "daily_loss_used": str(round(max(-pnl, Decimal(0)) / loss, 4)) if loss else None,
        "budget": money_text(budget),
        "gross": money_text(gross),
        "most_trades": most,
        "first_live_day_cap": book.session.get("first_live_day_cap") if book.in_session else None,
        "marks_at": None if reported is None or reported.marked_at is None else reported.marked_at.isoformat(),
    }


def gauge_figures(reported: Gauges | None) -> Document:
    """The figures that only the running bot has: the VIX, its clock offset, brokers and hosts of plugins."""
    return {
        "vix": None if reported is None else reported.vix,
        "clock_ahead_s": None if reported is None else reported.clock_ahead_s,
        "accounts": [] if reported is None else [_account(broker) for broker in reported.brokers],
        "hosts": [] if reported is None else [_host(host) for host in reported.hosts],
    }


def protection(book: SessionBook, position: Position) -> str:
    """The protection of a position by the broker's reports: `resting`, else `cancelling`, `closing`, `asked` or `none`.

    `cancelling`: the cancel of its resting stop was requested, and the broker has not confirmed it.
    """
    of = position.symbol, position.signal
    if book.resting(*of) is not None:
        return "cancelling" if book.is_stop_cancelling(*of) else "resting"
    mine = (order for order in book.orders.values() if (order.order.symbol, order.order.signal) == of)
    working = [order for order in mine if not order.terminal]
    legs = {record.order.leg.value for record in working if record.state is not OrderState.INTENDED}
    return "closing" if "exit" in legs else "asked" if "stop" in legs else "none"


def position_documents(book: SessionBook) -> list[Document]:
    """The open positions by symbol; `id` is that of its trade, `stop` the level that rests at the broker, or ""."""
    return [
        {
            "id": trade_id(key_of(OpenTrade.of(position))),
            "strategy": position.signal.strategy,
            "broker": book.broker(position.signal),
            "symbol": position.symbol,
            "side": position.side.word,
            "quantity": f"{quantity_of(position.units):f}",
            "entry_time": position.entry_time.isoformat(),
            "entry_price": f"{position.entry_price:f}",
            "last": f"{price_of(position.mark):f}",
            "stop": str(book.resting(position.symbol, position.signal) or ""),
            "covered": f"{book.covered(position.symbol, position.signal):f}",
            "protection": protection(book, position),
            "pnl": money_text(dollars_of(position.pnl_atoms)),
        }
        for position in book.portfolio.by_symbol
    ]


def order_documents(book: SessionBook) -> list[Document]:
    """The working orders; `price` is the level of a stop or the limit, None for an order at the market."""
    return [
        {
            "client_order_id": cid,
            "broker": book.broker(record.order.signal),
            "symbol": record.order.symbol,
            "leg": record.order.leg.value,
            "type": record.order.type.value,
            "quantity": f"{record.open_quantity:f}",
            "price": None if (price := book.price(cid)) is None else f"{price:f}",
            "state": record.state.value,
        }
        for cid, record in book.orders.items()
        if not record.terminal and book.in_session
    ]


def _host(one: gauges.HostGauge) -> Document:
    return {
        "host": one.name,
        "requests_left": one.left,
        "requests_per_minute": one.per_minute,
        "paused_s": one.paused_s,
    }


def _account(one: gauges.BrokerGauge) -> Document:
    return {
        "broker": one.name,
        "equity": None if one.equity is None else money_text(one.equity),
        "latency_s": None if one.latency_s is None else round(one.latency_s, 3),
        "requests_spare": one.spare,
        "requests_per_minute": one.per_minute or None,
    }
