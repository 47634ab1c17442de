"""Filter price_volume: every limit at its edge, what is unknown, funds, quotes, and the table of funds."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from tbot_filter_price_volume import Config, PriceVolume, tbot_filter

from tbot_core.contracts import Context
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import SettingsError
from tbot_core.model.bars import Quotes
from tbot_core.model.day_facts import MarketView
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.testing.filter import FilterContract
from tbot_core.testing.sessions import SessionDraft

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts import Check

NAN = float("nan")
MINUTE = 30
FRAME = StrategySettings(max_gap_pct=Decimal("0.1"))
PLAIN = PriceVolume(config=Config())


def _signals(draft: SessionDraft) -> Signals:
    # A long signal of every symbol at minute 30.
    price = draft.bars().close[..., MINUTE]
    count = len(price)
    whole = np.zeros(count, dtype=np.intp)
    return Signals(
        cells=(np.arange(count),),
        minute=whole + MINUTE,
        side=whole + 1,
        price=price,
        strength=np.zeros(count),
        stop=price - 1,
        target=np.full(count, NAN),
        rule=whole,
        rules=("test",),
        exits=ExitRules(),
    )


def _outcome(check: Check) -> list[Reason]:
    # What the check says of each row where unknown denies.
    low, high = (
        np.asarray(default if bound is None else bound)
        for bound, default in ((check.low, -np.inf), (check.high, np.inf))
    )
    said = np.full(check.value.shape, Reason.ALLOWED, dtype=object)
    said[check.value < low] = check.below
    said[check.value > high] = check.above
    said[np.isnan(check.value)] = check.unknown
    if check.funds is not None:
        said[check.funds] = Reason.ALLOWED
    reasons: list[Reason] = said.tolist()
    return reasons


def _judged(
    subject: PriceVolume, draft: SessionDraft, frame: StrategySettings = FRAME, **facts: Any
) -> dict[str, list[Reason]]:
    quotes = facts.pop("quotes", None)
    typical = facts.pop("typical_volume", None)
    day = attrs.evolve(draft.day(**facts), typical_volume=typical)
    checks = subject.judge(_signals(draft), MarketView(bars=draft.bars(), day=day, quotes=quotes), frame)
    return {check.name: _outcome(check) for check in checks}


def _quotes(bid: float, ask: float, age_s: float = 1.0) -> Quotes:
    return Quotes(bid=np.array([bid]), ask=np.array([ask]), age_s=np.array([age_s]))


class TestContract(FilterContract):
    """The filter keeps the contract with every comparison on."""

    @pytest.fixture
    def subject(self) -> PriceVolume:
        """Every limit on, and one of the kit's symbols a fund."""
        config = Config(min_price=70.0, max_price=90.0, min_volume=400_000, min_relative_volume=1.0)
        return PriceVolume(config=config, funds=frozenset({"S004"}))


class TestContractOfTheGapBeforeTheBell(FilterContract):
    """The other reference of the gap keeps the contract too."""

    @pytest.fixture
    def subject(self) -> PriceVolume:
        """The gap against the previous close."""
        return PriceVolume(config=Config(gap_reference="previous_close"))


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (4.9999, Reason.PRICE_LOW),
        (5.0, Reason.ALLOWED),
        (100.0, Reason.ALLOWED),
        (100.0001, Reason.PRICE_HIGH),
    ],
)
def test_prices_include_their_limits(price: float, reason: Reason) -> None:
    """The signal bar's close may equal MIN_PRICE and MAX_PRICE."""
    subject = PriceVolume(config=Config(min_price=5.0, max_price=100.0))
    assert _judged(subject, SessionDraft(price=price))["price"] == [reason]
    assert _judged(PriceVolume(config=Config(min_price=0)), SessionDraft(price=price))["price"] == [Reason.ALLOWED]


