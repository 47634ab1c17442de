"""The report: self-contained, escaped, the same bytes for the same run."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from decimal import Decimal
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.journal import codec
from tbot_core.journal.events.risk import PositionStuck, RiskChanged
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.formatting import (
    MINUS,
    format_money,
    format_percent,
    format_price,
    format_prices,
    format_quantity,
    plural,
)
from tbot_core.model.json_document import parse_json
from tbot_core.rehearsal.failover_drill import OutageScenario
from tbot_core.reports import html
from tbot_core.reports.html import HEAD_BYTES, charts, read_facts
from tbot_core.reports.summary import SIMULATED_PRICES, RunSummary
from tbot_core.reports.timeline import RunTimeline, SessionTimeline, in_order_of_entry, read_timeline, with_gaps
from tbot_core.reports.trade_charts import TradeCharts
from tbot_core.reports.trade_levels import key_of

if TYPE_CHECKING:
    from pathlib import Path


OPEN = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
CALENDAR = ExchangeCalendar()
EMPTY = RunSummary(
    mode="replay",
    sessions=0,
    symbols=0,
    equity_start=Decimal(0),
    equity_end=Decimal(0),
    trades=(),
    denials={},
    settings_hash="s",
    data_hash="d",
)


NONE = TradeCharts()


def chart_points(page: str) -> Any:
    """The data of a page's charts."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return parse_json(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with a finished demo."""
    folder = tmp_path_factory.mktemp("report")
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(folder), "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def events(home: Path) -> list[Event]:
    """The demo's journal."""
    (file,) = (home / "data" / "runs").glob("*.sqlite")
    journal = read_journal(file)
    found = list(journal.events())
    journal.close()
    return found


@pytest.fixture(scope="module")
def page(home: Path) -> str:
    """The demo's report."""
    (file,) = (home / "reports").glob("*.html")
    return file.read_text(encoding="utf-8")


class _Balanced(HTMLParser):
    # Checks that every element that is opened is closed.
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """An element without content needs no end."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_report_loads_nothing(page: str) -> None:
    """No element names an address, the policy allows only this page's style and script; elements are balanced."""
    assert not re.search(r"<link|<img|<iframe|url\(|@import| src=| href=", page)
    assert re.findall(r"https?://[^\s\"']*", page) == ["https://github.com/leeoniya/uPlot"]  # the banner of its file
    parser = _Balanced()
    parser.feed(page)
    assert parser.open == []


def test_figures_on_simulated_prices_say_so(page: str) -> None:
    """One sentence stands above them, once; a report on market prices has none."""
    assert f"<strong>SIMULATED PRICES</strong> {SIMULATED_PRICES}" in page.partition('<ul class="cards">')[0]
    assert page.count(SIMULATED_PRICES) == 1
    market = html.render_page(EMPTY, read_timeline([]), NONE)
    assert SIMULATED_PRICES not in market


def test_a_report_says_in_its_head_what_a_list_shows_of_it(page: str) -> None:
    """Source, sessions, trades and P&L, within the first bytes; a run without a session has no days."""
    facts = read_facts(page.encode()[:HEAD_BYTES])
    assert facts is not None
    assert (facts["source"], facts["simulated"], facts["sessions"]) == ("simulated market", True, 2)
    assert (facts["first"], facts["last"]) == ("2026-03-02", "2026-03-03")
    assert facts["trades"] > 0
    story = attrs.evolve(read_timeline([]), run={"source": 'a "<source>"' * 50})
    empty = html.render_page(EMPTY, story, NONE).encode()[:HEAD_BYTES]
    wanted = {"simulated": False, "first": None, "last": None, "sessions": 0, "trades": 0, "pnl": "0.00"}
    assert read_facts(empty) == {"source": ('a "<source>"' * 50)[:100], **wanted}
    assert read_facts(b"<!doctype html><p>no report") is None


