"""The exposure and counts of a session, at one broker or at several that share their limits.

Exposure is the cost of positions, plus working entries filled at their worst price, plus the worst case of external
holdings and orders. Amounts are integers of 1e-10 USD. Pure.
"""

from __future__ import annotations

from bisect import insort
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import attrs

from tbot_core.contracts import InstrumentRules
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    Fill,
    Instrument,
    RiskState,
    Side,
    SignalId,
    atoms_of,
    ticks_of,
    units_of,
)
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.risk.account import AccountRules
from tbot_core.trading.risk.external import ExternalPositions
from tbot_core.trading.risk.holds import Hold, Holds
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tbot_core.contracts.settings import RiskSettings

DEVIATIONS = 3
"""The number of fills in a row beyond MAX_FILL_DEVIATION_PCT that switch defense on."""


@attrs.frozen(kw_only=True)
class ReservedEntry:
    """A recorded entry that is not terminal, at its worst case; `side` is that of the position in the instrument."""

    signal: SignalId
    instrument: Instrument
    side: Side
    worst_atoms: int
    power_atoms: int
    is_top_up: bool = False


@attrs.frozen(kw_only=True)
class RiskChange:
    """A change of the risk state or a latch, with the compared figures (dollars, counts or fractions)."""

    what: str
    cause: str
    value: Decimal
    limit: Decimal