@pytest.mark.parametrize("limits", [Config(min_price=5.0), Config(min_price=0, max_price=100.0)])
def test_an_adjusted_price_is_compared_with_no_limit(limits: Config) -> None:
    """What the symbol traded at is unknown: before the bell, with a code of its own, and at the signal."""
    subject, draft = PriceVolume(config=limits), SessionDraft("AAA", "BBB")
    day = attrs.evolve(draft.day(previous_close=50.0), adjusted=np.array([True, False]))
    likely, raw = subject.screen(day, draft.symbols, FRAME)
    assert (_outcome(likely), likely.likely) == ([Reason.FILTER_UNKNOWN, Reason.ALLOWED], True)
    assert (_outcome(raw), raw.likely) == ([Reason.PRICE_UNKNOWN, Reason.ALLOWED], False)
    price, _ = subject.judge(_signals(draft), MarketView(bars=draft.bars(), day=day), FRAME)
    assert _outcome(price) == [Reason.FILTER_UNKNOWN, Reason.ALLOWED]


def test_without_a_limit_an_adjusted_price_is_as_good_as_any() -> None:
    """Nothing is compared, so nothing is unknown."""
    subject, draft = PriceVolume(config=Config(min_price=0)), SessionDraft("AAA")
    day = attrs.evolve(draft.day(previous_close=50.0), adjusted=np.array([True]))
    checks = subject.screen(day, draft.symbols, FRAME)
    price, _ = subject.judge(_signals(draft), MarketView(bars=draft.bars(), day=day), FRAME)
    assert [_outcome(check) for check in (*checks, price)] == [[Reason.ALLOWED]] * 2


def test_limits_that_let_nothing_pass_are_refused() -> None:
    """MIN_PRICE above MAX_PRICE is a fault of the settings that names both."""
    with pytest.raises(SettingsError, match="MIN_PRICE=5 is above MAX_PRICE=4"):
        Config(min_price=5.0, max_price=4.0)


@pytest.mark.parametrize(
    ("opened", "last", "reason"),
    [
        (100.0, 110.0, Reason.ALLOWED),
        (100.0, 110.0001, Reason.GAP_LARGE),
        (100.0, 90.0, Reason.ALLOWED),
        (100.0, 89.9999, Reason.GAP_LARGE),
        (33.3, 36.63, Reason.ALLOWED),
        (70.7, 63.63, Reason.ALLOWED),
    ],
)
def test_the_gap_is_the_last_price_against_todays_open(opened: float, last: float, reason: Reason) -> None:
    """Equal to MAX_GAP_PCT passes at any price, a tick more does not; both directions count."""
    draft = SessionDraft(price=opened).bar(MINUTE, last)
    assert _judged(PLAIN, draft)["gap"] == [reason]


def test_todays_open_is_that_of_the_first_bar() -> None:
    """A row that begins late has its open there."""
    draft = SessionDraft(price=100).gap(0, 10).bar(10, 100, open=80).bar(MINUTE, 89)
    assert _judged(PLAIN, draft)["gap"] == [Reason.GAP_LARGE]


@pytest.mark.parametrize(
    ("previous", "opened", "reason"),
    [
        (100.0, 110.0, Reason.ALLOWED),
        (100.0, 110.0001, Reason.GAP_LARGE),
        (100.0, 90.0, Reason.ALLOWED),
        (100.0, 89.9, Reason.GAP_LARGE),
        (NAN, 100.0, Reason.GAP_UNKNOWN),
    ],
)
def test_the_gap_against_the_previous_close(previous: float, opened: float, reason: Reason) -> None:
    """GAP_REFERENCE=previous_close compares today's open with it, whatever the last price is; unknown has its code."""
    subject = PriceVolume(config=Config(gap_reference="previous_close"))
    draft = SessionDraft(price=opened).bar(MINUTE, opened * 2)
    assert _judged(subject, draft, previous_close=previous)["gap"] == [reason]


