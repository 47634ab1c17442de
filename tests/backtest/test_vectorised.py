"""The fast gear of a backtest gives what walking each minute gives: trades, denials, equity and levels."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
import pytest

from tbot_core.backtest.outcomes import REASONS
from tbot_core.backtest.session_walk import BacktestTerms, plain_id, walk_session
from tbot_core.backtest.trials import VectorisedSession, WalkedSession
from tbot_core.backtest.vectorised import VectorisedTerms, WalkNeeded, candidates_of, trade_vectorised
from tbot_core.contracts.settings import SimulationSettings, StrategySettings
from tbot_core.model.bars import Bars
from tbot_core.model.calendar import Session
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.types import ATOMS_PER_DOLLAR, ExitReason
from tbot_core.model.window import Window
from tbot_core.testing.sessions import NAMES, SessionDraft
from tbot_core.testing.trades import NONE, rules
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.proposals import ActiveStrategy, JudgedSignals
from tbot_core.trading.slippage import Slippage
from tbot_core.trading.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

from tbot_core.backtest.trials import TestedSession

MINUTES = 40
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")
OPEN = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
EQUITY = 100_000 * ATOMS_PER_DOLLAR
CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))


def sessions(count: int) -> tuple[Session, ...]:
    """Days of 40 minutes."""
    opens = [OPEN + dt.timedelta(days=day) for day in range(count)]
    return tuple(Session(date=one.date(), open=one, close=one + dt.timedelta(minutes=MINUTES)) for one in opens)


def market(chance: np.random.Generator, count: int) -> Bars:
    """Random days: jumps, missing bars, halts, symbols that stop trading, prices on both sides of a dollar."""
    shape = (MINUTES, count, len(SYMBOLS))
    steps = chance.standard_t(3, shape) * chance.choice([0.0005, 0.002, 0.005], shape[1:])
    close = np.round(chance.choice([0.9, 1.05, 5.0, 50.0, 3000.0], shape[1:]) * np.exp(np.cumsum(steps, axis=0)), 2)
    opened = np.round(close * (1 + chance.normal(0, 0.001, shape)), 2)
    wick = np.abs(chance.normal(0, 0.002, (2, *shape)))
    high = np.round(np.maximum(opened, close) * (1 + wick[0]), 2)
    low = np.round(np.minimum(opened, close) * (1 - wick[1]), 2)
    volume = np.floor(chance.lognormal(chance.choice([5.0, 9.0], shape[1:]), 1.0, shape)) + chance.integers(0, 2)
    gone = chance.random(shape) < chance.choice([0.0, 0.0, 0.05, 0.4], shape[1:])
    for session, symbol in np.ndindex(shape[1:]):
        start = int(chance.integers(0, MINUTES))
        if chance.random() < 0.2:
            gone[start : start + int(chance.integers(3, 12)), session, symbol] = True
        if chance.random() < 0.1:
            gone[start:, session, symbol] = True
    gone[0] = False  # a symbol without any bar has no signal either
    fields = dict(zip(NAMES, (opened, high, low, close, volume, np.full(shape, np.nan)), strict=True))
    return Bars({name: np.where(gone, np.nan, np.maximum(field, 0.01)) for name, field in fields.items()}, SYMBOLS)


def signals(chance: np.random.Generator, bars: Bars, exits: ExitRules) -> Signals:
    """Signals of random rows in random minutes in which they have a bar, some with a stop and a target of their own."""
    rows = np.argwhere(chance.random(bars.close.shape[:-1]) < 0.7)
    picked = []
    for session, symbol in rows:
        minutes = np.flatnonzero(~np.isnan(bars.close[session, symbol, 2:38])) + 2
        if len(minutes):
            picked.append((session, symbol, int(chance.choice(minutes))))
    cells = np.array(picked, dtype=np.intp).reshape(-1, 3)
    count = len(cells)
    side, price = chance.choice([1, -1], count), bars.close[tuple(cells.T)]
    own, aims = chance.random(count) < 0.7, chance.random(count) < 0.5
    away = price * chance.choice([0.002, 0.01, 0.05], count)
    return Signals(
        cells=(cells[:, 0], cells[:, 1]),
        minute=cells[:, 2],
        side=side,
        price=price,
        strength=chance.choice([0.0, 0.01, 0.02], count),
        stop=np.where(own, price - side * away, np.nan),
        target=np.where(aims, price + side * away, np.nan),
        rule=np.zeros(count, dtype=np.intp),
        rules=("random",),
        exits=exits,
    )


def judged(name: str, rank: int, found: Signals, days: Sequence[Session], denied: Any = False) -> JudgedSignals:
    """The signals with the results of a filter that denies the flagged ones."""
    reasons = np.where(denied, int(Reason.FILTER_DENIED), 0) * np.ones(len(found), dtype=np.intp)
    window = Window(start=0, analysis=1, breakout=38, monitoring=1)
    strategy: Any = attrs.make_class("Strategy", {"window": attrs.field(default=window)})()
    return JudgedSignals(
        active=ActiveStrategy(name=name, rank=rank, strategy=strategy, frame=StrategySettings()),
        signals=found,
        verdicts=Verdicts(reasons=reasons, checks=(), missing_rejects=True),
        symbols=SYMBOLS,
        dates=[one.date for one in days],
    )


def both(terms: BacktestTerms, parts: Sequence[JudgedSignals], bars: Bars, days: Sequence[Session]) -> Counter[str]:
    """Trade the days in both gears, the equity carried on; why days had to be walked, "" for those that had not."""
    found = candidates_of(parts, terms.rules, terms.costs, bars, len(days))
    gears, equity = Counter[str](), EQUITY
    for index, day in enumerate(days):
        walked = walk_session(terms, day, bars.session(index), found.proposals(index), equity)
        walked_session = WalkedSession(session=day, opening_atoms=equity, walked=walked, cause="")
        whole = attrs.evolve(terms, every_minute=True)
        every = walk_session(whole, day, bars.session(index), found.proposals(index), equity)
        assert shown(WalkedSession(session=day, opening_atoms=equity, walked=every, cause="")) == shown(walked_session)
        assert [one.order for one in every.decisions] == [one.order for one in walked.decisions]
        assert every.positions == walked.positions
        try:
            result = trade_vectorised(VectorisedTerms.of(terms), found, index, bars, equity)
        except WalkNeeded as cause:
            gears[str(cause)] += 1
        else:
            gears[""] += 1
            vectorised = VectorisedSession(session=day, opening_atoms=equity, candidates=found, result=result)
            assert shown(vectorised) == shown(walked_session), f"day {index}"
        equity = walked.equity_atoms
    return gears


def shown(tested: TestedSession) -> dict[str, Any]:
    """All that a session's result shows."""
    return {
        "trades": list(tested.trades),
        "denials": tested.denials,
        "equity": tested.equity_atoms,
        "levels": tested.levels,
    }