@attrs.define(kw_only=True)
class ExposureBook:
    """The risk engine's inputs of one broker: positions, working entries, counts, latches and states of the session.

    `state` follows from the session's own events, `imposed_state` from the trading state; the more severe one counts.
    `topped_up`: the number of top-ups recorded here. `closed`: the closed trades at all brokers, as time and client
    order id of the last fill and whether it was a loss; `losses_in_row` counts the latest ones, `most_losses_in_row`
    the longest run. `funds`: the account's own rules. `equity_jump`: the opening
    equity is unexplained. `armed`: False blocks live entries. `blocking_causes`: causes that block entries until the
    trading state takes them over; None if no account can be read: then `state` keeps them to the session's end.
    `all_brokers`: the books of all brokers of the session, which share their limits. `holds`: what keeps orders in a
    symbol back here. `account_unread`: the account was not read since the start, and nothing is closed.
    `instrument_rules`: those that the broker reported. `stated_atoms`: the exposure that a person stated for a broker
    that cannot be read.
    """

    portfolio: Portfolio
    state: RiskState = RiskState.NORMAL
    imposed_state: RiskState = RiskState.NORMAL
    armed: bool = True
    working: dict[str, ReservedEntry] = attrs.field(factory=dict)
    sent: dict[str, int] = attrs.field(factory=dict)
    sent_at: tuple[int, int] = (-1, 0)
    topped_up: int = 0
    traded: set[str] = attrs.field(factory=set)
    daily_loss: bool = False
    window_loss: set[str] = attrs.field(factory=set)
    losing_run: bool = False
    closed: list[tuple[datetime, str, bool]] = attrs.field(factory=list)
    losses_in_row: int = 0
    most_losses_in_row: int = 0
    rejects_in_row: int = 0
    deviations_in_row: int = 0
    pending_changes: list[RiskChange] = attrs.field(factory=list)
    funds: AccountRules = attrs.field(factory=AccountRules)
    equity_jump: bool = False
    blocking_causes: dict[StateCause, str] | None = None
    stated_atoms: int = 0
    external: ExternalPositions = attrs.field(factory=ExternalPositions)
    holds: Holds = attrs.field(factory=Holds)
    account_unread: bool = False
    instrument_rules: dict[str, InstrumentRules] = attrs.field(factory=dict)
    all_brokers: list[ExposureBook] = attrs.field(
        default=attrs.Factory(lambda self: [self], takes_self=True), eq=False, repr=False
    )

    @property
    def own_state(self) -> RiskState:
        """The state of the session itself; a daily loss or losing run latch allows exits only."""
        return max(self.state, RiskState.EXIT_ONLY if self.daily_loss or self.losing_run else RiskState.NORMAL)

    @property
    def current_state(self) -> RiskState:
        """The risk state that applies now."""
        state = max(self.state, self.imposed_state)
        return max(state, RiskState.EXIT_ONLY) if self.blocking_causes else state

    def is_frozen(self, symbol: str) -> bool:
        """Whether a symbol is frozen at any of the brokers."""
        return any(one.holds.has(symbol, Hold.FROZEN) for one in self.all_brokers)

    def is_busy(self, symbol: str) -> bool:
        """Whether the symbol has a position, a surplus or a working entry at any broker, itself or through a proxy."""
        for one in self.all_brokers:
            if symbol in one.portfolio.unassigned_units:
                return True
            if any(symbol in {instrument.symbol, instrument.underlying} for instrument in one.traded_instruments):
                return True
        return False

    def is_barred(self, instrument: Instrument) -> bool:
        """Whether a proxy cannot be entered, because it is held, or being worked, by itself or at any broker.

        A fund that stands for other signals can.
        """
        symbol, shared = instrument.symbol, instrument.is_shared
        for one in self.all_brokers:
            if symbol in one.portfolio.unassigned_units:
                return True
            if any(held.symbol == symbol and not (shared and held.is_shared) for held in one.traded_instruments):
                return True
        return False

    @property
    def traded_instruments(self) -> list[Instrument]:
        """What the positions and working entries here are of."""
        held = [position.instrument for position in self.portfolio.positions.values()]
        return held + [entry.instrument for entry in self.working.values()]

    @property
    def position_count(self) -> int:
        """The number of positions and working entries at all brokers."""
        return sum([len(one.portfolio.positions) + len(one.new_entries) for one in self.all_brokers])

    @property
    def new_entries(self) -> list[ReservedEntry]:
        """The working entries here that open positions: all except top-ups of held ones."""
        held = self.portfolio.positions
        return [one for one in self.working.values() if not (one.is_top_up and one.signal in held)]

    @property
    def reserved(self) -> int:
        """The worst-case exposure here, tbot's and external, long and short alike."""
        working_atoms = sum([entry.worst_atoms for entry in self.working.values()])
        return self.portfolio.cost_atoms + working_atoms + self.external.gross

    def gross(self) -> int:
        """The worst-case gross exposure at all brokers."""
        return sum([max(one.reserved, one.stated_atoms) for one in self.all_brokers])

    @property
    def pnl_atoms(self) -> int:
        """The session's profit at the marks, at all brokers."""
        return sum(session_pnl(self).values())

    @contextmanager
    def assuming(self, entries: Sequence[ReservedEntry]) -> Iterator[None]:
        """While the context lasts, these entries count as sent, and as working here."""
        names = [f"assumed {number}" for number in range(len(entries))]
        before = [dict(one.sent) for one in self.all_brokers]
        for name, entry in zip(names, entries, strict=True):
            self.working[name] = entry
            for one in self.all_brokers:
                one.sent[entry.signal.strategy] = one.sent.get(entry.signal.strategy, 0) + 1
        try:
            yield
        finally:
            for name in names:
                del self.working[name]
            for one, sent in zip(self.all_brokers, before, strict=True):
                one.sent = sent

    def record_equity_jump(self, opening: Decimal, expected: Decimal) -> None:
        """Record that the opening equity is not the expected one: entries are blocked."""
        self.equity_jump = True
        self._report_change("equity jump", "the opening equity is unexplained; entries are blocked", opening, expected)

    def count_sent(self, strategy: str, minute: int) -> None:
        """Count a recorded entry in MAX_TRADES and the order rate, whatever its outcome."""
        for one in self.all_brokers:
            one.sent[strategy] = one.sent.get(strategy, 0) + 1
        _count_rate(self, minute)

    def latch(self, name: Literal["daily_loss", "losing_run", "window_loss"], strategy: str = "") -> None:
        """Set a latch at all brokers; `window_loss` is per strategy."""
        for one in self.all_brokers:
            if name == "window_loss":
                one.window_loss.add(strategy)
            else:
                setattr(one, name, True)

    def count_closed(self, fill: Fill, pnl_atoms: int) -> None:
        """Count a trade that `fill` closed in the run of losses, in the order of fills, then of client order ids."""
        for one in self.all_brokers:
            insort(one.closed, (fill.time, fill.client_order_id, pnl_atoms < 0))
            one.losses_in_row = one.most_losses_in_row = 0
            for _, _, lost in one.closed:
                one.losses_in_row = one.losses_in_row + 1 if lost else 0
                one.most_losses_in_row = max(one.most_losses_in_row, one.losses_in_row)

    def count_answer(self, risk: RiskSettings, *, rejected: bool) -> None:
        """Count a broker's answer to an order; MAX_REJECTS_IN_ROW rejections in a row allow exits only."""
        self.rejects_in_row = self.rejects_in_row + 1 if rejected else 0
        if self.rejects_in_row < risk.max_rejects_in_row:
            return
        if self.blocking_causes is not None:
            self.blocking_causes[StateCause.REJECTS] = f"{self.rejects_in_row} rejections"
            self.rejects_in_row = 0
        elif self.state < RiskState.EXIT_ONLY:
            self.state = RiskState.EXIT_ONLY
            self._report_change(
                RiskState.EXIT_ONLY.word, "MAX_REJECTS_IN_ROW", self.rejects_in_row, risk.max_rejects_in_row
            )

    def count_fill(self, risk: RiskSettings, price: Decimal, reference: Decimal, side: Side) -> None:
        """Count an entry's fill; a price worse than `reference` by more than MAX_FILL_DEVIATION_PCT is reported.

        Three of them in a row, at any brokers, switch defense on to the session's end.
        """
        away = side * (price - reference) / reference
        for one in self.all_brokers:
            one.deviations_in_row = one.deviations_in_row + 1 if away > risk.max_fill_deviation_pct else 0
        if self.deviations_in_row:
            self._report_change("fill deviation", "MAX_FILL_DEVIATION_PCT", round(away, 6), risk.max_fill_deviation_pct)
        if self.deviations_in_row >= DEVIATIONS and needs_defense(self):
            impose_defense(self)
            self._report_change(RiskState.DEFENSE.word, StateCause.DEVIATIONS.value, self.deviations_in_row, DEVIATIONS)

    def record_surplus(self, symbol: str, quantity: Decimal) -> None:
        """Record a fill that belongs to no position: entries are blocked."""
        if self.blocking_causes is not None:
            self.blocking_causes[StateCause.SURPLUS] = f"{quantity} {symbol} beyond what is held"
            return
        self.state = max(self.state, RiskState.EXIT_ONLY)
        self._report_change(RiskState.EXIT_ONLY.word, f"a fill of {symbol} beyond what is held", quantity, 0)

    def mark_account_unknown(self, retries: int) -> None:
        """Record that the broker did not answer after so many retries: entries are blocked."""
        if self.state < RiskState.EXIT_ONLY:
            self.state = RiskState.EXIT_ONLY
            self._report_change(
                RiskState.EXIT_ONLY.word, "the broker did not answer, API_RETRY_LIMIT", retries, retries
            )

    def _report_change(self, what: str, cause: str, value: Decimal | int, limit: Decimal | int) -> None:
        self.pending_changes.append(RiskChange(what=what, cause=cause, value=Decimal(value), limit=Decimal(limit)))


