"""The report in a real browser: nothing is requested, nothing fails, nothing is wider than a phone."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from browser import CHROMIUM, SIZES, THEMES, Page

from tbot_core.journal.projections.book import SessionBook
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.reports import html
from tbot_core.reports.figures import TradingDay
from tbot_core.reports.html.trades import MOST_LINES
from tbot_core.reports.reliability import FactUse, Reliability, Variant
from tbot_core.reports.summary import RunSummary
from tbot_core.reports.timeline import RunTimeline, SessionTimeline
from tbot_core.reports.trade_charts import MOST_CHARTS, ChartLine, TradeCharts, TradedSession, chart_document, largest
from tbot_core.reports.trade_levels import TradeLevels, key_of
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.model.calendar import Session

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
LARGEST = 5_000_000
"""The most bytes of a report, however many trades the run had."""


def trades_of(session: Session, generator: np.random.Generator) -> list[Trade]:
    """Ten trades of one session, with symbols of their own."""
    found = []
    for place in range(10):
        entry = int(generator.integers(21, 340))
        leave = entry + int(generator.integers(1, 45))
        pnl = round(float(generator.normal(2, 15)), 2)
        found.append(
            Trade(
                strategy=("open", "mid", "close")[place % 3],
                instrument=stock(f"S{place}"),
                side=Side.LONG if place % 2 else Side.SHORT,
                quantity=Decimal(100),
                entry_time=session.moment(entry),
                entry_price=Decimal("100.12"),
                exit_time=session.moment(leave),
                exit_price=Decimal("100.3456"),
                fees=Decimal("0.35"),
                pnl=Decimal(str(pnl)),
                exit_reason=(ExitReason.STOP, ExitReason.TARGET, ExitReason.TIME)[place % 3],
            )
        )
    return found


def chart(trade: Trade, session: Session, generator: np.random.Generator) -> Any:
    """A chart of a random walk, with a level and a stop that trails."""
    close = np.round(100 + np.cumsum(generator.normal(0, 0.05, 390)), 2)
    opened = np.concatenate(([100.0], close[:-1]))
    wick = np.round(np.abs(generator.normal(0, 0.04, (2, 390))), 2)
    high, low = np.maximum(opened, close) + wick[0], np.minimum(opened, close) - wick[1]
    prices = {"open": opened, "high": high, "low": low, "close": close}
    vwap = ChartLine(name="VWAP", kind="base", start=0, stop=390, values=np.cumsum(close) / np.arange(1, 391))
    start = session.minute(trade.entry_time)
    stops = tuple((session.moment(start + step * 3), Decimal(99) + step) for step in range(3))
    levels = TradeLevels(minute=start - 1, rule="reversion", stops=stops, target=Decimal("101.5"))
    shown = TradedSession(session=session, prices=prices, lines=(vwap,), start=max(start - 60, 0))
    return chart_document(trade, shown, levels)


def reliability(sessions: Sequence[Session]) -> Reliability:
    """That of a backtest with every finding, and with names that are as long as they get."""
    words = ("at twice the slippage", "with entries one bar later")
    return Reliability(
        variants=[Variant(words=one, trades=40, pnl=Decimal(-1_234_567)) for one in words],
        slippage=Slippage(kind="none", mean=0, deviation=0, seed=0),
        days=[
            TradingDay(open=one.open, close=one.close, opening=Decimal(1000), closing=Decimal(1000)) for one in sessions
        ],
        chosen="UNIVERSE",
        symbols=10,
        facts={
            "debt_to_equity": FactUse(first_days={"S1": sessions[0].date}, ages=(20, 0, 0, 0, 0, 0, 180)),
            "market_cap": FactUse(first_days={}),
        },
        kinds=[("split", "partial"), ("raw", "consolidated")],
        notes=[f"Volumes of {', '.join(f'S{number}' for number in range(10))} are a part of the tape."],
    )


def run_of(count: int) -> tuple[RunSummary, RunTimeline, TradeCharts]:
    """A backtest of so many sessions, with ten trades in each."""
    generator = np.random.default_rng(7)
    sessions = ExchangeCalendar().sessions(dt.date(2018, 1, 2), dt.date(2026, 12, 31))[:count]
    chapters, equity = [], Decimal(100_000)
    for session in sessions:
        trades = trades_of(session, generator)
        after = equity + sum((trade.pnl for trade in trades), Decimal(0))
        chapters.append(
            SessionTimeline(
                date=session.date.isoformat(),
                open=session.open,
                close=session.close,
                opening=equity,
                closing=after,
                closed=True,
                trades=trades,
            )
        )
        equity = after
    by_date = {session.date: session for session in sessions}
    everything = [trade for chapter in chapters for trade in chapter.trades]
    drawn = {key_of(one): chart(one, by_date[key_of(one)[0]], generator) for one in largest(everything, MOST_CHARTS)}
    summary = RunSummary(
        mode="backtest",
        sessions=count,
        symbols=10,
        equity_start=Decimal(100_000),
        equity_end=equity,
        trades=everything,
        denials={"MAX_TRADES": 3},
        settings_hash="5" * 64,
        data_hash="d" * 64,
        notes=("A note about the data.",),
        strategies=("open", "mid", "close"),
        reliability=reliability(sessions),
        walked={"a rebalancing check that changes a position": 1},
    )
    story = RunTimeline(run={"source": "stored bars"}, chapters=tuple(chapters), book=SessionBook(trades=everything))
    return summary, story, TradeCharts(documents=drawn)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of four sessions."""
    return html.write_report(tmp_path_factory.mktemp("browser"), "run", *run_of(4))


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """A browser, for all tests of this module."""
    assert CHROMIUM is not None
    with Page(CHROMIUM) as page:
        yield page


