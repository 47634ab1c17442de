"""Screening, judgement and proposals: from facts and signals to what the desk decides on."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Check
from tbot_core.contracts.settings import StrategySettings
from tbot_core.model.bars import Bars
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.types import Side
from tbot_core.model.window import Window
from tbot_core.testing.sessions import NAMES, SessionDraft, day
from tbot_core.testing.trades import DAY, NONE, proposal, rules
from tbot_core.trading.proposals import (
    ActiveStrategy,
    ScanResult,
    cut_reasons,
    judge,
    judge_scan,
    propose,
    renew,
    screen,
    universe_cut,
)
from tbot_core.trading.verdicts import passed_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.trading.proposals import TradingRules

WINDOW = Window(start=0, analysis=20, breakout=10, monitoring=30)
FRAME = StrategySettings(start_time=dt.time(14, 30), analysis_minutes=20, breakout_minutes=10, monitoring_minutes=30)


def signals(*rows: dict[str, Any], exits: ExitRules | None = None) -> Signals:
    """Signals as columns; each row says what differs from a long one of minute 25 at 100 USD in its own row."""
    whole = [
        {"row": at, "minute": 25, "side": 1, "price": 100.0, "strength": 0.01, "stop": NONE, "target": NONE, **row}
        for at, row in enumerate(rows)
    ]

    def column(name: str, kind: type[np.generic]) -> Any:
        return np.array([row[name] for row in whole], dtype=kind)

    return Signals(
        cells=(column("row", np.intp),),
        minute=column("minute", np.intp),
        side=column("side", np.intp),
        price=column("price", np.float64),
        strength=column("strength", np.float64),
        stop=column("stop", np.float64),
        target=column("target", np.float64),
        rule=np.zeros(len(whole), dtype=np.intp),
        rules=("breakout",),
        exits=exits or ExitRules(),
    )


@attrs.frozen(kw_only=True)
class Silent:
    """A strategy that only has a window."""

    window: Window = WINDOW

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:  # noqa: ARG002 - the protocol's names
        """Nothing."""
        return signals()


@attrs.frozen(kw_only=True)
class Choosy(Silent):
    """A strategy with a condition of its own."""

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """The VIX, unknown denies whatever FILTER_MISSING_DATA says."""
        return [check(np.broadcast_to(day.vix, day.previous_close.shape), low=15.0, required=True)]


def check(value: Any, *, low: Any = None, high: Any = None, required: bool = False) -> Check:
    """A comparison with codes that tests can tell apart."""
    return Check(
        name="check",
        value=np.asarray(value, dtype=np.float64),
        low=low,
        high=high,
        below=Reason.PRICE_LOW,
        above=Reason.PRICE_HIGH,
        unknown=Reason.GAP_UNKNOWN,
        required=required,
    )


@attrs.frozen(kw_only=True, eq=False)
class Fixed:
    """A filter that says what it was told."""

    screens: tuple[Check, ...] = ()
    judges: tuple[Check, ...] = ()

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """Known before the bell."""
        return self.screens

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """Known at the signal."""
        return self.judges


def entrant(strategy: Any = None, short_type: str = "ShortSell") -> ActiveStrategy:
    """A strategy's part in a run."""
    return ActiveStrategy(
        name="open", rank=2, strategy=strategy or Silent(), frame=attrs.evolve(FRAME, short_type=short_type)
    )


def screened(
    found: TradingRules, facts: DayFacts, symbols: str, strategy: Any = None, minutes: int = 390
) -> list[Reason]:
    """The reason of each symbol."""
    return [
        REASON_BY_CODE[code]
        for code in screen(entrant(strategy), found, facts, tuple(symbols), minutes).reasons.tolist()
    ]


def judged(
    found: TradingRules, rows: Signals, draft: SessionDraft, short_type: str = "ShortSell", **facts: Any
) -> list[Reason]:
    """The reason of each signal."""
    market = MarketView(bars=draft.bars(), day=draft.day(**facts))
    return [
        REASON_BY_CODE[code] for code in judge(entrant(short_type=short_type), found, rows, market).reasons.tolist()
    ]


def proposed(rows: Signals, draft: SessionDraft, found: TradingRules | None = None, **facts: Any) -> list[Any]:
    """The proposals of one session in which every symbol is a candidate."""
    bars, known = draft.bars(), draft.day(**facts)
    ruling = found or rules()
    before = screen(entrant(), ruling, known, bars.symbols, 390)
    scan = ScanResult(signals=rows, screened=before, dates=(DAY,))
    return propose(entrant(), ruling, scan, MarketView(bars=bars, day=known))