def share_exposure(exposure: ExposureBook, other: ExposureBook) -> None:
    """Share limits between two brokers, except those that concern one account only."""
    exposure.all_brokers = other.all_brokers
    other.all_brokers.append(exposure)
    exposure.deviations_in_row = other.deviations_in_row
    if other.state is RiskState.DEFENSE:
        impose_defense(exposure)


def needs_defense(exposure: ExposureBook) -> bool:
    """Whether the session's own state is normal at any broker."""
    return any(one.state is RiskState.NORMAL for one in exposure.all_brokers)


def impose_defense(exposure: ExposureBook) -> None:
    """Switch defense on at all brokers, to the session's end."""
    for one in exposure.all_brokers:
        one.state = max(one.state, RiskState.DEFENSE)


def working_buying_power(exposure: ExposureBook) -> int:
    """The buying power used by the working entries here."""
    return sum([entry.power_atoms for entry in exposure.working.values()])


def used_buying_power(exposure: ExposureBook) -> int:
    """The buying power used at all brokers by positions, working entries and external exposure."""
    used = [
        (one.portfolio.cost_atoms + working_buying_power(one) + one.external.gross, one) for one in exposure.all_brokers
    ]
    return sum([max(atoms, one.stated_atoms) for atoms, one in used])


def held_atoms(exposure: ExposureBook) -> int:
    """Gross exposure without working entries at all brokers, as it is shown to people."""
    return sum(one.portfolio.cost_atoms + one.external.gross for one in exposure.all_brokers)


def external_in(exposure: ExposureBook, symbol: str) -> int:
    """The worst-case external exposure of a symbol at all brokers, long or short."""
    return sum([one.external.worst[symbol].atoms for one in exposure.all_brokers if symbol in one.external.worst])


def window_pnl(exposure: ExposureBook, strategy: str) -> int:
    """The profit of a strategy's window at the marks, in atoms."""
    return session_pnl(exposure).get(strategy, 0)


