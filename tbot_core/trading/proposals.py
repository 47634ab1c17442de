"""Proposals: symbols are screened before the open, signals are checked, and the results become proposals.

Vectorised over sessions and symbols, so that the same code serves one live minute and a block of sessions.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import numpy as np

from tbot_core.contracts import BrokerCapabilities, Filter, Strategy, SupportsExplain, SupportsScreening
from tbot_core.contracts.settings import EntrySettings, RebalanceSettings, RiskSettings, StrategySettings
from tbot_core.contracts.settings import ExitSettings as ExitPolicy
from tbot_core.model.bars import Index, SymbolQuote
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.signals import ExitRules, Signals, Trigger, price_level
from tbot_core.model.types import Instrument, Side, SignalId, stock
from tbot_core.trading.risk.limits import LimitFractions
from tbot_core.trading.universe import truncated_symbols
from tbot_core.trading.verdicts import ALLOWED_CODE, CheckResult, FilterCheck, Verdicts, apply_checks, deny

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars, Flags
    from tbot_core.model.day_facts import DayFacts, MarketView
    from tbot_core.model.window import Window

SHORT_RESTRICTION = 0.9
"""A low at or under this share of the previous close restricts short sales (Rule 201 of Regulation SHO)."""


@attrs.frozen(kw_only=True, eq=False)
class ActiveStrategy:
    """A strategy of a run; `rank` is its place in STRATEGY_SEQUENCE."""

    name: str
    rank: int
    strategy: Strategy
    frame: StrategySettings

    @property
    def window(self) -> Window:
        """The strategy's part of a session."""
        return self.strategy.window

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
        """The rules by which it explains its signals; none of one that does not, or whose window begins too early."""
        if self.window.start < 0 or not isinstance(self.strategy, SupportsExplain):
            return ()
        return self.strategy.triggers(bars, day)


@attrs.frozen(kw_only=True, eq=False)
class TradingRules:
    """All inputs of decisions except the market: settings, filters, the broker's capabilities and shipped tables.

    `first_live_day`: the account has never traded live before, so that FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL holds.
    """

    risk: RiskSettings
    entries: EntrySettings
    exits: ExitPolicy
    venue: BrokerCapabilities
    filters: Mapping[str, Filter]
    missing_rejects: bool
    blocklist: frozenset[str] = frozenset()
    watch_only: frozenset[str] = frozenset()
    universe_max: int = 500
    fixed_units: int = 0
    indices: Mapping[str, Mapping[str, Decimal]] = attrs.field(factory=dict)
    rebalance: RebalanceSettings = attrs.field(factory=RebalanceSettings)
    first_live_day: bool = False

    def watching(self, symbols: Collection[str]) -> TradingRules:
        """The rules with further symbols that are watched, but not traded."""
        return attrs.evolve(self, watch_only=self.watch_only.union(symbols))

    @functools.cached_property
    def limits(self) -> tuple[LimitFractions, LimitFractions]:
        """What the limits of a session follow from, without and with defense."""
        of, first = LimitFractions.of, self.first_live_day
        return of(self.risk, defense=False, first_live_day=first), of(self.risk, defense=True, first_live_day=first)


def _own_stock(proposal: Proposal) -> Instrument:
    return stock(proposal.signal.symbol)


@attrs.frozen(kw_only=True)
class Proposal:
    """A signal with the result of its checks; `reason` is ALLOWED, or the reason of a filter or the short rule.

    `confirmed_minute`: the latest closed minute at a decision later than the signal (a confirmation or a top-up).
    `price` is the signal bar's close; `reference` the far side of a fresh quote, None if the source has no quotes.
    `quote` is the symbol's quote at the signal, if any. `row` is the symbol's row in the bars; None after a restart if
    the feed no longer has the symbol. `most_units`: the units that a person has confirmed, and no more; 0 without
    a confirmation. `instrument` is what its order would trade, the signal's own stock by default: `reference` and
    `quote` are prices of it, all others are prices of the signal's symbol.
    """

    signal: SignalId
    side: Side
    row: int | None
    rank: int
    price: float
    strength: float
    stop: float
    target: float
    exits: ExitRules
    reason: Reason
    findings: tuple[CheckResult, ...] = ()
    confirmed_minute: int | None = None
    reference: float | None = None
    quote: SymbolQuote | None = None
    most_units: int = 0
    instrument: Instrument = attrs.field(default=attrs.Factory(_own_stock, takes_self=True))

    @property
    def minute(self) -> int:
        """The minute of the decision: the signal's, or `confirmed_minute`."""
        return self.signal.minute if self.confirmed_minute is None else self.confirmed_minute

    @property
    def position_side(self) -> Side:
        """The side of the position that it would open."""
        return self.instrument.side(self.side)

    @property
    def is_priced(self) -> bool:
        """Whether a price of what its order would trade is known."""
        return self.reference is not None or not self.instrument.is_proxy

    @property
    def sizing_price(self) -> float:
        """The price from which an entry's quantity and limit are computed."""
        return self.price if self.reference is None else self.reference

    @property
    def sort_key(self) -> tuple[int, float, int, str]:
        """The sort key of signals: minute, strength (strongest first), STRATEGY_SEQUENCE, symbol."""
        return self.signal.minute, -self.strength, self.rank, self.signal.symbol


