"""What a session has come to so far, at one broker or at several that count as one: held, worked, sent, lost.

Exposure is what positions cost plus what working entries would cost filled at their worst price, and what is foreign in
the accounts at its own worst. All amounts are integers of 1e-10 USD. Pure: nothing here sends or waits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import attrs

from tbot_core.contracts import Instrument
from tbot_core.model.types import RiskState, Side, SignalId, ticks_of, units_of
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.risk.account import AccountRules
from tbot_core.trading.risk.external import ExternalPositions
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts.settings import RiskSettings

DEVIATIONS = 3
"""The number of fills in a row beyond MAX_FILL_DEVIATION_PCT that switch defense on."""


@attrs.frozen(kw_only=True)
class ReservedEntry:
    """A recorded entry that is not terminal, at its worst case; `adds` to a position: a top-up."""

    signal: SignalId
    side: Side
    worst_atoms: int
    power_atoms: int
    is_top_up: bool = False


@attrs.frozen(kw_only=True)
class RiskChange:
    """The risk state, or a latch, changed: what, why, and the figures compared (dollars, counts or fractions)."""

    what: str
    cause: str
    value: Decimal
    limit: Decimal


@attrs.define(kw_only=True)
class ExposureBook:
    """All that the gate looks at: what is held, worked, sent and lost in the session so far.

    `state` follows from the session's own events, `imposed` from what happens around it; the graver one counts.
    `topped_up`: how many top-ups were written down here. `funds`: what the account itself allows. `equity_jump`: the
    opening equity is not to be believed. `armed`: whether live trading may enter; all other trading may.
    `troubles`: what leaves exits only until whoever can read the account has taken it over; where nobody can (None),
    `state` keeps it to the session's end. `everywhere`: the standings of all brokers of the session, which count as
    one. `frozen`: instruments in which nothing is done but protect what is held, and why; `lasting` are those that stay
    so to the session's end. `unread`: the account has not been read since the start, and nothing is closed until it has
    been; `disputed` are the symbols that its first reading left open, of which the same holds until a reading agrees.
    `instruments`: the rules of those that a broker was asked about; `unruled` are those whose rules are not known, and
    whether an answer is waited for. `stated_atoms`: what a person has said may be open here, while nobody can look.
    `foreign`: what the account holds and works that is not tbot's.
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
    frozen: dict[str, str] = attrs.field(factory=dict)
    account_unread: bool = False
    disputed_symbols: frozenset[str] = frozenset()
    frozen_for_session: set[str] = attrs.field(factory=set)
    instruments: dict[str, Instrument] = attrs.field(factory=dict)
    rules_unknown: dict[str, bool] = attrs.field(factory=dict)
    all_brokers: list[ExposureBook] = attrs.field(
        default=attrs.Factory(lambda self: [self], takes_self=True), eq=False, repr=False
    )

    @property
    def own_state(self) -> RiskState:
        """What the session asks for by itself: after a latch nothing is entered, and exits go on."""
        return max(self.state, RiskState.EXIT_ONLY if self.daily_loss or self.losing_run else RiskState.NORMAL)

    @property
    def current_state(self) -> RiskState:
        """The risk state that counts now."""
        return max(self.state, self.imposed_state, RiskState.EXIT_ONLY if self.blocking_causes else RiskState.NORMAL)

    def freeze(self, symbol: str, words: str, *, lasting: bool = False) -> None:
        """Let nothing be done in a symbol but protect what is held of it."""
        self.frozen[symbol] = words
        if lasting:
            self.frozen_for_session.add(symbol)

    def is_frozen(self, symbol: str) -> bool:
        """Whether a symbol is frozen at any of the brokers."""
        return any(symbol in one.frozen for one in self.all_brokers)

    def is_busy(self, symbol: str) -> bool:
        """Whether the symbol is held, by a position or beyond all of them, or being worked."""
        return any(
            symbol in one.portfolio.positions
            or symbol in one.portfolio.unassigned_units
            or any(entry.signal.symbol == symbol for entry in one.working.values())
            for one in self.all_brokers
        )

    @property
    def position_count(self) -> int:
        """How many positions are held or being worked."""
        return sum(len(one.portfolio.positions) + len(one.new_entries) for one in self.all_brokers)

    @property
    def new_entries(self) -> list[ReservedEntry]:
        """The working entries here that make positions: all but those that add to one that is held."""
        held = self.portfolio.positions
        return [one for one in self.working.values() if not (one.is_top_up and one.signal.symbol in held)]

    @property
    def reserved(self) -> int:
        """The worst case of what is held and worked here, by tbot and by others, long and short alike."""
        worked = sum(entry.worst_atoms for entry in self.working.values())
        return self.portfolio.cost_atoms + worked + self.external.gross

    def gross(self) -> int:
        """The worst case of all that is held and worked, long and short alike."""
        return sum(max(one.reserved, one.stated_atoms) for one in self.all_brokers)

    @property
    def pnl_atoms(self) -> int:
        """The session's profit at the marks."""
        return sum(one.portfolio.pnl_atoms for one in self.all_brokers)

    def record_equity_jump(self, opening: Decimal, expected: Decimal) -> None:
        """The session opened with another equity than it should have: nothing is sized by it."""
        self.equity_jump = True
        self._tell("equity jump", "the opening equity is unexplained; entries are blocked", opening, expected)

    def count_sent(self, strategy: str, minute: int) -> None:
        """An entry was written down: it counts towards MAX_TRADES and the rate, whatever becomes of it."""
        for one in self.all_brokers:
            one.sent[strategy] = one.sent.get(strategy, 0) + 1
        _count_rate(self, minute)

    def latch(self, name: Literal["daily_loss", "losing_run", "window_loss"], strategy: str = "") -> None:
        """Set a latch, that of a window for its strategy, wherever something could be entered."""
        for one in self.all_brokers:
            if name == "window_loss":
                one.window_loss.add(strategy)
            else:
                setattr(one, name, True)

    def count_closed(self, pnl_atoms: int) -> None:
        """A trade is done; the longest run of losing ones is kept, whatever comes after it."""
        for one in self.all_brokers:
            one.losses_in_row = one.losses_in_row + 1 if pnl_atoms < 0 else 0
            one.most_losses_in_row = max(one.most_losses_in_row, one.losses_in_row)

    def count_answer(self, risk: RiskSettings, *, rejected: bool) -> None:
        """A broker took or rejected an order; MAX_REJECTS_IN_ROW rejections in a row leave exits only."""
        self.rejects_in_row = self.rejects_in_row + 1 if rejected else 0
        if self.rejects_in_row < risk.max_rejects_in_row:
            return
        if self.blocking_causes is not None:
            self.blocking_causes[StateCause.REJECTS] = f"{self.rejects_in_row} rejections"
            self.rejects_in_row = 0
        elif self.state < RiskState.EXIT_ONLY:
            self.state = RiskState.EXIT_ONLY
            self._tell(RiskState.EXIT_ONLY.word, "MAX_REJECTS_IN_ROW", self.rejects_in_row, risk.max_rejects_in_row)

    def count_fill(self, risk: RiskSettings, price: Decimal, reference: Decimal, side: Side) -> None:
        """An entry was filled; a price worse than its reference by more than MAX_FILL_DEVIATION_PCT is told.

        Three of them in a row, at whichever broker, are defense to the session's end.
        """
        away = side * (price - reference) / reference
        for one in self.all_brokers:
            one.deviations_in_row = one.deviations_in_row + 1 if away > risk.max_fill_deviation_pct else 0
        if self.deviations_in_row:
            self._tell("fill deviation", "MAX_FILL_DEVIATION_PCT", round(away, 6), risk.max_fill_deviation_pct)
        if self.deviations_in_row >= DEVIATIONS and needs_defense(self):
            impose_defense(self)
            self._tell(RiskState.DEFENSE.word, StateCause.DEVIATIONS.value, self.deviations_in_row, DEVIATIONS)

    def record_surplus(self, symbol: str, quantity: Decimal) -> None:
        """A fill came that no position accounts for: the account is not what the books say, and nothing is entered."""
        if self.blocking_causes is not None:
            self.blocking_causes[StateCause.SURPLUS] = f"{quantity} {symbol} beyond what is held"
            return
        self.state = max(self.state, RiskState.EXIT_ONLY)
        self._tell(RiskState.EXIT_ONLY.word, f"a fill of {symbol} beyond what is held", quantity, 0)

    def mark_account_unknown(self, retries: int) -> None:
        """The broker did not answer, though asked so often again: the account is unknown, and nothing is entered."""
        if self.state < RiskState.EXIT_ONLY:
            self.state = RiskState.EXIT_ONLY
            self._tell(RiskState.EXIT_ONLY.word, "the broker did not answer, API_RETRY_LIMIT", retries, retries)

    def _tell(self, what: str, cause: str, value: Decimal | int, limit: Decimal | int) -> None:
        self.pending_changes.append(RiskChange(what=what, cause=cause, value=Decimal(value), limit=Decimal(limit)))