def session_pnl(exposure: ExposureBook) -> dict[str, int]:
    """The session's profit at the marks at all brokers by strategy, in atoms; that of surplus is under ""."""
    first, *others = [one.portfolio.pnl_by_strategy for one in exposure.all_brokers]
    for part in others:
        for strategy, atoms in part.items():
            first[strategy] = first.get(strategy, 0) + atoms
    return first


def lose_plugin(exposure: ExposureBook, name: str) -> None:
    """Record that a plugin of the order path stopped: in live trading entries are blocked until a clean reading."""
    for one in exposure.all_brokers:
        if one.blocking_causes is not None:
            one.blocking_causes[StateCause.PLUGIN_LOST] = name


def block_entries(exposure: ExposureBook, cause: StateCause, words: str) -> None:
    """Record a cause that blocks the entries of this account until a clean reading; a simulation has none."""
    if exposure.blocking_causes is not None:
        exposure.blocking_causes[cause] = words


def net_of(exposure: ExposureBook, exposures: Mapping[str, Decimal], sign: int) -> int:
    """The worst case of the net exposure towards `sign`, over the symbols of `exposures`, each times its factor.

    A proxy counts by its own factor, else by that of its underlying times its leverage. Positions net each other. A
    working entry and an external holding count only if they add to that side, since the entry may not fill and the
    holding may be sold at any time.
    """
    held = sum(
        int(one.side * one.cost_atoms * factor)
        for part in exposure.all_brokers
        for one in part.portfolio.positions.values()
        if (factor := index_factor(one.instrument, exposures)) is not None
    )
    working_atoms = (
        int(one.side * one.worst_atoms * factor)
        for part in exposure.all_brokers
        for one in part.working.values()
        if (factor := index_factor(one.instrument, exposures)) is not None
    )
    external = sum(_toward(one.external, exposures, sign) for one in exposure.all_brokers if one.external.worst)
    return sign * held + sum(max(0, sign * atoms) for atoms in working_atoms) + external


def index_factor(instrument: Instrument, exposures: Mapping[str, Decimal]) -> Decimal | None:
    """The factor of an instrument's cost in an index, which has those of its members; None if it has no part in it."""
    if instrument.symbol in exposures:
        return exposures[instrument.symbol]
    factor = exposures.get(instrument.underlying)
    return None if factor is None else factor * instrument.leverage


def _toward(external: ExternalPositions, exposures: Mapping[str, Decimal], sign: int) -> int:
    # The external exposure of an index, where it adds to that side.
    found = ((worst, sign * exposures[symbol]) for symbol, worst in external.worst.items() if symbol in exposures)
    return sum(int((worst.long_atoms if factor > 0 else worst.short_atoms) * abs(factor)) for worst, factor in found)


def grid_of(exposure: ExposureBook, symbol: str) -> int:
    """A symbol's price step in ticks as the broker reported it; 0: the exchange's own."""
    rules = exposure.instrument_rules.get(symbol)
    return 0 if rules is None or rules.tick is None else ticks_of(float(rules.tick))


def lot_of(exposure: ExposureBook, symbol: str) -> int:
    """A symbol's quantity step in units as the broker reported it; 1: the broker's general step."""
    rules = exposure.instrument_rules.get(symbol)
    if rules is None:
        return 1
    step = 1 if rules.quantity_step is None else units_of(rules.quantity_step)
    return max(step, UNITS_PER_SHARE) if rules.fractionable is False else step


def is_tradable(exposure: ExposureBook, symbol: str) -> bool:
    """Whether the broker trades a symbol, or does not say."""
    rules = exposure.instrument_rules.get(symbol)
    return rules is None or rules.tradable is not False


def is_below_minimum(exposure: ExposureBook, symbol: str, units: int, atoms: int) -> bool:
    """Whether an order of this quantity and cost is smaller than the broker accepts for a symbol."""
    rules = exposure.instrument_rules.get(symbol)
    if rules is None:
        return False
    least, cost = rules.minimum_quantity, rules.minimum_notional
    return (least is not None and units < units_of(least)) or (cost is not None and atoms < atoms_of(cost))


def count_topped_up(exposure: ExposureBook, minute: int) -> None:
    """Count a recorded top-up in the order rate and as a day trade."""
    exposure.topped_up += 1
    _count_rate(exposure, minute)


def _count_rate(exposure: ExposureBook, minute: int) -> None:
    for one in exposure.all_brokers:
        one.sent_at = (minute, one.sent_at[1] + 1 if one.sent_at[0] == minute else 1)


def count_traded(exposure: ExposureBook, symbol: str) -> None:
    """Record at all brokers that a symbol was entered."""
    for one in exposure.all_brokers:
        one.traded.add(symbol)