@pytest.mark.parametrize(
    ("quotes", "age", "spread"),
    [
        (_quotes(99.85, 100.15), Reason.ALLOWED, Reason.ALLOWED),
        (_quotes(99.84, 100.16), Reason.ALLOWED, Reason.SPREAD_WIDE),
        (_quotes(100, 100), Reason.ALLOWED, Reason.ALLOWED),
        (_quotes(100, 100, 10.0), Reason.ALLOWED, Reason.ALLOWED),
        (_quotes(100, 100, 10.01), Reason.NO_QUOTE, Reason.ALLOWED),
        (_quotes(NAN, NAN, NAN), Reason.NO_QUOTE, Reason.NO_QUOTE),
        (_quotes(NAN, 100), Reason.NO_QUOTE, Reason.NO_QUOTE),
        (_quotes(100, NAN), Reason.NO_QUOTE, Reason.NO_QUOTE),
        (_quotes(0, 100), Reason.NO_QUOTE, Reason.NO_QUOTE),
        (_quotes(0, 0), Reason.NO_QUOTE, Reason.NO_QUOTE),
        (_quotes(101, 100), Reason.NO_QUOTE, Reason.NO_QUOTE),
    ],
)
def test_quotes_are_fresh_two_sided_and_narrow(quotes: Quotes, age: Reason, spread: Reason) -> None:
    """A spread of exactly MAX_SPREAD_PCT and an age of 10 s pass; one-sided and crossed quotes are none."""
    judged = _judged(PLAIN, SessionDraft(), quotes=quotes)
    assert (judged["quote age"], judged["spread"]) == ([age], [spread])


def test_a_missing_quote_denies_whatever_missing_data_do() -> None:
    """Both comparisons of quotes are required; without a source of quotes neither is made."""
    draft = SessionDraft()
    market = MarketView(bars=draft.bars(), day=draft.day(), quotes=_quotes(NAN, NAN, NAN))
    checks = PLAIN.judge(_signals(draft), market, FRAME)
    assert {check.name for check in checks if check.required} == {"quote age", "spread"}
    assert set(_judged(PLAIN, draft)) == {"price", "gap"}


@pytest.mark.parametrize(
    ("typical", "reason"),
    [
        (15_500.0, Reason.ALLOWED),
        (15_501.0, Reason.REL_VOLUME_LOW),
        (NAN, Reason.REL_VOLUME_UNKNOWN),
        (0.0, Reason.REL_VOLUME_UNKNOWN),
        (None, Reason.REL_VOLUME_UNKNOWN),
    ],
)
def test_relative_volume_is_that_of_the_same_minutes(typical: float | None, reason: Reason) -> None:
    """31,000 shares by minute 30 against twice the typical volume of that minute; equal passes."""
    subject = PriceVolume(config=Config(min_relative_volume=2.0))
    column = None if typical is None else np.full((1, 390), 1.0)
    if column is not None:
        column[0, MINUTE] = typical if typical is not None else NAN
    assert _judged(subject, SessionDraft(), typical_volume=column)["relative volume"] == [reason]


def test_it_asks_for_typical_volume_only_where_it_looks() -> None:
    """The dear fact is needed with MIN_REL_VOLUME above 0 and not without."""
    assert PLAIN.needs == frozenset()
    assert PriceVolume(config=Config(min_relative_volume=0.5)).needs == {"typical_volume"}


def test_mean_volume_is_screened_where_it_has_a_limit() -> None:
    """Equal to MIN_VOLUME_THRESHOLD passes, less does not, unknown has its code; 0 compares nothing."""
    draft = SessionDraft("AAA", "BBB", "CCC")
    day = draft.day(average_volume=[1_000_000, 999_999, NAN])
    _, check = PriceVolume(config=Config(min_volume=1_000_000)).screen(day, draft.symbols, FRAME)
    assert _outcome(check) == [Reason.ALLOWED, Reason.VOLUME_LOW, Reason.VOLUME_UNKNOWN]
    assert all(one.likely for one in PLAIN.screen(day, draft.symbols, FRAME))