def screen(  # noqa: PLR0913  the parts of a check before the open
    active: ActiveStrategy,
    rules: TradingRules,
    day: DayFacts,
    symbols: tuple[str, ...],
    minutes: int,
    *,
    cut: Flags | None = None,
    likely: bool = False,
) -> Verdicts:
    """Screen the symbols for a strategy: reasons of shape (..., symbols), ALLOWED = candidate.

    `minutes` is the sessions' length; `cut` is that of `universe_cut`. With `likely` checks count that deny nothing.
    """
    shape = day.previous_close.shape
    reasons = np.zeros(shape, dtype=np.intp)
    if active.window.outside(minutes, rules.exits.flatten_before_close):
        reasons[:] = Reason.WINDOW_OUTSIDE_SESSION
    for named, reason in ((rules.blocklist, Reason.BLOCKLISTED), (rules.watch_only, Reason.WATCH_ONLY)):
        deny(reasons, np.array([symbol in named for symbol in symbols]), reason)
    checks: list[FilterCheck] = []
    if isinstance(active.strategy, SupportsScreening):
        checks += [(active.name, check) for check in active.strategy.screen(day)]
    for name, one in rules.filters.items():
        checks += [(name, check) for check in one.screen(day, symbols, active.frame)]
    counted = [(name, check) for name, check in checks if likely or not check.likely]
    verdicts = apply_checks(reasons, counted, missing_rejects=rules.missing_rejects)
    if cut is not None:
        deny(verdicts.reasons, cut, Reason.UNIVERSE_TRUNCATED)
    return verdicts


def universe_cut(
    strategies: Sequence[ActiveStrategy], rules: TradingRules, day: DayFacts, symbols: tuple[str, ...], minutes: int
) -> Flags | None:
    """Flags the symbols beyond UNIVERSE_MAX, of shape (..., symbols); None if there are no more than that.

    The first to go are those of `cut_reasons`, then those with the smallest 20-day dollar volume.
    """
    if len(symbols) <= rules.universe_max:
        return None
    denied = cut_reasons(strategies, rules, day, symbols, minutes) != ALLOWED_CODE
    return truncated_symbols(day, rules.universe_max, denied)


def cut_reasons(
    strategies: Sequence[ActiveStrategy], rules: TradingRules, day: DayFacts, symbols: tuple[str, ...], minutes: int
) -> Index:
    """Why no strategy will enter each symbol, or probably none, of shape (..., symbols); ALLOWED where one may."""
    found = [screen(one, rules, day, symbols, minutes, likely=True).reasons for one in strategies]
    if not found:
        return np.zeros(day.previous_close.shape, dtype=np.intp)
    return np.where(np.all(found, axis=0), found[0], Reason.ALLOWED)


def judge(active: ActiveStrategy, rules: TradingRules, signals: Signals, market: MarketView) -> Verdicts:
    """Check each signal against the filters and the short rule."""
    checks: list[FilterCheck] = []
    for name, one in rules.filters.items():
        checks += [(name, check) for check in one.judge(signals, market, active.frame)]
    verdicts = apply_checks(np.zeros(len(signals), dtype=np.intp), checks, missing_rejects=rules.missing_rejects)
    short = signals.side < 0
    match active.frame.short_type.lower():
        case "shortsell":
            rows = np.flatnonzero(short)
            restricted = _restricted(signals, rows, market, unknown=rules.missing_rejects)
            verdicts.reasons[rows[restricted & (verdicts.reasons[rows] == ALLOWED_CODE)]] = Reason.SHORT_RESTRICTED
        case "inverseetf":
            deny(verdicts.reasons, short, Reason.SHORT_BY_FUND_UNAVAILABLE)
        case "longput":
            deny(verdicts.reasons, short, Reason.SHORT_BY_PUT_UNAVAILABLE)
        case _:
            deny(verdicts.reasons, short, Reason.SHORT_DISABLED)
    return verdicts


@attrs.frozen(kw_only=True, eq=False)
class ScanResult:
    """A strategy's signals with the screening result; `dates` has an entry for each session scanned."""

    signals: Signals
    screened: Verdicts
    dates: Sequence[date]