def test_watched_symbols_are_no_candidates() -> None:
    """Those of the setting, and those that a session adds; BLOCKLIST is the first reason."""
    found = rules(blocklist=frozenset({"A"}), watch_only=frozenset({"A", "B"})).watching({"C"})
    facts = day(4)
    codes = screen(entrant(), found, facts, ("A", "B", "C", "D"), 390).reasons.tolist()
    names = [REASON_BY_CODE[code].name for code in codes]
    assert names == ["BLOCKLISTED", "WATCH_ONLY", "WATCH_ONLY", "ALLOWED"]


def test_a_denial_that_leaves_the_reason_to_the_plugin_has_its_name_and_words() -> None:
    """Not where the code says it all, and not where it passed."""
    own = attrs.evolve(check([9.0, 1.0], high=5.0), above=Reason.SCREEN_DENIED, words="The P/E is too high.")
    found = rules(filters={"one": Fixed(screens=(own, check([9.0, 1.0], high=5.0)))})
    verdicts = screen(entrant(), found, day(2), ("A", "B"), 390)
    assert [(one.plugin, one.words) for one in verdicts.findings(0)] == [("one", "The P/E is too high."), ("", "")]
    assert [(one.plugin, one.words) for one in verdicts.findings(1)] == [("", ""), ("", "")]


def test_a_comparison_that_does_not_apply_to_funds_passes_them() -> None:
    """Unknown, too low or too high: a fund passes, and the result says why."""
    value = [NONE, 1.0, 9.0, NONE, 1.0, 9.0]
    exempt = attrs.evolve(check(value, low=2.0, high=5.0, required=True), funds=np.arange(6) < 3)
    verdicts = screen(entrant(), rules(filters={"one": Fixed(screens=(exempt,))}), day(6), tuple("ABCDEF"), 390)
    denied = [Reason.GAP_UNKNOWN, Reason.PRICE_LOW, Reason.PRICE_HIGH]
    assert [REASON_BY_CODE[code] for code in verdicts.reasons.tolist()] == [Reason.ALLOWED] * 3 + denied
    assert [verdicts.findings(row)[0].applies for row in range(6)] == [False] * 3 + [True] * 3


def test_the_universe_is_cut_after_everything_else() -> None:
    """The UNIVERSE_MAX largest by dollar volume stay; unknown ones go first, ties by symbol; a denial comes before."""
    facts = day(5, previous_close=[10, 20, 10, 10, 900], average_volume=[100.0, 60.0, NONE, 100.0, 90.0])
    found, symbols = rules(blocklist=frozenset({"E"}), universe_max=2), ("A", "B", "C", "D", "E")
    cut = universe_cut([entrant(), entrant()], found, facts, symbols, 390)
    assert [REASON_BY_CODE[code].name for code in screen(entrant(), found, facts, symbols, 390, cut=cut).reasons] == [
        "ALLOWED",
        "ALLOWED",
        "UNIVERSE_TRUNCATED",
        "UNIVERSE_TRUNCATED",
        "BLOCKLISTED",
    ]
    assert universe_cut([entrant()], rules(universe_max=5), facts, symbols, 390) is None


def test_what_one_strategy_may_enter_is_not_cut_before_what_none_may() -> None:
    """Two strategies share the universe; without one the volumes decide alone."""
    facts = day(2, previous_close=[10, 10], average_volume=[5.0, 9.0])
    found, symbols = rules(universe_max=1, blocklist=frozenset({"B"})), ("A", "B")
    cut = universe_cut([entrant()], found, facts, symbols, 390)
    assert cut is not None
    assert cut.tolist() == [False, True]
    alone = universe_cut([], found, facts, symbols, 390)
    assert alone is not None
    assert alone.tolist() == [True, False]


def test_what_a_filter_will_likely_deny_is_cut_first_and_denied_by_nothing_before_the_bell() -> None:
    """A share of 900 USD is a candidate where there is room, and gives way to one that may be traded."""
    facts = day(3, previous_close=[900, 10, 20], average_volume=[90.0, 60.0, 60.0])
    likely = attrs.evolve(check([900.0, 10.0, 20.0], high=100), likely=True)
    found, symbols = rules(universe_max=2, filters={"one": Fixed(screens=(likely,))}), ("A", "B", "C")
    cut = universe_cut([entrant()], found, facts, symbols, 390)
    assert cut is not None
    assert cut.tolist() == [True, False, False]
    assert [REASON_BY_CODE[code] for code in screen(entrant(), found, facts, symbols, 390).reasons] == [
        Reason.ALLOWED
    ] * 3
    reasons = cut_reasons([entrant()], found, facts, symbols, 390)
    assert [REASON_BY_CODE[code] for code in reasons] == [Reason.PRICE_HIGH, Reason.ALLOWED, Reason.ALLOWED]


