"""The ledger: the journal's events as double entry of money and shares, whose postings sum to zero, with tax lots.

Booked are fills, busts and corrections, payments, and external orders. Arithmetic is exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Final, cast

import attrs

from tbot_core.contracts import AccountActivityKind, BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.events.accounts import AccountMoved, Adjustment, CashStated, ForeignOrder, SplitBooked
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.events.sessions import RunStarted, SessionOpened
from tbot_core.journal.projection import JournalEvent, fold
from tbot_core.trading.orders import SUPPOSED_PREFIX

if TYPE_CHECKING:
    from tbot_core.model.types import Fill

_TRANSFERS: Final = "transfers"

_FEES: Final = "fees"

_DIVIDENDS: Final = "dividends"

_INTEREST: Final = "interest"

_PAID: Final[Mapping[str, str]] = {
    AccountActivityKind.DIVIDEND: _DIVIDENDS,
    AccountActivityKind.FEE: _FEES,
    AccountActivityKind.INTEREST: _INTEREST,
    AccountActivityKind.TRANSFER: _TRANSFERS,
}

_ZERO: Final = Decimal(0)

CASH: Final = "cash"

_REALISED: Final = "realised"

EXTERNAL: Final = "external"

ADJUSTMENTS: Final = "adjustments"

_OPENING: Final = "opening"

_SECURITIES: Final = "securities:"

_ATOM: Final = Decimal("1e-10")

_UNIT: Final = Decimal("1e-6")


@attrs.define(kw_only=True)
class _Symbol:
    # One symbol's movements at a broker, oldest first, the open lots, and the money moved.
    lots: SymbolLots
    symbol: str
    broker: str
    multiplier: int
    steps: list[LotMovement | ShareSplit] = attrs.field(factory=list)
    paid: Decimal = _ZERO
    owed: Decimal = _ZERO
    fees: Decimal = _ZERO

    def amounts(self) -> dict[str, Decimal]:
        """What this symbol has contributed to each account."""
        return {
            cash(self.broker): -self.paid - self.fees,
            EXTERNAL: -self.owed,
            _FEES: self.fees,
            _securities(self.symbol, self.broker): self.lots.cost,
            _REALISED: -self.lots.gain,
        }

    def add(self, movement: LotMovement) -> None:
        """Apply one more movement."""
        self.steps.append(movement)
        self.lots.apply(movement)
        self._count(movement, 1)

    def split(self, split: ShareSplit) -> None:
        """Apply a split; no money moves."""
        self.steps.append(split)
        self.lots.split(split)

    def movement(self, at: int) -> LotMovement:
        """Return the movement at a position in `steps`."""
        return cast("LotMovement", self.steps[at])  # only positions of executions are stored

    def amend(self, at: int, movement: LotMovement) -> None:
        """Replace a movement, and compute the lots again."""
        self._count(self.movement(at), -1)
        self._count(movement, 1)
        self.steps[at] = movement
        self.lots = lots_of(self.steps, self.lots.pick)

    def _count(self, movement: LotMovement, sign: int) -> None:
        worth = movement.worth(sign * movement.quantity)
        if movement.outside:
            self.owed += worth
        else:
            self.paid += worth
            self.fees += sign * movement.fees


def _oldest_lot(_lots: Sequence[Lot]) -> int:
    # The oldest lot first (FIFO).
    return 0


@attrs.define(kw_only=True)
class Ledger:
    """All transactions of a journal, and the open lots; `apply` adds one event.

    `pick` is LOT_METHOD: which lot a trade closes first. Orders that are not tbot's change only `external`. `stated`
    is when a broker last reported its cash. Each broker has its own cash and lots.
    """

    pick: _LotPicker = _oldest_lot
    stated: datetime | None = None
    transactions: list[Transaction] = attrs.field(factory=list)
    _symbols: dict[tuple[str, str], _Symbol] = attrs.field(factory=dict)
    _orders: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    _multipliers: dict[str, int] = attrs.field(factory=dict)
    _places: dict[tuple[str, str], tuple[tuple[str, str], int]] = attrs.field(factory=dict)
    _supposed: dict[str, list[str]] = attrs.field(factory=dict)
    _external_paid: dict[str, Decimal] = attrs.field(factory=dict)
    _cash: dict[str, Decimal] = attrs.field(factory=dict)
    _statements: set[str] = attrs.field(factory=set)
    _at: str = ""
    _tag: str = ""

    @property
    def cash(self) -> Decimal:
        """Cash of all accounts together, dollars."""
        return sum(self._cash.values(), _ZERO)

    @property
    def holdings(self) -> dict[str, Decimal]:
        """Shares held by tbot by symbol, short negative, without zeros."""
        held: dict[str, Decimal] = {}
        for (symbol, _), one in self._symbols.items():
            held[symbol] = held.get(symbol, _ZERO) + one.lots.quantity
        return {symbol: quantity for symbol, quantity in sorted(held.items()) if quantity}

    @property
    def lots(self) -> dict[str, SymbolLots]:
        """Lots by symbol; a symbol at a broker other than the primary is named "SYMBOL at BROKER"."""
        named = (
            (f"{symbol} at {broker}" if broker else symbol, one) for (symbol, broker), one in self._symbols.items()
        )
        return {name: one.lots for name, one in sorted(named, key=itemgetter(0))}

    @property
    def balances(self) -> dict[str, Decimal]:
        """The balance of each account; they sum to zero."""
        return _balances(self.transactions)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event; events that move neither money nor shares change nothing."""
        kind, cid, time = event.kind, event.cid, event.applied
        self._at, self._tag = self._orders.get(cid or "", (event.broker, ""))
        match kind:
            case records.RUN_STARTED | records.SESSION_OPENED:
                self._open(_equity(event), time)
            case records.INTENDED if cid is not None:
                self._intend(cid, event.broker, event.facts(OrderIntended))
            case BrokerEventKind.FILL if cid in self._orders:
                self._fill(cid, event.facts(OrderReported).fill(cid), time)
            case BrokerEventKind.BUSTED | BrokerEventKind.CORRECTED if cid in self._orders:
                self._amend(kind, cid, event.facts(OrderReported).fill(cid), time)
            case records.ADJUSTMENT:
                self._adjust(event.facts(Adjustment).fill, time)
            case records.CORPORATE_ACTION:
                split = event.facts(SplitBooked)
                self._book(split.symbol).split(
                    ShareSplit(key=split.activity_id, before=split.before, after=split.after)
                )
            case records.ACTIVITY:
                self._pay(event.facts(AccountMoved), time)
            case records.FOREIGN_ORDER:
                order = event.facts(ForeignOrder)
                self._external_order(order.broker_order_id, order.paid, time)
            case records.STATEMENT:
                self._state(event.facts(CashStated).cash, time)

    def _open(self, equity: Decimal, time: datetime) -> None:
        # The first event with an equity opens the books; later ones repeat what is booked already.
        if not self.transactions:
            self._record(time, "opening", "", {cash(self._at): equity, _OPENING: -equity})

    def _intend(self, cid: str, broker: str, intended: OrderIntended) -> None:
        self._orders[cid] = broker, intended.tag
        if (instrument := intended.instrument) is not None:
            self._multipliers[instrument.symbol] = instrument.multiplier

    def _fill(self, cid: str, fill: Fill | None, time: datetime) -> None:
        # Book an execution once. A reported execution replaces supposed ones, at its own price.
        if fill is None or (cid, fill.execution_id) in self._places:
            return
        book = self._book(fill.symbol)
        before = book.amounts()
        if fill.execution_id.startswith(SUPPOSED_PREFIX):
            self._supposed.setdefault(cid, []).append(fill.execution_id)
        else:
            self._replace_supposed(book, cid, fill.quantity)
        self._places[cid, fill.execution_id] = (fill.symbol, self._at), len(book.steps)
        book.add(_movement(fill, book.multiplier))
        self._settle(book, before, time, BrokerEventKind.FILL, fill.execution_id)

    def _replace_supposed(self, book: _Symbol, cid: str, named: Decimal) -> None:
        for execution_id in self._supposed.get(cid, ()):
            at = self._places[cid, execution_id][1]
            was = book.movement(at)
            if was.quantity and named:
                part = min(abs(was.quantity), named)
                named -= part
                left = was.quantity - part if was.quantity > 0 else was.quantity + part
                book.amend(at, attrs.evolve(was, quantity=left))

    def _amend(self, kind: str, cid: str, fill: Fill | None, time: datetime) -> None:
        # Reverse a busted execution, or one with corrected terms. An unknown execution is booked first in its final
        # form, so that a later report of it changes nothing. A busted one stays busted.
        if fill is None:
            return
        void = attrs.evolve(fill, quantity=_ZERO, fees=_ZERO)
        if (cid, fill.execution_id) not in self._places:
            self._fill(cid, void if kind == BrokerEventKind.BUSTED else fill, time)
            return
        where, at = self._places[cid, fill.execution_id]
        book = self._symbols[where]
        before, was = book.amounts(), book.movement(at)
        movement = _movement(void if kind == BrokerEventKind.BUSTED or not was.quantity else fill, book.multiplier)
        book.amend(at, movement)
        self._settle(book, before, time, kind, fill.execution_id)

    def _adjust(self, fill: Fill, time: datetime) -> None:
        # Shares closed by an external order: their value is owed by `external`. The same execution with another
        # quantity takes shares back.
        book, key = self._book(fill.symbol), (self._at, fill.execution_id)
        before, movement = book.amounts(), attrs.evolve(_movement(fill, book.multiplier), outside=True)
        if key in self._places:
            book.amend(self._places[key][1], movement)
        else:
            self._places[key] = (fill.symbol, self._at), len(book.steps)
            book.add(movement)
        self._settle(book, before, time, records.ADJUSTMENT, fill.execution_id)

    def _pay(self, moved: AccountMoved, time: datetime) -> None:
        # A dividend, fee, interest or transfer; any other activity is an adjustment.
        account = _PAID.get(moved.activity, ADJUSTMENTS)
        self._record(time, moved.activity, moved.activity_id, {cash(self._at): moved.cash, account: -moved.cash})

    def _external_order(self, broker_order_id: str, paid: Decimal, time: datetime) -> None:
        # What an external order has added to cash since its last report.
        grown = paid - self._external_paid.get(broker_order_id, _ZERO)
        self._external_paid[broker_order_id] = paid
        self._record(time, records.FOREIGN_ORDER, broker_order_id, {cash(self._at): grown, EXTERNAL: -grown})

    def _state(self, reported: Decimal, time: datetime) -> None:
        # Cash reported by the broker: the first report opens the books; later differences are unexplained.
        over = reported - self._cash.get(cash(self._at), _ZERO)
        account = ADJUSTMENTS if self._at in self._statements else _OPENING
        self.stated = time
        self._statements.add(self._at)
        self._record(time, records.STATEMENT, "", {cash(self._at): over, account: -over})

    def _book(self, symbol: str) -> _Symbol:
        lots, multiplier = SymbolLots(pick=self.pick), self._multipliers.get(symbol, 1)
        made = _Symbol(lots=lots, symbol=symbol, broker=self._at, multiplier=multiplier)
        return self._symbols.setdefault((symbol, self._at), made)

    def _settle(self, book: _Symbol, before: Mapping[str, Decimal], time: datetime, what: str, reference: str) -> None:
        after = book.amounts()
        self._record(time, what, reference, {account: after[account] - was for account, was in before.items()})

    def _record(self, time: datetime, what: str, reference: str, amounts: Mapping[str, Decimal]) -> None:
        if any(amounts.values()):
            name = cash(self._at)
            self._cash[name] = self._cash.get(name, _ZERO) + amounts.get(name, _ZERO)
            self.transactions.append(_transaction(time, what, reference, amounts, self._tag))