def share_exposure(standing: ExposureBook, other: ExposureBook) -> None:
    """Let what stands at two brokers count as one, in all but what concerns an account alone."""
    standing.all_brokers = other.all_brokers
    other.all_brokers.append(standing)
    standing.deviations_in_row = other.deviations_in_row
    if other.state is RiskState.DEFENSE:
        impose_defense(standing)


def needs_defense(standing: ExposureBook) -> bool:
    """Whether there is a broker at which what the session has come to asks for nothing yet."""
    return any(one.state is RiskState.NORMAL for one in standing.all_brokers)


def impose_defense(standing: ExposureBook) -> None:
    """What the session has come to leaves defense to its end, wherever something could be entered."""
    for one in standing.all_brokers:
        one.state = max(one.state, RiskState.DEFENSE)


def working_buying_power(standing: ExposureBook) -> int:
    """The buying power that the working entries here take."""
    return sum(entry.power_atoms for entry in standing.working.values())


def used_buying_power(standing: ExposureBook) -> int:
    """What is held costs and what is worked takes of buying power, by tbot and by others, wherever it is."""
    taken = (
        (one.portfolio.cost_atoms + working_buying_power(one) + one.external.gross, one) for one in standing.all_brokers
    )
    return sum(max(atoms, one.stated_atoms) for atoms, one in taken)