def test_the_price_of_a_signal_is_likely_that_of_the_close_before() -> None:
    """It denies nothing before the bell: only where there are too many symbols those beyond the limits go first."""
    draft = SessionDraft("AAA", "BBB", "CCC", "DDD")
    day = draft.day(previous_close=[4.99, 5.0, 100.01, NAN])
    (check,) = PriceVolume(config=Config(min_price=5, max_price=100)).screen(day, draft.symbols, FRAME)
    assert check.likely
    assert _outcome(check) == [Reason.PRICE_LOW, Reason.ALLOWED, Reason.PRICE_HIGH, Reason.FILTER_UNKNOWN]


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        ("2e9", "10e9", [Reason.MARKET_CAP_LOW, Reason.ALLOWED, Reason.ALLOWED, Reason.MARKET_CAP_HIGH]),
        ("2e9", None, [Reason.MARKET_CAP_LOW, Reason.ALLOWED, Reason.ALLOWED, Reason.ALLOWED]),
        (None, "10e9", [Reason.ALLOWED, Reason.ALLOWED, Reason.ALLOWED, Reason.MARKET_CAP_HIGH]),
    ],
)
def test_capitalisation_includes_its_limits(least: str | None, most: str | None, expected: list[Reason]) -> None:
    """Equal to either limit passes; the other may be off."""
    draft = SessionDraft("AAA", "BBB", "CCC", "DDD", "EEE")
    frame = StrategySettings(
        min_market_cap=None if least is None else Decimal(least), max_market_cap=None if most is None else Decimal(most)
    )
    day = draft.day(market_cap=[2e9 - 1, 2e9, 10e9, 10e9 + 1, NAN])
    _, check = PLAIN.screen(day, draft.symbols, frame)
    assert _outcome(check) == [*expected, Reason.MARKET_CAP_UNKNOWN]


def test_funds_are_exempt_from_limits_of_capitalisation() -> None:
    """A fund passes with a capitalisation outside the limits, and with an unknown one; a stock beside it does not."""
    draft = SessionDraft("ABC", "IWM", "SPY")
    day = draft.day(market_cap=[NAN, 1.0, NAN])
    subject = PriceVolume(config=Config(), funds=frozenset({"IWM", "SPY"}))
    _, check = subject.screen(
        day, draft.symbols, StrategySettings(min_market_cap=Decimal(10), max_market_cap=Decimal(20))
    )
    assert _outcome(check) == [Reason.MARKET_CAP_UNKNOWN, Reason.ALLOWED, Reason.ALLOWED]


def test_what_the_source_says_of_a_fund_goes_before_the_table() -> None:
    """A fund that the table lacks is exempt, a stock that it has is not; of an unknown kind the table decides."""
    draft = SessionDraft("ABC", "IWM", "SPY")
    day = attrs.evolve(draft.day(market_cap=[NAN, 1.0, NAN]), fund=np.array([1.0, 0.0, NAN]))
    subject = PriceVolume(config=Config(), funds=frozenset({"IWM", "SPY"}))
    _, check = subject.screen(day, draft.symbols, StrategySettings(min_market_cap=Decimal(10)))
    assert _outcome(check) == [Reason.ALLOWED, Reason.MARKET_CAP_LOW, Reason.ALLOWED]


def test_the_shipped_table_names_common_funds(tmp_path: Path) -> None:
    """Without a table of one's own the shipped one serves: funds are in it, stocks are not."""
    subject = _created(tmp_path)
    assert subject.funds >= {"SPY", "QQQ", "IWM", "DIA", "TLT", "GLD", "SQQQ", "XLP", "UVXY", "INDA"}
    assert not subject.funds & {"AAPL", "STZ", "SBUX", "V", "MSFT"}


def test_ones_own_table_takes_its_place(tmp_path: Path) -> None:
    """A funds.csv in the plugin's data folder is used in place of the shipped one."""
    (tmp_path / "funds.csv").write_text("symbol,name\nZZZ,A fund\n\nBRK.B,\n")
    assert _created(tmp_path).funds == {"ZZZ", "BRK.B"}


def test_the_offer_is_the_plugin(tmp_path: Path) -> None:
    """The hook returns plugin `price_volume` with its settings."""
    plugin = tbot_filter()
    assert (plugin.name, plugin.config, plugin.tables) == ("price_volume", Config, ("funds.csv",))
    assert _created(tmp_path).config == Config()


def _created(folder: Path) -> PriceVolume:
    context = Context(clock=None, log=None, data_dir=folder)  # type: ignore[arg-type]  # it asks for its folder alone
    created = tbot_filter().create(Config(), context)
    assert isinstance(created, PriceVolume)
    return created