@pytest.mark.parametrize(("minutes", "reason"), [(35, Reason.ALLOWED), (34, Reason.WINDOW_OUTSIDE_SESSION)])
def test_a_window_needs_room_before_flattening(minutes: int, reason: Reason) -> None:
    """The entry phase ends at minute 30: with five minutes of flattening 35 are enough, 34 are not."""
    assert screened(rules(), day(1), "A", minutes=minutes) == [reason]


@pytest.mark.parametrize(
    ("vix", "reason"), [(14.99, Reason.PRICE_LOW), (15.0, Reason.ALLOWED), (NONE, Reason.GAP_UNKNOWN)]
)
@pytest.mark.parametrize("rejects", [True, False])
def test_a_strategys_own_condition_is_screened(vix: float, reason: Reason, rejects: bool) -> None:
    """Equal passes; what is required and unknown denies even with FILTER_MISSING_DATA=pass."""
    assert screened(rules(missing_rejects=rejects), day(1, vix=vix), "A", Choosy()) == [reason]


@pytest.mark.parametrize(("rejects", "reason"), [(True, Reason.GAP_UNKNOWN), (False, Reason.ALLOWED)])
def test_filter_missing_data_decides_on_the_unknown(rejects: bool, reason: Reason) -> None:
    """NaN is denied or passed as FILTER_MISSING_DATA says, never compared."""
    one = Fixed(screens=(check([NONE, 5.0], low=1.0, high=9.0),), judges=(check([NONE, 5.0], low=1.0, high=9.0),))
    found = rules(missing_rejects=rejects, filters={"one": one})
    assert screened(found, day(2), "AB") == [reason, Reason.ALLOWED]
    assert judged(found, signals({}, {}), SessionDraft("A", "B")) == [reason, Reason.ALLOWED]


def test_what_passes_without_a_value_is_known_by_its_reason() -> None:
    """No fund to which the comparison does not apply, nothing that another check denies; nothing if it is rejected."""
    funds = attrs.evolve(check([NONE, NONE, 5.0, NONE]), funds=np.array([False, True, False, False]))
    checks = (funds, check([5.0, 5.0, NONE, 0.5], low=1.0), check([5.0, 5.0, NONE, 5.0]))
    found = rules(missing_rejects=False, filters={"one": Fixed(screens=checks)})
    passed = passed_unknown(screen(entrant(), found, day(4), tuple("ABCD"), 390))
    assert {name: flags.tolist() for name, flags in passed.items()} == {"GAP_UNKNOWN": [True, False, True, False]}
    assert passed_unknown(screen(entrant(), rules(filters=found.filters), day(4), tuple("ABCD"), 390)) == {}


def test_the_first_check_that_denies_gives_the_reason() -> None:
    """Checks keep the order of FILTERS; bounds may differ from row to row and equal passes."""
    first = check([0.0, 10.0, 5.0, 1.0, 9.0], low=np.array([1.0] * 5), high=9.0)
    second = check([10.0, 0.0, 0.0, 1.0, 9.0], low=1.0, high=9.0)
    found = rules(filters={"one": Fixed(judges=(first,)), "two": Fixed(judges=(second,))})
    assert judged(found, signals({}, {}, {}, {}, {}), SessionDraft(*"ABCDE")) == [
        Reason.PRICE_LOW,
        Reason.PRICE_HIGH,
        Reason.PRICE_LOW,
        Reason.ALLOWED,
        Reason.ALLOWED,
    ]


def test_findings_explain_one_row() -> None:
    """Value, bounds and reason of every check, also of those that passed."""
    one = Fixed(judges=(check([5.0, NONE], low=1.0), check([0.5, 0.5], low=1.0, high=np.array([2.0, 3.0]))))
    found = rules(filters={"one": one})
    market = MarketView(bars=SessionDraft("A", "B").bars(), day=day(2))
    result = judge(entrant(), found, signals({}, {}), market)
    passed, failed = result.findings(0)
    assert (passed.value, passed.low, passed.high, passed.reason) == (5.0, 1.0, None, Reason.ALLOWED)
    assert (failed.value, failed.high, failed.reason) == (0.5, 2.0, Reason.PRICE_LOW)
    assert result.findings(1)[0].reason is Reason.GAP_UNKNOWN