def held_atoms(standing: ExposureBook) -> int:
    """What all positions cost, and what is foreign comes to at worst, wherever it is: gross, as people are shown it."""
    return sum(one.portfolio.cost_atoms + one.external.gross for one in standing.all_brokers)


def external_in(standing: ExposureBook, symbol: str) -> int:
    """The worst case of what is foreign in a symbol, long or short, at all brokers."""
    there = (one.external.worst[symbol] for one in standing.all_brokers if symbol in one.external.worst)
    return sum(worst.atoms for worst in there)


def window_pnl(standing: ExposureBook, strategy: str) -> int:
    """The profit of a strategy's window at the marks, in atoms."""
    portfolios = [one.portfolio for one in standing.all_brokers]
    mine = (position for one in portfolios for position in (*one.positions.values(), *one.closed))
    return sum(position.pnl_atoms for position in mine if position.signal.strategy == strategy)


def lose_plugin(standing: ExposureBook, name: str) -> None:
    """A plugin of the order path is off: at a market nothing is entered until the account was clean."""
    for one in standing.all_brokers:
        if one.blocking_causes is not None:
            one.blocking_causes[StateCause.PLUGIN_LOST] = name


def net_of(standing: ExposureBook, exposures: Mapping[str, Decimal], sign: int) -> int:
    """The worst case of the net exposure towards `sign`, over the symbols of `exposures`, each times its factor.

    Positions net each other; a working entry counts where it adds to the side looked at, since it may not fill, and so
    does what is foreign, since it may be gone at any time.
    """
    held = sum(
        int(one.side * one.cost_atoms * exposures[symbol])
        for part in standing.all_brokers
        for symbol, one in part.portfolio.positions.items()
        if symbol in exposures
    )
    worked = (
        int(one.side * one.worst_atoms * exposures[one.signal.symbol])
        for part in standing.all_brokers
        for one in part.working.values()
        if one.signal.symbol in exposures
    )
    foreign = sum(_toward(one.external, exposures, sign) for one in standing.all_brokers if one.external.worst)
    return sign * held + sum(max(0, sign * atoms) for atoms in worked) + foreign


def _toward(foreign: ExternalPositions, exposures: Mapping[str, Decimal], sign: int) -> int:
    # What is foreign in an index, where it adds to that side of it.
    found = ((worst, sign * exposures[symbol]) for symbol, worst in foreign.worst.items() if symbol in exposures)
    return sum(int((worst.long_atoms if factor > 0 else worst.short_atoms) * abs(factor)) for worst, factor in found)


def grid_of(standing: ExposureBook, symbol: str) -> int:
    """The step of a symbol's prices in ticks, as its broker told it; 0: the exchange's own."""
    told = standing.instruments.get(symbol)
    return 0 if told is None or told.tick is None else ticks_of(float(told.tick))


def lot_of(standing: ExposureBook, symbol: str) -> int:
    """The step of a symbol's quantities in units, as its broker told it; 1: nothing but the venue's own."""
    told = standing.instruments.get(symbol)
    return 1 if told is None or told.quantity_step is None else units_of(told.quantity_step)


def count_topped_up(standing: ExposureBook, minute: int) -> None:
    """A top-up was written down: it counts towards the rate, and as a day trade of its own."""
    standing.topped_up += 1
    _count_rate(standing, minute)


def _count_rate(standing: ExposureBook, minute: int) -> None:
    for one in standing.all_brokers:
        one.sent_at = (minute, one.sent_at[1] + 1 if one.sent_at[0] == minute else 1)


def count_traded(standing: ExposureBook, symbol: str) -> None:
    """A symbol was entered."""
    for one in standing.all_brokers:
        one.traded.add(symbol)