def random_terms(seed: int, **given: Any) -> BacktestTerms:
    """Random settings, but for those given; most of them let most days be vectorised."""
    chance = random.Random(seed)
    pick = chance.choice
    drawn = partial(
        rules,
        venue=SIMULATOR_CAPABILITIES,
        entry_order_type=pick(["limit", "market"]),
        entry_limit_pct=pick(["0", "0.0005", "0.002"]),
        fractional=pick([True, False]),
        one_trade_per_symbol_per_day=pick([True, False]),
        stop_loss_pct=pick(["0.002", "0.01", "0.03"]),
        trailing_stop=pick([True, False]),
        target_r=pick([0.0, 0.0, 0.5, 2.0]),
        flatten_before_close=pick([1, 5]),
        total_allocation=pick(["0.02", "0.3"]),
        max_trades=pick([2, 4, 4]),
        max_risk_per_trade=pick(["0.025", "0.2"]),
        max_open_positions=pick([2, 5, 20, 20]),
        max_orders_per_minute=pick([1, 10, 10]),
        max_gross_exposure=pick(["0.05", "1", "1"]),
        price_band_pct=pick(["0.001", "0.05"]),
        daily_loss_limit=pick(["0.05", "0.05", "0.001"]),
        window_loss_limit=pick(["0.10", "0.10", "0.01"]),
        max_consecutive_losses=pick([0, 0, 3]),
        defense_mode_active=pick([False, False, True]),
        max_fill_deviation_pct=pick(["0.01", "0.0001"]),
        fixed_units=pick([0, 0, 7_000_000]),
        rebalance_enabled=pick([False, False, True]),
        rebalance_check_interval=pick([60.0, 600.0]),
        rebalance_threshold=pick(["0.002", "0.01", "0.1"]),
        rebalance_top_up=pick([False, True]),
        missing_rejects=False,
    )
    simulation = SimulationSettings(
        slippage_simulation_type=pick(["none", "rule_based", "randomized"]),
        slippage_mean_pct=Decimal("0.15"),
        seed=seed,
        simulated_latency_ms=pick([0, 0, 60_000, 125_000]),
        volume_limit=Decimal(pick(["0", "0.5"])),
        fee_per_share=Decimal(pick(["0", "0.005"])),
    )
    costs = FillCosts.of(simulation, pick(["through", "touch"]))
    costs = attrs.evolve(costs, entry_delay=pick([0, 0, 1]))
    return BacktestTerms(rules=drawn(**given), costs=costs, name=plain_id)