def open_all(page: Page, most: int = 40) -> int:
    """Open the first trades, scroll to each, and return how many charts were drawn."""
    frame = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
    each = f"one.open = true; one.scrollIntoView(); {frame}"
    lines = f"[...document.querySelectorAll('details.trade')].slice(0, {most})"
    page.evaluate(f"(async () => {{ for (const one of {lines}) {{ {each} }} }})()")
    page.settle()
    drawn: int = page.evaluate("document.querySelectorAll('.plot canvas').length")
    return drawn


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("theme", THEMES)
def test_a_report_is_drawn_without_a_fault(report: Path, browser: Page, width: int, theme: str) -> None:
    """No console message, exception or request; every curve and every trade's chart is drawn; nothing is cut off."""
    browser.open(report, width, theme)
    assert open_all(browser) == 40
    assert browser.evaluate("document.querySelectorAll('figure canvas').length") == 3
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    cut = "[...document.querySelectorAll('.groups dd')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert browser.evaluate(cut) == 0
    assert browser.faults == []


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_without_scripts_the_curves_and_levels_are_readable(report: Path, browser: Page, tmp_path: Path) -> None:
    """The static drawings stay, and a trade opens to its levels and to the reason of its missing chart."""
    browser.open(report, 390, scripts=False)
    browser.screenshot(tmp_path / "plain.png", 400)
    page = report.read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert page.count("<noscript>") == 40
    assert browser.faults == []


def test_a_chart_goes_when_its_trade_is_closed(report: Path, browser: Page) -> None:
    """Charts exist only while they are open, so that a long report stays light; the button opens and closes all."""
    browser.open(report, 1280)
    assert open_all(browser, 3) == 3
    browser.evaluate("document.querySelectorAll('details.trade').forEach((one) => { one.open = false; })")
    browser.settle()
    assert browser.evaluate("document.querySelectorAll('.plot canvas').length") == 0
    browser.evaluate("document.getElementById('open-all').click()")
    browser.settle()
    assert browser.evaluate("document.querySelectorAll('details.trade[open]').length") == 40
    browser.evaluate("document.getElementById('open-all').click()")
    browser.settle()
    assert browser.evaluate("document.querySelectorAll('details.trade[open]').length") == 0
    assert browser.faults == []


def test_a_run_without_a_trade_says_what_to_change(browser: Page, tmp_path: Path) -> None:
    """Its curves are flat, and in place of the trades stands what denied most, with what changes it."""
    summary, story, _ = run_of(3)
    chapters = tuple(
        attrs.evolve(one, trades=[], opening=Decimal(100_000), closing=Decimal(100_000)) for one in story.chapters
    )
    without = attrs.evolve(summary, trades=(), equity_end=Decimal(100_000))
    quiet = attrs.evolve(story, chapters=chapters, book=SessionBook())
    path = html.write_report(tmp_path, "quiet", without, quiet, TradeCharts())
    for width in SIZES:
        browser.open(path, width)
        browser.settle()
        assert browser.evaluate("document.documentElement.scrollWidth") == width
    text = path.read_text(encoding="utf-8")
    assert without.no_trade_advice()
    for sentence in without.no_trade_advice():
        assert text.count(escape(sentence)) == 1
    assert browser.faults == []


@pytest.mark.first(0)  # over 1.5 seconds
def test_the_report_of_a_long_run_stays_small(tmp_path: Path, browser: Page) -> None:
    """Of a run of 22,000 trades the page lists and draws those with the largest results, and says so; CSV has all."""
    summary, story, charts = run_of(2_200)
    path = html.write_report(tmp_path, "long", summary, story, charts)
    assert path.stat().st_size < LARGEST
    assert path.with_suffix(".csv").read_text(encoding="utf-8").count("\n") == 22_001
    text = path.read_text(encoding="utf-8")
    assert text.count('<details class="trade"') == MOST_LINES
    assert "lists the 2,000 trades with the largest profit or loss; the CSV file has all 22,000" in text
    assert "The 1,000 trades with the largest profit or loss have a chart." in text
    browser.open(path, 390)
    assert open_all(browser, 2) >= 1
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert browser.faults == []


def test_few_trades_have_no_such_sentence(report: Path) -> None:
    """What is complete needs no caveat; missing charts are explained."""
    text = report.read_text(encoding="utf-8")
    assert "largest profit or loss" not in text
    summary, story, charts = run_of(1)
    missing = attrs.evolve(
        charts, documents={}, missing="10 trades have no price chart: the bars are no longer stored."
    )
    assert "10 trades have no price chart: the bars are no longer stored." in html.render_page(summary, story, missing)