@pytest.mark.parametrize(
    ("short_type", "reason"),
    [
        ("ShortSell", Reason.ALLOWED),
        ("shortsell", Reason.ALLOWED),
        ("disabled", Reason.SHORT_DISABLED),
        ("InverseETF", Reason.SHORT_BY_FUND_UNAVAILABLE),
        ("LongPut", Reason.SHORT_BY_PUT_UNAVAILABLE),
    ],
)
def test_short_type_says_how_to_go_short(short_type: str, reason: Reason) -> None:
    """It concerns short signals alone."""
    rows = signals({"side": -1}, {"side": 1})
    assert judged(rules(), rows, SessionDraft("A", "B"), short_type, previous_close=100.0) == [reason, Reason.ALLOWED]


RESTRICTED: list[tuple[str, float, float, float, bool, Reason]] = [
    ("no fall", 100.0, 99.0, False, True, Reason.ALLOWED),
    ("just above", 100.0, 90.0001, False, True, Reason.ALLOWED),
    ("exactly", 100.0, 90.0, False, True, Reason.SHORT_RESTRICTED),
    ("exactly, of a price that is no binary fraction", 10.10, 9.09, False, True, Reason.SHORT_RESTRICTED),
    ("yesterday", 100.0, 99.0, True, True, Reason.SHORT_RESTRICTED),
    ("unknown, reject", NONE, 99.0, False, True, Reason.SHORT_RESTRICTED),
    ("unknown, pass", NONE, 99.0, False, False, Reason.ALLOWED),
    ("yesterday unknown, reject", 100.0, 99.0, NONE, True, Reason.SHORT_RESTRICTED),
    ("yesterday unknown, pass", 100.0, 99.0, NONE, False, Reason.ALLOWED),
    ("yesterday unknown, a fall today", 100.0, 90.0, NONE, False, Reason.SHORT_RESTRICTED),
]


@pytest.mark.parametrize(
    ("previous", "low", "before", "rejects", "reason"),
    [row[1:] for row in RESTRICTED],
    ids=[row[0] for row in RESTRICTED],
)
def test_short_sales_are_restricted_after_a_fall(
    previous: float, low: float, before: float, rejects: bool, reason: Reason
) -> None:
    """A low at or under 0.9 x previous close, today up to the signal or yesterday, or unknown; longs do not care."""
    draft = SessionDraft("A", "B", price=low + 1).bar(20, low + 1, low=low).bar(20, low + 1, "B", low=low)
    rows = signals({"side": -1, "price": low + 1}, {"side": 1, "price": low + 1})
    found = judged(rules(missing_rejects=rejects), rows, draft, previous_close=previous, restricted=before)
    assert found == [reason, Reason.ALLOWED]


def test_a_fall_after_the_signal_restricts_nothing() -> None:
    """Only lows up to the signal bar count."""
    draft = SessionDraft("A").bar(26, 80.0)
    assert judged(rules(), signals({"side": -1}), draft, previous_close=100.0) == [Reason.ALLOWED]


def test_proposals_carry_what_the_signal_said() -> None:
    """Identity, levels and rank; a denied one also what was compared."""
    one = Fixed(judges=(check([5.0, 0.5], low=1.0),))
    rows = signals({"target": 110.0, "stop": 97.0}, {"side": -1}, exits=ExitRules(leave=60))
    allowed, denied = proposed(rows, SessionDraft("A", "B"), rules(filters={"one": one}), previous_close=100.0)
    assert (allowed.signal.text, allowed.rank, allowed.row) == ("2026-01-05/open/A/25/breakout", 2, 0)
    assert (allowed.stop, allowed.target, allowed.exits.leave, allowed.side) == (97.0, 110.0, 60, Side.LONG)
    assert (allowed.reason, allowed.findings) == (Reason.ALLOWED, ())
    assert (denied.reason, denied.side) == (Reason.PRICE_LOW, Side.SHORT)
    assert [finding.value for finding in denied.findings] == [0.5]


def test_symbols_screened_out_have_no_proposals() -> None:
    """They were decided before the bell."""
    found = rules(blocklist=frozenset({"A"}))
    assert [one.signal.symbol for one in proposed(signals({}, {}), SessionDraft("A", "B"), found)] == ["B"]