@attrs.frozen
class Posting:
    """A change of one account in dollars; negative is a credit."""

    account: str
    amount: Decimal


@attrs.frozen(kw_only=True)
class Transaction:
    """The postings of one event. `what` is the event's kind, `reference` its id.

    `tag` is the order's tag; FAILOVER_LOG_TAG marks orders sent to a broker other than the primary.
    """

    time: datetime
    what: str
    reference: str
    postings: tuple[Posting, ...]
    tag: str = ""

    def __attrs_post_init__(self) -> None:
        """Raises ValueError when the postings do not sum to zero."""
        over = sum((posting.amount for posting in self.postings), Decimal(0))
        if over:
            raise ValueError(f"{self.what} {self.reference}: the postings add up to {over}, not to zero")


@attrs.frozen(kw_only=True)
class LotMovement:
    """A movement of shares at a price; `quantity` is negative for a sale, `multiplier` that of the instrument.

    `key` is the execution id, `fees` are paid in cash. A movement `outside` did not change the account's cash.
    """

    key: str
    time: datetime
    quantity: Decimal
    price: Decimal
    fees: Decimal = Decimal(0)
    outside: bool = False
    multiplier: int = 1

    def worth(self, quantity: Decimal) -> Decimal:
        """The money of a quantity at its price, in dollars; signed as the quantity is."""
        return quantity * self.multiplier * self.price


