"""The banner of a backtest: what is compared, when it warns, and what it says about the data."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any

import attrs
import click
import pytest

from tbot_core.cli.run_text import backtest_lines
from tbot_core.journal.projections.book import SessionBook
from tbot_core.model.formatting import MINUS
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.reports import html
from tbot_core.reports.figures import TradingDay
from tbot_core.reports.reliability import FactUse, Reliability, UnknownFacts, Variant, reliability_report
from tbot_core.reports.summary import RunSummary
from tbot_core.reports.timeline import RunTimeline
from tbot_core.reports.trade_charts import TradeCharts
from tbot_core.trading.slippage import Slippage

OPEN = dt.datetime(2018, 7, 2, 13, 30, tzinfo=dt.UTC)
CLOSE = OPEN + dt.timedelta(minutes=390)
DAY = dt.timedelta(days=1)
NONE = Slippage(kind="none", mean=0.0015, deviation=0.001, seed=0)
CAPS = FactUse(first_days={"AAA": dt.date(2018, 6, 30)}, ages=(0, 1, 1, 0, 0, 1200, 2))
SLIPS = Slippage(kind="randomized", mean=0.0015, deviation=0.001, seed=0)


def days(*equity: str) -> list[TradingDay]:
    """Sessions, each with the equity at its open and, from the next one, at its close."""
    return [
        TradingDay(open=OPEN + at * DAY, close=CLOSE + at * DAY, opening=Decimal(opening), closing=Decimal(closing))
        for at, (opening, closing) in enumerate(itertools.pairwise(equity))
    ]


def known(slippage: Slippage = SLIPS, pnls: tuple[str, str] = ("80", "60"), **changes: Any) -> Reliability:
    """Two sessions of raw bars whose variants have these results."""
    words = ("at twice the slippage", "with entries one bar later")
    variants = [
        Variant(words=one, trades=100, pnl=Decimal(pnl), costs_only=one == words[0])
        for one, pnl in zip(words, pnls, strict=True)
    ]
    made = Reliability(
        variants=variants,
        slippage=slippage,
        days=days("1000", "1000", "1000"),
        chosen="stored",
        symbols=2,
        facts={},
        kinds=[("raw", "consolidated")],
    )
    return attrs.evolve(made, **changes)


def trade(entry: int, leave: int, pnl: str, day: dt.timedelta = DAY) -> Trade:
    """A trade between two minutes of the second session, by default."""
    return Trade(
        strategy="open",
        instrument=stock("AAA"),
        side=Side.LONG,
        quantity=Decimal(1),
        entry_time=OPEN + day + dt.timedelta(minutes=entry),
        entry_price=Decimal(10),
        exit_time=OPEN + day + dt.timedelta(minutes=leave),
        exit_price=Decimal(11),
        fees=Decimal(0),
        pnl=Decimal(pnl),
        exit_reason=ExitReason.TIME,
    )


MANY = [trade(30, 60, "1")] * 100


def summary(reliability: Reliability | None, **changes: Any) -> RunSummary:
    """A backtest with the hundred trades."""
    made = RunSummary(
        mode="backtest",
        sessions=2,
        symbols=2,
        equity_start=Decimal(1000),
        equity_end=Decimal(1100),
        trades=MANY,
        denials={},
        settings_hash="s",
        data_hash="d",
        reliability=reliability,
    )
    return attrs.evolve(made, **changes)


def page(one: RunSummary) -> str:
    """Its report."""
    return html.render_page(one, RunTimeline(run={}, chapters=(), book=SessionBook()), TradeCharts())


def test_a_trade_counts_by_the_fills_in_a_sessions_first_and_last_minutes() -> None:
    """Minute 4 is among the first five and 5 is not; 385 is among the last five, 384 is not; the close counts."""
    trades = [trade(4, 384, "10"), trade(5, 385, "20"), trade(0, 390, "30"), trade(5, 390, "40", dt.timedelta())]
    rows = reliability_report(known(), trades, Decimal(100)).rows
    assert [(one.words, one.trades, str(one.pnl), one.percent[:-2]) for one in rows] == [
        ("this backtest", 4, "100", "100"),
        ("at twice the slippage", 100, "80", "80"),
        ("with entries one bar later", 100, "60", "60"),
        ("entered in the first 5 minutes", 2, "40", "40"),
        ("closed in the last 5 minutes", 3, "90", "90"),
    ]


@pytest.mark.parametrize("pnls", [("10", "-10"), ("10", "-20"), ("100", "-99.1")])
def test_there_are_no_shares_of_a_loss_or_of_nearly_nothing(pnls: tuple[str, str]) -> None:
    """Without a profit of a hundredth of all profits and losses together there are dollars alone."""
    trades = [trade(30, 60, pnl) for pnl in pnls]
    rows = reliability_report(known(), trades, sum(map(Decimal, pnls), Decimal(0))).rows
    assert [(one.share, one.percent) for one in rows] == [(None, "")] * 5


@pytest.mark.parametrize(
    ("slippage", "pnls", "headline", "distrust"),
    [
        (
            SLIPS,
            ("80", "60"),
            "80 % of the profit is left at twice the slippage, 60 % with entries one bar later.",
            False,
        ),
        (
            SLIPS,
            ("49", "60"),
            "Distrust this result: less than half of the profit is left at twice the slippage.",
            True,
        ),
        (SLIPS, ("49", "0"), "Distrust this result: no profit is left with entries one bar later.", True),
        (
            SLIPS,
            ("-1", "-2"),
            "Distrust this result: no profit is left at twice the slippage and with entries one bar later.",
            True,
        ),
        (NONE, ("100", "60"), "Distrust this result: no slippage is simulated, and real fills cost more.", True),
        (attrs.evolve(SLIPS, mean=0, deviation=0), ("100", "60"), "Distrust this result: no slippage", True),
    ],
)
def test_the_headline_is_the_gravest_finding(
    slippage: Slippage, pnls: tuple[str, str], headline: str, distrust: bool
) -> None:
    """A lost profit before a halved one before costs that are not simulated; else what is left of the profit."""
    report = reliability_report(known(slippage, pnls), MANY, Decimal(100))
    assert report.headline.replace("\N{NO-BREAK SPACE}", " ").startswith(headline)
    assert (report.distrust, report.warnings) == (distrust, [])


def test_what_else_is_wrong_are_warnings() -> None:
    """Costs that are not simulated beside a lost profit, few trades, and profits of the first or last minutes."""
    trades = [trade(2, 60, "51"), trade(30, 388, "51"), trade(30, 60, "-2")]
    assert reliability_report(known(NONE, ("0", "0")), trades, Decimal(100)).warnings == [
        "No slippage is simulated, and real fills cost more.",
        "3 trades are few: the result may be chance.",
        "More than half of the profit is from trades entered in the first 5 minutes, where fills are least certain.",
        "More than half of the profit is from trades closed in the last 5 minutes, where fills are least certain.",
    ]


@pytest.mark.parametrize(
    ("trades", "pnl", "headline"),
    [
        ([], "0", "No trade: there is nothing to judge."),
        (MANY, "0", "The backtest made no profit."),
        (MANY, "0.5", "Distrust this result: the profit is near zero."),
    ],
)
def test_without_a_profit_nothing_is_left_of_it(trades: list[Trade], pnl: str, headline: str) -> None:
    """No trade, no profit and next to none have a headline of their own."""
    assert reliability_report(known(), trades, Decimal(pnl)).headline == headline


@pytest.mark.parametrize(
    ("title", "words", "changes"),
    [
        ("Slippage", "Randomized, mean 0.15 %, deviation 0.10 % of the price", {}),
        ("Slippage", "Rule_based, mean 0.15 % of the price", {"slippage": attrs.evolve(SLIPS, kind="rule_based")}),
        ("Slippage", "None is simulated: twice of it changes nothing.", {"slippage": NONE}),
        ("Universe", "All 2 symbols with stored bars. Delisted symbols are missing", {}),
        ("Universe", "The only 1 symbol with stored bars.", {"symbols": 1}),
        ("Universe", "The 2 symbols that were named.", {"chosen": "--symbols"}),
        ("Universe", "The 2 symbols of UNIVERSE.", {"chosen": "UNIVERSE"}),
        ("Fundamentals", "No filter used any.", {}),
        (
            "Fundamentals",
            (
                "market_cap: of 1 of 2 symbols, from 2018-06-30 on at the earliest; unknown before. Its age in 1,204 "
                "decisions (symbols x sessions): at most 7 days 1, at most 30 days 1, more than 365 days 1,200, "
                "unknown 2. A session uses"
            ),
            {"facts": {"market_cap": CAPS}},
        ),
        (
            "Fundamentals",
            "eps: nothing is stored, so it was unknown in every session. A session uses",
            {"facts": {"eps": FactUse(first_days={})}},
        ),
        (
            "Unknown facts",
            "FILTER_MISSING_DATA=pass let signals pass without a known fact (VOLUME_UNKNOWN 1,200); 2018-07-02 is the",
            {"unknown": UnknownFacts(signals={"VOLUME_UNKNOWN": 1200}, first_known=dt.date(2018, 7, 2))},
        ),
        ("Bars", "Prices raw; volumes consolidated.", {}),
        (
            "Bars",
            "Prices raw, split; volumes partial. So be it.",
            {"kinds": [("split", "partial"), ("raw", "partial")], "notes": ["So be it."]},
        ),
    ],
)
def test_what_is_known_about_the_data_is_said(title: str, words: str, changes: dict[str, Any]) -> None:
    """Slippage, universe, fundamentals and kinds of bars have a sentence each."""
    found = dict(reliability_report(known(**changes), MANY, Decimal(100)).facts)
    assert found[title].replace("\N{NO-BREAK SPACE}", " ").startswith(words)


def test_page_text_and_document_say_the_same() -> None:
    """Headline, warnings, results and facts are in all three; what the banner states is no note of page and text."""
    facts = {"market_cap": CAPS}
    reliability = known(NONE, ("100", "-3"), facts=facts, notes=["Volumes of AAA are a part of the tape."])
    one = summary(reliability, notes=["Volumes of AAA are a part of the tape.", "No quotes."])
    report = one.reliability_report
    assert report is not None
    rendered, text = page(one), click.unstyle("\n".join(backtest_lines(one, None)))
    for words in (report.headline, *report.warnings, *(words for _, words in report.facts)):
        assert words.replace("&", "&amp;") in rendered
        assert words in text
    for shown in (rendered, text):
        assert shown.count("Volumes of AAA are a part of the tape.") == 1
        assert shown.count("No quotes.") == 1
    assert '<div class="trust warned">' in rendered
    assert f"  with entries one bar later         100    {MINUS}3.00" in text
    document = one.document()
    assert document["notes"] == list(one.notes)
    assert document["reliability"] == {
        "distrust": True,
        "headline": report.headline,
        "warnings": list(report.warnings),
        "results": [
            {"result": "this backtest", "trades": 100, "pnl": "100.00", "share": "1.0000"},
            {"result": "at twice the slippage", "trades": 100, "pnl": "100.00", "share": None},
            {"result": "with entries one bar later", "trades": 100, "pnl": "-3.00", "share": "-0.0300"},
            {"result": "entered in the first 5 minutes", "trades": 0, "pnl": "0.00", "share": "0.0000"},
            {"result": "closed in the last 5 minutes", "trades": 0, "pnl": "0.00", "share": "0.0000"},
        ],
        "slippage": "none",
        "universe": {"chosen_by": "stored", "symbols": 2},
        "facts": {
            "market_cap": {
                "symbols": 1,
                "first": "2018-06-30",
                "ages": {"1": 0, "7": 1, "30": 1, "90": 0, "365": 0, "older": 1200, "unknown": 2},
            }
        },
        "unknown_facts": None,
        "adjustments": ["raw"],
        "volumes": ["consolidated"],
    }


def test_only_a_backtest_has_a_banner_and_gears() -> None:
    """A run that is no backtest has neither."""
    one = summary(None)
    assert "trust" not in page(one).partition("</style>")[2]
    assert one.gears == ""
    assert not {"reliability", "gears"} & one.document().keys()


@pytest.mark.parametrize(
    ("walked", "words"),
    [
        ({}, "252 sessions: 252 by their signals alone"),
        (
            {"a loss near DAILY_LOSS_LIMIT": 2},
            "252 sessions: 250 by their signals alone, 2 minute by minute (2 a loss near DAILY_LOSS_LIMIT)",
        ),
        (
            {"an index fund": 1, "a rebalancing check that changes a position": 251},
            "252 sessions: 252 minute by minute (251 a rebalancing check that changes a position, 1 an index fund)",
        ),
    ],
)
def test_the_share_of_each_gear_is_one_line(walked: dict[str, int], words: str) -> None:
    """How many sessions were decided by their signals and how many were walked, and why: in text, page and JSON."""
    one = summary(known(), sessions=252, walked=walked)
    assert f"{words}." in list(backtest_lines(one, None))
    assert f"<dt>Decided</dt><dd>{words}</dd>" in page(one)
    by_signals = 252 - sum(walked.values())
    assert one.document()["gears"] == {"by_signals": by_signals, "minute_by_minute": walked}


@pytest.mark.parametrize(
    ("gains", "sessions", "believed"),
    [((12, 4), 20, False), ((12, 4), 19, True), ((12, -8), 20, True)],
)
def test_a_sharpe_ratio_that_is_too_good_is_distrusted(
    gains: tuple[int, int], sessions: int, *, believed: bool
) -> None:
    """Above 5 over 20 sessions or more the headline says so, and names the check for bars of the future."""
    steps = itertools.islice(itertools.cycle(gains), sessions)
    equity = [str(one) for one in itertools.accumulate(steps, initial=10_000)]
    report = reliability_report(known(pnls=("100", "100"), days=days(*equity)), MANY, Decimal(100))
    assert report.distrust is not believed
    if not believed:
        assert report.headline.startswith("Distrust this result: a Sharpe ratio of 30.")
        assert "is too good to be true" in report.headline
        assert "`--check-lookahead`" in report.headline


def test_the_banner_says_that_look_ahead_is_not_checked() -> None:
    """With the command that checks it, whatever the result."""
    for pnl in (100, -100):
        facts = dict(reliability_report(known(), MANY, Decimal(pnl)).facts)
        assert "Not checked by a backtest. `tbot backtest --check-lookahead`" in facts["Look-ahead"]