def test_a_block_gives_each_session_its_own() -> None:
    """The same signals, scanned together or alone, are the same proposals, in any order that is asked for."""
    bars = SessionDraft("A", "B").bars()
    block = Bars({name: np.stack([bars.field(name)] * 3, axis=1) for name in NAMES}, bars.symbols)
    rows = attrs.evolve(signals({}, {}), cells=(np.array([2, 0]), np.array([1, 0])))
    facts = day(2)
    whole = DayFacts.from_arrays({name: np.stack([value] * 3) for name, value in facts.arrays().items()})
    before = screen(entrant(), rules(), whole, bars.symbols, 390)
    dates = tuple(DAY.replace(day=number) for number in (5, 6, 7))
    judged = judge_scan(
        entrant(), rules(), ScanResult(signals=rows, screened=before, dates=dates), MarketView(bars=block, day=whole)
    )
    assert judged.sessions.tolist() == [2, 0]
    assert [one.signal.text for one in judged.proposals([1, 0])] == [
        "2026-01-05/open/A/25/breakout",
        "2026-01-07/open/B/25/breakout",
    ]


@pytest.mark.parametrize(
    ("atr", "side", "stop", "expected"),
    [
        (2.0, 1, NONE, 97.0),
        (2.0, -1, NONE, 103.0),
        (2.0, 1, 99.0, 99.0),  # the strategy's own
        (NONE, 1, NONE, NONE),  # STOP_LOSS_PCT stands in when it is planned
        (0.0, 1, NONE, NONE),
        (70.0, 1, NONE, NONE),  # a stop under zero protects nothing
    ],
)
def test_stop_atr_protects_signals_without_a_stop(atr: float, side: int, stop: float, expected: float) -> None:
    """So many ATR-14 from the signal's price, where that is known and less than the price."""
    rows = signals({"side": side, "stop": stop})
    found = proposed(rows, SessionDraft("A"), rules(stop_atr=1.5), atr=atr, previous_close=100.0)[0]
    assert found.stop == pytest.approx(expected, nan_ok=True)
    off = proposed(rows, SessionDraft("A"), rules(), atr=atr, previous_close=100.0)[0]
    assert off.stop == pytest.approx(stop, nan_ok=True)


@pytest.mark.parametrize(
    ("side", "close", "stop", "target", "reason"),
    [
        (1, 101.0, 98.0, NONE, Reason.ALLOWED),
        (1, 98.0, 98.0, NONE, Reason.CONFIRMED_TOO_LATE),
        (1, 104.0, 98.0, 104.0, Reason.CONFIRMED_TOO_LATE),
        (1, 103.99, NONE, 104.0, Reason.ALLOWED),
        (-1, 99.0, 102.0, 96.0, Reason.ALLOWED),
        (-1, 102.5, 102.0, NONE, Reason.CONFIRMED_TOO_LATE),
    ],
)
def test_a_confirmed_proposal_takes_the_price_of_now(
    side: int, close: float, stop: float, target: float, reason: Reason
) -> None:
    """Its levels stay; beyond one of them it is too late. It is decided in the latest closed minute."""
    draft = SessionDraft("AAA", minutes=31).bar(29, close).gap(30, 31)
    old = proposal(side=Side(side), stop=stop, target=target, reason=Reason.FILTER_DENIED)
    old = attrs.evolve(old, reference=77.0)
    market = MarketView(bars=draft.bars(), day=day(1, previous_close=100.0))
    found = renew(entrant(), rules(), old, market)
    assert found is not None
    assert (found.price, found.sizing_price, found.reason) == (close, close, reason)
    assert np.isnan(found.stop) if np.isnan(stop) else found.stop == stop
    assert (found.minute, found.signal, old.minute) == (30, old.signal, 25)


def test_a_confirmed_proposal_is_judged_by_the_filters_again() -> None:
    """At the price of now: what the filter would deny as a signal it denies, and says what it compared."""

    @attrs.frozen(kw_only=True, eq=False)
    class Capped(Fixed):
        """A filter that looks at the signal's price."""

        def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
            """No more than 101 dollars."""
            return (check(signals.price, high=101.0),)

    market = MarketView(bars=SessionDraft("AAA", minutes=27).bar(26, 101.5).bars(), day=day(1))
    found = renew(entrant(), rules(filters={"one": Capped()}), proposal(), market)
    assert found is not None
    assert found.reason is not Reason.ALLOWED
    assert [finding.value for finding in found.findings] == [101.5]


def test_without_a_price_nothing_is_judged_anew() -> None:
    """The symbol has no bar yet after a restart, or is heard no more."""
    market = MarketView(bars=SessionDraft("AAA", minutes=5).gap(0, 5).bars(), day=day(1))
    assert renew(entrant(), rules(), proposal(), market) is None
    assert renew(entrant(), rules(), attrs.evolve(proposal(), row=None), market) is None