@attrs.frozen(kw_only=True)
class ShareSplit:
    """A split: every share becomes `after` / `before` shares; the total cost stays."""

    key: str
    before: int
    after: int


@attrs.frozen(kw_only=True)
class Lot:
    """The open part of one movement; a short lot has negative quantity and cost."""

    key: str
    time: datetime
    quantity: Decimal
    cost: Decimal


@attrs.frozen(kw_only=True)
class ClosedLot:
    """A part of a lot that a later movement closed; for a short, cost and proceeds are negative."""

    opened: str
    closed: str
    since: datetime
    until: datetime
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal

    @property
    def gain(self) -> Decimal:
        """Profit before fees."""
        return self.proceeds - self.cost


@attrs.define(kw_only=True)
class SymbolLots:
    """The lots of one symbol, all of one sign: an opposite movement closes them first.

    `cost` is the cost of the open lots, `gain` the profit of the closed ones, before fees.
    """

    pick: _LotPicker = _oldest_lot
    open: list[Lot] = attrs.field(factory=list)
    closed: list[ClosedLot] = attrs.field(factory=list)
    cost: Decimal = Decimal(0)
    gain: Decimal = Decimal(0)

    @property
    def quantity(self) -> Decimal:
        """Shares held, negative when short."""
        return sum((lot.quantity for lot in self.open), Decimal(0))

    def apply(self, movement: LotMovement) -> None:
        """Close lots of the opposite sign, and open a lot with the rest."""
        left = movement.quantity
        while left and self.open and (self.open[0].quantity < 0) is (left > 0):
            left += self._close(self.pick(self.open), movement, left)
        if left:
            cost = movement.worth(left)
            self.cost += cost
            self.open.append(Lot(key=movement.key, time=movement.time, quantity=left, cost=cost))

    def split(self, split: ShareSplit) -> None:
        """Multiply the quantities; less than a millionth of a share is dropped.

        The total is rounded, not each lot: three lots of ten shares are ten shares after a one-for-three split.
        """
        before = after = Decimal(0)
        for at, lot in enumerate(self.open):
            before, held = before + lot.quantity, after
            after = (before * split.after / split.before).quantize(_UNIT, ROUND_DOWN)
            self.open[at] = attrs.evolve(lot, quantity=after - held)

    def _close(self, at: int, movement: LotMovement, left: Decimal) -> Decimal:
        # Close a lot against at most `left` of a movement; returns the part of the lot that was closed.
        lot = self.open[at]
        part = lot.quantity if abs(lot.quantity) <= abs(left) else -left
        whole = part == lot.quantity
        # Round the closed part's cost down to an atom; the remainder stays with the rest.
        cost = lot.cost if whole else (lot.cost * part / lot.quantity).quantize(_ATOM, ROUND_DOWN)
        closed = ClosedLot(
            opened=lot.key,
            closed=movement.key,
            since=lot.time,
            until=movement.time,
            quantity=part,
            cost=cost,
            proceeds=movement.worth(part),
        )
        self.closed.append(closed)
        self.cost -= cost
        self.gain += closed.gain
        if whole:
            del self.open[at]
        else:
            self.open[at] = attrs.evolve(lot, quantity=lot.quantity - part, cost=lot.cost - cost)
        return part