def test_the_policy_names_the_hashes_of_style_and_script(page: str) -> None:
    """What runs and what styles is exactly what was shipped: any other script or style is refused by the browser."""
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    (style,), (script,) = (re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL) for name in ("style", "script"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert policy == f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"


def test_the_report_says_all_that_happened(page: str, events: list[Event]) -> None:
    """Banner, three drawings, each trade, each reason with its sentence, near misses, notes and hashes are there."""
    story = read_timeline(events)
    assert "SIMULATED PRICES" in page
    assert page.count("<svg") == 3
    for trade in story.book.trades:
        assert f"<b>{trade.symbol}</b>" in page
    for name in story.book.denials:
        assert f"<code>{name}</code>" in page
    assert "Count (symbols x strategies)" in page
    assert "Near misses" in page
    assert story.run["settings_hash"] in page
    assert story.run["data_hash"] in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, home: Path, events: list[Event], page: str) -> None:
    """Written again from the journal, the report does not change by a byte."""
    (file,) = (home / "reports").glob("*.html")
    story = read_timeline(events)
    summary = attrs.evolve(
        EMPTY,
        mode="demo",
        sessions=story.book.sessions,
        symbols=story.book.symbols,
        equity_start=story.book.equity_start,
        equity_end=story.book.equity,
        trades=tuple(story.book.trades),
        denials=story.book.denials,
        settings_hash=story.run["settings_hash"],
        data_hash=story.run["data_hash"],
        simulated=story.run["simulated"],
        notes=tuple(story.run["notes"]),
    )
    points = chart_points(page)["trades"]
    keys = (key_of(trade) for chapter in story.chapters for trade in in_order_of_entry(chapter.trades))
    drawn = TradeCharts(documents=dict(zip(keys, points, strict=True)))
    path = html.write_report(tmp_path, "again", summary, story, drawn)
    assert path.read_text(encoding="utf-8") == page
    assert path.name == "again.html"
    assert path.with_suffix(".csv").read_bytes() == file.with_suffix(".csv").read_bytes()


def test_text_from_outside_is_escaped() -> None:
    """A source or a note that holds markup is shown as text."""
    hostile = "<script>alert(1)</script>"
    story = RunTimeline(run={"source": hostile, "run_id": hostile}, chapters=(), book=SessionBook())
    text = html.render_page(attrs.evolve(EMPTY, notes=(hostile,)), story, NONE)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;") == 5
    assert "MARKET PRICES" in text
    assert "There were none." in text


def test_changes_of_risk_are_listed() -> None:
    """A latch is shown with its time, its cause and the figures compared."""
    change = RiskChanged(
        what="daily loss latch",
        cause="DAILY_LOSS_LIMIT reached",
        value=Decimal("-5001.5"),
        limit=Decimal(-5000),
    )
    chapter = SessionTimeline(
        date="2026-11-24",
        open=OPEN,
        close=OPEN + dt.timedelta(minutes=390),
        opening=Decimal(100_000),
        closing=Decimal(94_998),
        risk=[(OPEN + dt.timedelta(minutes=61), change)],
    )
    text = html.render_page(EMPTY, RunTimeline(run={}, chapters=(chapter,), book=SessionBook()), NONE)
    for words in ("daily loss latch", "DAILY_LOSS_LIMIT reached", f"{MINUS}5,001.50", "10:31", "2026-11-24"):
        assert words in text


def test_chapters_add_up_to_the_run(events: list[Event]) -> None:
    """Trades and profits of the sessions are those of the run, and each curve ends at its session's equity."""
    story = read_timeline(events)
    assert sum(len(chapter.trades) for chapter in story.chapters) == len(story.book.trades)
    assert sum(chapter.pnl for chapter in story.chapters) == story.book.equity - story.book.equity_start
    for chapter in story.chapters:
        assert chapter.closed
        assert chapter.curve[-1] == (chapter.close, chapter.closing)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_money(Decimal("99978.7476")), "99,978.75"),
        (format_money(Decimal("-0.004")), "0.00"),
        (format_money(Decimal("-5.6031"), signed=True), f"{MINUS}5.60"),
        (format_money(Decimal("0.001"), signed=True), "0.00"),
        (format_money(Decimal("12.5"), signed=True), "+12.50"),
        (format_price(Decimal("33.75")), "33.75"),
        (format_price(Decimal("33.2476")), "33.2476"),
        (format_quantity(Decimal("11.848341")), "11.848"),
        (format_quantity(Decimal(20)), "20"),
        (format_quantity(Decimal(1200)), "1,200"),
        (format_percent(Decimal("0.0153")), "1.53\N{NO-BREAK SPACE}%"),
        (format_percent(-0.00001), "0.00\N{NO-BREAK SPACE}%"),
        (format_percent(Decimal("-0.1"), 0), f"{MINUS}10\N{NO-BREAK SPACE}%"),
        (plural(1, "entry", "entries"), "1 entry"),
        (plural(2, "entry", "entries"), "2 entries"),
        (plural(1000, "trade"), "1,000 trades"),
    ],
)
def test_figures_read_well(shown: str, expected: str) -> None:
    """Money to the cent without a negative zero, prices and quantities without needless digits."""
    assert shown == expected