@attrs.frozen(kw_only=True, eq=False)
class JudgedSignals:
    """A strategy's signals of symbols that screening allowed, as columns, with the result of their checks.

    `dates` has an entry for each session scanned.
    """

    active: ActiveStrategy
    signals: Signals
    verdicts: Verdicts
    symbols: tuple[str, ...]
    dates: Sequence[date]

    @property
    def sessions(self) -> Index:
        """Each signal's session, as its position in `dates`."""
        cells = self.signals.cells
        return cells[0] if len(cells) > 1 else np.zeros(len(self.signals), dtype=np.intp)

    def proposals(self, numbers: Iterable[int]) -> list[Proposal]:
        """The proposals of the signals with these numbers, in this order."""
        return [self.proposal(number) for number in numbers]

    def signal(self, number: int) -> SignalId:
        """The identity of the signal with this number."""
        signals = self.signals
        return SignalId(
            session=self.dates[self.sessions.item(number)],
            strategy=self.active.name,
            symbol=self.symbols[signals.cells[-1].item(number)],
            minute=signals.minute.item(number),
            rule=signals.rules[signals.rule.item(number)],
        )

    def proposal(self, number: int) -> Proposal:
        """The proposal of the signal with this number."""
        signals, verdicts = self.signals, self.verdicts
        reason = verdicts.reasons.item(number)
        return Proposal(
            signal=self.signal(number),
            side=Side(signals.side.item(number)),
            row=signals.cells[-1].item(number),
            rank=self.active.rank,
            price=signals.price.item(number),
            strength=signals.strength.item(number),
            stop=signals.stop.item(number),
            target=signals.target.item(number),
            exits=signals.exits,
            reason=REASON_BY_CODE[reason],
            findings=tuple(verdicts.findings(number)) if reason else (),
        )


def judge_scan(active: ActiveStrategy, rules: TradingRules, scan: ScanResult, market: MarketView) -> JudgedSignals:
    """Check the signals of a scan; those of symbols that screening denied are left out."""
    signals = scan.signals
    allowed = scan.screened.reasons[signals.cells] == ALLOWED_CODE
    signals = _protected(signals if allowed.all() else signals.take(allowed), rules.exits, market.day)
    verdicts = judge(active, rules, signals, market)
    return JudgedSignals(
        active=active, signals=signals, verdicts=verdicts, symbols=market.bars.symbols, dates=scan.dates
    )


def propose(active: ActiveStrategy, rules: TradingRules, scan: ScanResult, market: MarketView) -> list[Proposal]:
    """The proposals of one session's scan, unsorted; symbols that screening denied have none."""
    judged = judge_scan(active, rules, scan, market)
    return judged.proposals(range(len(judged.signals)))


def renew(active: ActiveStrategy, rules: TradingRules, proposal: Proposal, market: MarketView) -> Proposal | None:
    """Check a proposal again at its symbol's last known close; None while no close is known.

    Stop and target do not change; a price at or beyond one of them is denied with CONFIRMED_TOO_LATE.
    """
    if proposal.row is None:
        return None
    closes = market.bars.close[proposal.row]
    known = np.flatnonzero(~np.isnan(closes))
    if not len(known):
        return None
    minute, price = int(known[-1]), float(closes[known[-1]])
    side = int(proposal.side)
    fresh = attrs.evolve(
        proposal,
        price=price,
        confirmed_minute=market.bars.minutes - 1,
        reason=Reason.ALLOWED,
        findings=(),
        reference=None,
    )
    if side * (price - proposal.stop) <= 0 or side * (proposal.target - price) <= 0:
        return attrs.evolve(fresh, reason=Reason.CONFIRMED_TOO_LATE)
    signals = Signals(
        cells=(np.array([proposal.row]),),
        minute=np.array([minute]),
        side=np.array([side]),
        price=np.array([price]),
        strength=np.array([proposal.strength]),
        stop=np.array([proposal.stop]),
        target=np.array([proposal.target]),
        rule=np.array([0]),
        rules=(proposal.signal.rule,),
        exits=proposal.exits,
    )
    verdicts = judge(active, rules, signals, market)
    reason = REASON_BY_CODE[int(verdicts.reasons[0])]
    findings = tuple(verdicts.findings(0)) if reason is not Reason.ALLOWED else ()
    return attrs.evolve(fresh, reason=reason, findings=findings)


def _restricted(signals: Signals, rows: Index, market: MarketView, *, unknown: bool) -> Flags:
    # Short-sale restriction at each of these short signals; missing data of today or yesterday count as `unknown`.
    cells = tuple(axis[rows] for axis in signals.cells)
    previous = market.day.previous_close[cells]
    lowest = market.bars.lowest_at(cells, signals.minute[rows])
    today = lowest <= price_level(previous, SHORT_RESTRICTION)
    yesterday = market.day.restricted[cells]
    unsure = np.isnan(previous) | np.isnan(yesterday)
    restricted: Flags = today | (yesterday == 1) | (unsure & unknown)
    return restricted


def _protected(signals: Signals, policy: ExitPolicy, day: DayFacts) -> Signals:
    # Stops at STOP_ATR for signals without one; `make_exit_plan` gives STOP_LOSS_PCT to the rest.
    if not policy.stop_atr:
        return signals
    distance = policy.stop_atr * day.atr[signals.cells]
    missing = np.isnan(signals.stop) & (distance > 0) & (distance < signals.price)
    return attrs.evolve(signals, stop=np.where(missing, signals.price - signals.side * distance, signals.stop))