_LotPicker = Callable[[Sequence[Lot]], int]
"""Returns the position of the open lot that is closed first."""


def ledger_of(events: Iterable[JournalEvent], pick: _LotPicker = _oldest_lot) -> Ledger:
    """Build the ledger of a whole journal."""
    return fold(events, Ledger(pick=pick))


def _securities(symbol: str, broker: str = "") -> str:
    # The account that holds a symbol's shares at cost; short positions at their proceeds, negative.
    return f"{_SECURITIES}{symbol}{_at(broker)}"


def cash(broker: str = "") -> str:
    """The cash account at a broker; "" is the primary."""
    return f"{CASH}{_at(broker)}"


def _transaction(
    time: datetime, what: str, reference: str, amounts: Mapping[str, Decimal], tag: str = ""
) -> Transaction:
    # Build a transaction from amounts by account, leaving out zeros.
    postings = tuple(Posting(account, amount) for account, amount in amounts.items() if amount)
    return Transaction(time=time, what=what, reference=reference, postings=postings, tag=tag)


def _balances(transactions: Iterable[Transaction]) -> dict[str, Decimal]:
    # Sum the postings by account, sorted by name.
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for transaction in transactions:
        for posting in transaction.postings:
            found[posting.account] += posting.amount
    return dict(sorted(found.items()))


def lots_of(steps: Sequence[LotMovement | ShareSplit], pick: _LotPicker = _oldest_lot) -> SymbolLots:
    """The lots that result from these movements and splits."""
    lots = SymbolLots(pick=pick)
    for step in steps:
        if isinstance(step, ShareSplit):
            lots.split(step)
        else:
            lots.apply(step)
    return lots


def _movement(fill: Fill, multiplier: int) -> LotMovement:
    return LotMovement(
        key=fill.execution_id,
        time=fill.time,
        quantity=fill.quantity if fill.buy else -fill.quantity,
        price=fill.price,
        fees=fill.fees,
        multiplier=multiplier,
    )


def _equity(event: JournalEvent) -> Decimal:
    # The equity with which a run or a session begins.
    if event.kind == records.RUN_STARTED:
        return event.facts(RunStarted).equity
    return event.facts(SessionOpened).equity


def _at(broker: str) -> str:
    return f":{broker}" if broker else ""