def test_the_prices_of_a_column_have_as_many_decimals_as_the_finest() -> None:
    """One price with four decimals gives them to all, so that the points stand under each other."""
    assert format_prices([Decimal("31.23"), Decimal("1031.6548")]) == ["31.2300", "1,031.6548"]
    assert format_prices([Decimal("31.23"), Decimal("1031.6")]) == ["31.23", "1,031.60"]
    assert format_prices([]) == []


def test_the_columns_of_the_report_have_one_number_of_decimals(page: str, events: list[Event]) -> None:
    """Entry prices of all sessions have as many decimals, and so have exit prices."""
    for column in ("entry", "exit"):
        found = re.findall(rf'<span class="{column} n">([\d,.]+)</span>', page)
        assert len(found) == len(read_timeline(events).book.trades)
        assert len({len(text.partition(".")[2]) for text in found}) == 1


@pytest.mark.parametrize("closing", ["34.71", "-34.71", "0", "0.004", "20", "99.99", "100.01", "12345.6", "-0.37"])
def test_every_bar_ends_between_two_lines(closing: str) -> None:
    """The highest line of the sessions' chart is at or above the tallest bar, the lowest at or below the deepest."""
    days = [
        SessionTimeline(
            date=f"2026-11-2{number}",
            open=OPEN,
            close=OPEN + dt.timedelta(minutes=390),
            opening=Decimal(100_000),
            closing=Decimal(100_000) + pnl,
        )
        for number, pnl in enumerate([Decimal(closing), Decimal("-11.5")])
    ]
    drawn = charts.sessions(RunTimeline(run={}, chapters=tuple(days), book=SessionBook()))
    lines = sorted(float(y) for y in re.findall(r'<line class="grid"[^>]* y1="([\d.]+)"', drawn))
    assert 3 <= len(lines) <= 7
    bars = re.findall(r'<rect [^>]*y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn)
    assert bars
    for top, height in bars:
        assert lines[0] - 0.11 <= float(top)
        assert float(top) + float(height) <= lines[-1] + 1.01


def story_with_gaps(*days: str, asked: tuple[str, str] | None = None) -> RunTimeline:
    """A run of these sessions, with the gaps that the calendar says are between them, or in a range."""
    chapters, equity = [], Decimal(100_000)
    for day in days:
        session = CALENDAR.session(dt.date.fromisoformat(day))
        assert session is not None
        chapters.append(
            SessionTimeline(
                date=day, open=session.open, close=session.close, opening=equity, closing=equity + 1, closed=True
            )
        )
        equity += 1
    run = {} if asked is None else {"request": dict(zip(("first", "last"), asked, strict=True))}
    return with_gaps(RunTimeline(run=run, chapters=tuple(chapters), book=SessionBook()), CALENDAR)


@pytest.mark.parametrize(
    ("days", "lines", "words"),
    [
        (("2026-11-23", "2026-11-24", "2026-11-25", "2026-11-27"), 1, ""),
        (("2026-11-23", "2026-11-25"), 2, " Nothing was traded in the grey part: the session of 2026-11-24."),
        (
            ("2025-11-24", "2026-11-23", "2026-11-25"),
            3,
            (
                " Nothing was traded in the 2 grey parts: 250 sessions in all, "
                "at most 249 sessions from 2025-11-25 to 2026-11-20."
            ),
        ),
    ],
)
def test_a_curve_is_broken_where_nothing_was_traded(days: tuple[str, ...], lines: int, words: str) -> None:
    """A gap has a strip in place of the line, and its words below the title; a holiday is no gap."""
    story = story_with_gaps(*days)
    for drawn, kind in ((charts.equity(story), "line"), (charts.drawdown(story), "fall")):
        (path,) = re.findall(rf'<path class="{kind}" d="([^"]+)"', drawn)
        assert (path.count("M"), drawn.count('<rect class="gap"')) == (lines, lines - 1)
        strips = re.findall(r'class="gap" x="([\d.]+)" y="14" height="\d+" width="([\d.]+)"', drawn)
        ends = [float(piece.rpartition("H")[2].partition("V")[0]) for piece in path.split("M")[1:]]
        for (left, width), end, piece in zip(strips, ends, path.split("M")[2:], strict=False):
            assert float(left) == pytest.approx(end, abs=0.11)
            assert float(piece.partition(" ")[0]) == pytest.approx(float(left) + float(width), abs=0.21)
    assert f"USD.{words}</p>" in charts.equity(story)
    assert charts.sessions(story).count('<rect class="gap"') == lines - 1
    points = charts.series(story)
    assert points["equity"].count(None) == points["drawdown"].count(None) == len(points["gaps"]) == lines - 1
    assert points["x"] == sorted(points["x"])
    assert len(points["places"]) == len(days)


def test_a_curve_has_a_strip_where_the_range_begins_before_its_sessions_and_ends_after_them() -> None:
    """One line between two strips, which the words count; the points begin after the first, and `end` is after all."""
    story = story_with_gaps("2026-11-23", "2026-11-24", asked=("2026-11-19", "2026-11-25"))
    for drawn, kind in ((charts.equity(story), "line"), (charts.drawdown(story), "fall")):
        (path,) = re.findall(rf'<path class="{kind}" d="([^"]+)"', drawn)
        assert (path.count("M"), drawn.count('<rect class="gap"')) == (1, 2)
    words = "Nothing was traded in the 2 grey parts: 3 sessions in all, at most 2 sessions from 2026-11-19 to"
    assert words in charts.equity(story)
    points = charts.series(story)
    assert (points["places"], points["end"]) == ([1, 2], 4)
    assert points["gaps"] == [
        [0, 1, "2 sessions from 2026-11-19 to 2026-11-20"],
        [3, 4, "the session of 2026-11-25"],
    ]
    assert points["equity"][0] is points["equity"][-1] is None


def test_a_long_gap_leaves_the_sessions_their_width() -> None:
    """However many sessions it has: years without bars take a small part of the chart."""
    first = [f"{one.date}" for one in CALENDAR.sessions(dt.date(2020, 1, 2), dt.date(2020, 4, 30))]
    places = charts.Places(story_with_gaps(*first, "2026-11-23"))
    ((start, end, gap),) = places.gaps
    assert (start, gap.count > 1_600) == (len(first), True)
    assert 1 < end - start <= places.end * 0.05


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """A day of two brokers, the first of which was cut off for ten minutes."""
    return OutageScenario(troubles=((0, "F60", 5.0, 15.0),)).play(tmp_path_factory.mktemp("broken")).story.events


def of(events: list[Event]) -> RunSummary:
    """What those events came to."""
    book = fold_events(events)
    return attrs.evolve(EMPTY, mode="paper", trades=tuple(book.trades), brokers=tuple(book.brokers))


@pytest.mark.slow
def test_a_report_of_several_brokers_names_that_of_each_trade(broken: list[Event]) -> None:
    """Each trade has its broker, each broker its profit, and a session's profit is that of all of them."""
    story, summary = read_timeline(broken), of(broken)
    text = html.render_page(summary, story, NONE)
    assert summary.brokers == ("alpha", "beta")
    for trade in summary.trades:
        assert f"<b>{trade.symbol}</b> <i>[{trade.strategy.upper()}] long at {trade.broker}</i>" in text
    assert {trade.broker for trade in summary.trades} == {"alpha", "beta"}
    assert "<h2>By broker</h2>" in text
    assert sum(pnl for _, _, pnl in summary.by_broker.values()) == sum(one.pnl for one in summary.trades)
    assert story.chapters[0].pnl == sum(one.pnl for one in summary.trades)
    assert "Orders were sent to alpha and beta, with paper money." in text
    assert "with real money" in html.render_page(attrs.evolve(summary, mode="live"), story, NONE)


def test_a_report_of_one_broker_says_nothing_of_brokers(page: str) -> None:
    """No trade names what would be the same in every line."""
    assert not re.search(r"<i>\w+ (long|short) at ", page)
    empty = RunTimeline(run={}, chapters=(), book=SessionBook())
    assert "no order left this machine" in html.render_page(EMPTY, empty, NONE)


@pytest.mark.parametrize("several", [True, False])
def test_what_could_not_be_closed_is_listed_with_its_broker(broken: list[Event], several: bool) -> None:
    """The symbol, where it is held, the side, why, and how many shares."""
    said = {"symbol": "KO", "side": "long", "words": "it is halted", "quantity": "14"}
    stuck, at_beta = (codec.view(PositionStuck, payload) for payload in (said, said | {"broker": "beta"}))
    chapter = attrs.evolve(read_timeline(broken).chapters[0], stuck=[stuck, at_beta])
    book = fold_events(broken) if several else SessionBook()
    text = html.render_page(EMPTY, RunTimeline(run={}, chapters=(chapter,), book=book), NONE)
    rest = '<td>long</td><td>it is halted</td><td class="n">14</td>'
    for place in ("alpha", "beta"):
        assert f"<td>KO</td>{f'<td>{place}</td>' if several else ''}{rest}" in text