def random_days(seed: int, count: int = 6) -> Counter[str]:
    """Compare the gears on random days with two random strategies."""
    chance, days = np.random.default_rng(seed), sessions(count)
    bars = market(chance, count)
    return both(random_terms(seed), random_parts(chance, bars, days), bars, days)


def random_parts(chance: np.random.Generator, bars: Bars, days: Sequence[Session]) -> list[JudgedSignals]:
    """The signals of two random strategies."""
    parts = []
    crowded = chance.random() < 0.5
    for rank, name in enumerate(("one", "two")):
        exits = ExitRules(
            trigger=chance.choice(["intrabar", "close"]),
            trailing=bool(chance.random() < 0.3),
            leave=int(chance.integers(10, 39)) if chance.random() < 0.7 else None,
            hold=int(chance.integers(0, 15)) if chance.random() < 0.5 else None,
        )
        found = signals(chance, bars, exits)
        if not crowded:  # each strategy has symbols of its own
            found = found.take((found.cells[1] % 2 == rank) & (found.cells[1] < 4))
        parts.append(judged(name, rank, found, days, chance.random(len(found)) < 0.2))
    return parts


FEES: Final = {"fee_atoms_per_share": ATOMS_PER_DOLLAR // 25, "fee_sell_bps": Decimal(80)}
FREE: Final = {"fee_atoms_per_share": 0, "fee_sell_bps": Decimal(0)}


def slipping(kind: str) -> dict[str, Any]:
    """Costs without fees, where a market order or stop loses one or two percent of its price."""
    return FREE | {"slippage": Slippage(kind=kind, mean=0.01, deviation=0.002, seed=0)}


def costs_near_limits(seed: int, costs: dict[str, Any], without: dict[str, Any]) -> Counter[str]:
    """Compare the gears on days with high costs, at loss limits between what was lost with them and `without`.

    Why days had to be walked, and under `bound` how many traded otherwise than without a limit.
    """
    chance, days = np.random.default_rng(seed), sessions(1)
    bars = market(chance, 1)
    parts, wide = random_parts(chance, bars, days), {"daily_loss_limit": "1", "window_loss_limit": "1"}
    fixed = {"rebalance_enabled": False, "max_consecutive_losses": 0, "max_fill_deviation_pct": "1"}

    def terms(**given: Any) -> BacktestTerms:
        made = random_terms(seed, **{**fixed, **wide, **given})
        return attrs.evolve(made, costs=attrs.evolve(made.costs, share_cap=None, **costs))

    def walked(made: BacktestTerms) -> int:
        return walk_session(made, days[0], bars.session(0), found.proposals(0), EQUITY).equity_atoms

    found = candidates_of(parts, terms().rules, terms().costs, bars, 1)
    free, cheap = terms(), attrs.evolve(terms(), costs=attrs.evolve(terms().costs, **without))
    lost, less = EQUITY - walked(free), max(EQUITY - walked(cheap), 0)
    gears = Counter[str]()
    for share in (0.1, 0.5, 0.9) if lost > less else ():
        limit = Decimal(less + int((lost - less) * share)) / EQUITY
        for name, factor in (("daily_loss_limit", 1), ("daily_loss_limit", 2), ("window_loss_limit", 1)):
            whole = terms().rules.risk.total_allocation if name == "window_loss_limit" else 1
            near = terms(**{name: limit * factor / whole})
            gears += both(near, parts, bars, days)
            gears["bound"] += walked(near) != EQUITY - lost
    return gears


def one_signal(bars: Bars, minute: int, exits: ExitRules, side: int = 1, **levels: float) -> JudgedSignals:
    """A signal of AAA on the first day, with the close of its bar as its price."""
    found = Signals(
        cells=(np.array([0]), np.array([0])),
        minute=np.array([minute]),
        side=np.array([side]),
        price=np.array([bars.close[0, 0, minute]]),
        strength=np.array([0.01]),
        stop=np.array([levels.get("stop", NONE)]),
        target=np.array([levels.get("target", NONE)]),
        rule=np.array([0]),
        rules=("edge",),
        exits=exits,
    )
    return judged("one", 0, found, sessions(1))


def edge(draft: SessionDraft, exits: ExitRules, minute: int = 5, **given: Any) -> tuple[ExitReason, int, float] | str:
    """How and when the position of a signal is closed, and at what price, in both gears alike.

    The denial where there is no position. The default stop is at 98, the target at 102.
    """
    levels = {"stop": 98.0, "target": 102.0} | {name: given.pop(name) for name in ("stop", "target") if name in given}
    side = given.pop("side", 1)
    lag = given.pop("lag", 1)
    through = given.pop("through", True)
    bars = Bars({name: draft.bars().field(name)[:, None] for name in NAMES}, ("AAA",))
    wide = {"venue": SIMULATOR_CAPABILITIES, "missing_rejects": False, "fixed_units": 1_000_000}
    free = attrs.evolve(FillCosts.of(SimulationSettings(enable_slippage_model=False), "through"), lag=lag)
    terms = BacktestTerms(
        rules=rules(**{**wide, **given}),
        costs=attrs.evolve(free, through=through, share_cap=None, fee_sell_bps=Decimal(0)),
        name=plain_id,
    )
    part = one_signal(bars, minute, exits, side, **levels)
    assert both(terms, [part], bars, sessions(1)) == {"": 1}
    found = candidates_of([part], terms.rules, terms.costs, bars, 1)
    result = trade_vectorised(VectorisedTerms.of(terms), found, 0, bars, EQUITY)
    if not result.fills:
        return next(
            iter(VectorisedSession(session=sessions(1)[0], opening_atoms=0, candidates=found, result=result).denials)
        )
    ((place, _, _, got, _, _),) = result.fills
    closed = found.rows[place]
    return REASONS[closed.reason], closed.exit_minute, got / 10_000


def flat(minutes: int = MINUTES) -> SessionDraft:
    """A day of bars at 100."""
    return SessionDraft("AAA", minutes=minutes)


INTRABAR, ON_CLOSE = ExitRules(leave=20), ExitRules(trigger="close", leave=20)
EDGES: list[tuple[str, SessionDraft, ExitRules, dict[str, Any], Any]] = [
    ("the exit's bar is there", flat(), INTRABAR, {}, (ExitReason.TIME, 20, 100.0)),
    (
        "the bar returns in exactly the exit's minute",
        flat().gap(15, 20).bar(20, 101.0, open=101.5),
        INTRABAR,
        {},
        (ExitReason.TIME, 20, 101.5),
    ),
    ("the bar returns later", flat().gap(15, 25), INTRABAR, {}, (ExitReason.TIME, 25, 100.0)),
    ("no bar returns", flat().gap(15, 40), INTRABAR, {}, (ExitReason.NO_MARKET, 40, 100.0)),
    ("the stop in the exit order's last minute", flat().bar(19, 97.0), INTRABAR, {}, (ExitReason.STOP, 19, 97.0)),
    (
        "the stop is gone in the exit's minute",
        flat().bar(20, 97.0, open=99.0),
        INTRABAR,
        {},
        (ExitReason.TIME, 20, 99.0),
    ),
    (
        "stop and target in one bar",
        flat().bar(10, 100.0, high=103.0, low=97.0),
        INTRABAR,
        {},
        (ExitReason.STOP, 10, 98.0),
    ),
    (
        "both in the entry's bar",
        flat().bar(6, 100.0, high=103.0, low=97.0),
        INTRABAR,
        {},
        (ExitReason.STOP, 6, 98.0),
    ),
    ("the stop at its level", flat().bar(10, 100.0, low=98.0), INTRABAR, {}, (ExitReason.STOP, 10, 98.0)),
    ("a cent above the stop", flat().bar(10, 100.0, low=98.01), INTRABAR, {}, (ExitReason.TIME, 20, 100.0)),
    ("the open beyond the stop", flat().bar(10, 95.0, open=96.0), INTRABAR, {}, (ExitReason.STOP, 10, 96.0)),
    ("the target is touched", flat().bar(10, 100.0, high=102.0), INTRABAR, {}, (ExitReason.TIME, 20, 100.0)),
    (
        "a touch fills",
        flat().bar(10, 100.0, high=102.0),
        INTRABAR,
        {"through": False},
        (ExitReason.TARGET, 10, 102.0),
    ),
    ("through the target", flat().bar(10, 100.0, high=102.01), INTRABAR, {}, (ExitReason.TARGET, 10, 102.0)),
    ("the open beyond the target", flat().bar(10, 103.0), INTRABAR, {}, (ExitReason.TARGET, 10, 103.0)),
    ("a close at the stop", flat().bar(10, 98.0), ON_CLOSE, {}, (ExitReason.STOP, 11, 100.0)),
    ("a low under a stop on the close", flat().bar(10, 99.0, low=90.0), ON_CLOSE, {}, (ExitReason.TIME, 20, 100.0)),
    ("the close of the exit's minute", flat().bar(19, 97.0), ON_CLOSE, {}, (ExitReason.TIME, 20, 100.0)),
    ("a target with a stop on the close", flat().bar(10, 103.0), ON_CLOSE, {}, (ExitReason.TARGET, 10, 103.0)),
    ("a hold of no minute", flat(), ExitRules(hold=0), {}, (ExitReason.TIME, 7, 100.0)),
    ("hold and leave", flat(), ExitRules(hold=4, leave=30), {}, (ExitReason.TIME, 10, 100.0)),
    ("no time", flat(), ExitRules(), {"flatten_before_close": 5}, (ExitReason.SESSION_END, 35, 100.0)),
    ("at the bell", flat(), ExitRules(), {"flatten_before_close": 1}, (ExitReason.SESSION_END, 39, 100.0)),
    ("the last minute of a trigger", flat(), ExitRules(), {"minute": 33}, (ExitReason.SESSION_END, 35, 100.0)),
    ("a minute later", flat(), ExitRules(), {"minute": 34}, "FLATTENING"),
    ("the last bar that an entry waits for", flat().gap(6, 8), INTRABAR, {}, (ExitReason.TIME, 20, 100.0)),
    ("a bar later", flat().gap(6, 9), INTRABAR, {}, "ENTRY_NOT_FILLED"),
    ("an entry beyond its limit", flat().bar(6, 101.0), INTRABAR, {}, "ENTRY_NOT_FILLED"),
    (
        "an entry at its limit leaves the bar's high",
        flat().bar(6, 103.0, open=101.0, low=99.0),
        INTRABAR,
        {"entry_limit_pct": "0.005"},
        (ExitReason.TIME, 20, 100.0),
    ),
    ("two minutes of latency", flat().bar(21, 100.5), INTRABAR, {"lag": 2}, (ExitReason.TIME, 21, 100.5)),
    (
        "a short's stop",
        flat().bar(10, 103.0, open=101.0),
        INTRABAR,
        {"side": -1, "stop": 102.0, "target": 98.0},
        (ExitReason.STOP, 10, 102.0),
    ),
    (
        "a short through its target",
        flat().bar(10, 99.0, low=97.99),
        INTRABAR,
        {"side": -1, "stop": 102.0, "target": 98.0},
        (ExitReason.TARGET, 10, 98.0),
    ),
    (
        "a trail moves after its bar",
        flat().bar(10, 101.0, low=98.5).bar(11, 100.0, low=98.99),
        ExitRules(leave=20, trailing=True),
        {"target": NONE, "flatten_before_close": 5},
        (ExitReason.TIME, 20, 100.0),
    ),
    (
        "a trail is hit",
        flat().bar(10, 101.0, low=98.5).bar(11, 99.0, open=99.0, low=98.98),
        ExitRules(leave=20, trailing=True),
        {"target": NONE},
        (ExitReason.TRAILING_STOP, 11, 98.98),
    ),
]


@pytest.mark.parametrize(
    ("draft", "exits", "given", "expected"), [one[1:] for one in EDGES], ids=[one[0] for one in EDGES]
)
def test_edges_of_minutes(draft: SessionDraft, exits: ExitRules, given: dict[str, Any], expected: Any) -> None:
    """Both gears agree where a bar returns in exactly the exit's minute, where stop and target meet, at the ends."""
    assert edge(draft, exits, **given) == expected


@pytest.mark.parametrize(
    ("close", "gears"), [(110.0, {"": 1}), (111.0, {"a rebalancing check that changes a position": 1})]
)
def test_a_check_of_positions_matters_where_it_changes_one(close: float, gears: dict[str, int]) -> None:
    """At REBALANCE_THRESHOLD of 10 % a position 10 % above its share is not trimmed; at 11 % it is."""
    terms = BacktestTerms(
        rules=rules(
            venue=SIMULATOR_CAPABILITIES,
            rebalance_enabled=True,
            rebalance_check_interval=600.0,
            missing_rejects=False,
            max_risk_per_trade="0.2",
            total_allocation="0.3",
        ),
        costs=attrs.evolve(random_terms(1).costs, share_cap=None),
        name=plain_id,
    )
    draft = flat()
    for minute in range(7, 12):  # the first check is at the end of minute 9
        draft.bar(minute, close)
    bars = Bars({name: draft.bars().field(name)[:, None] for name in NAMES}, ("AAA",))
    assert both(terms, [one_signal(bars, 5, INTRABAR, stop=98.0)], bars, sessions(1)) == gears


def test_both_gears_give_the_same_on_random_days() -> None:
    """Random signals, exits, settings and bars: the same trades, denials, equity, levels; and both gears are used."""
    gears = sum((random_days(seed) for seed in range(12)), Counter[str]())
    assert gears[""] > 25
    assert set(gears) > {"", "an order that fills in parts"}


@pytest.mark.parametrize(
    ("costs", "without"),
    [(FEES, FREE), (slipping("rule_based"), slipping("none"))],
    ids=["fees", "slippage"],
)
def test_both_gears_see_a_loss_limit_that_costs_alone_reach(costs: dict[str, Any], without: dict[str, Any]) -> None:
    """Limits between the market's loss and that with costs: the same trades, also where the limit changes them."""
    gears = sum((costs_near_limits(seed, costs, without) for seed in range(8)), Counter[str]())
    assert gears["bound"] > 10
    assert gears["a loss near DAILY_LOSS_LIMIT"] > 10
    assert gears["a loss near WINDOW_LOSS_LIMIT"] > 10


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_both_gears_give_the_same_on_many_random_days() -> None:
    """The same for many more, and each cause to walk every minute is among them."""
    gears = sum((random_days(seed) for seed in range(1000, 1250)), Counter[str]())
    assert gears[""] > 400
    assert set(gears) == {
        "",
        "MAX_CONSECUTIVE_LOSSES",
        "a loss near DAILY_LOSS_LIMIT",
        "a loss near WINDOW_LOSS_LIMIT",
        "a rebalancing check that changes a position",
        "an order that fills in parts",
        "fills beyond MAX_FILL_DEVIATION_PCT",
    }
