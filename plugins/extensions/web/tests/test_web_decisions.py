"""The page of decisions: every symbol of a session with its answer, and why there was no trade."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from markupsafe import Markup
from tbot_extension_web.testing.client import ask
from tbot_extension_web.texts import answer, marked, prose, strong

from tbot_core import cli
from tbot_core.status.day_decisions import day_decisions

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

VIEWER = {"cookie": "tbot-session=viewer"}


def shown(app: ASGIApp, path: str, status: int = 200) -> str:
    """The text of a page."""
    answer = ask(app, "GET", path, VIEWER)
    assert answer.status == status
    return unescape(answer.text)


def test_the_symbols_of_the_session_lead_to_their_answers(traded_app: ASGIApp, traded: Path) -> None:
    """Those with signals and trades, and each link opens an answer on that symbol in that run and session."""
    page, day = shown(traded_app, "/decisions"), day_decisions(traded)
    links = re.findall(r'<th scope="row"><a href="([^"]+)">(\w+)</a>', page)
    assert [symbol for _, symbol in links] == [one["symbol"] for one in day["symbols"]]
    link, symbol = links[0]
    assert f"{symbol} in the session of {day['session']}" in shown(traded_app, link)


def test_the_answer_reads_as_the_command_line_says_it(
    traded_app: ASGIApp, traded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line of `tbot why SYMBOL` is on the page, whatever stands out in it."""
    day = day_decisions(traded)
    symbol = day["symbols"][0]["symbol"]
    capsys.readouterr()
    assert cli.invoke(["why", symbol, "--date", day["session"], "--home", str(traded)]) == 0
    text = re.sub(r"</?(?:strong|span[^>]*)>", "", shown(traded_app, f"/decisions?symbol={symbol.lower()}"))
    lines = capsys.readouterr().out.splitlines()
    assert symbol in lines[0]
    for line in lines:
        assert line in text


def test_a_minute_without_a_decision_is_computed_again(traded_app: ASGIApp, traded: Path) -> None:
    """By the time in the form."""
    symbol = day_decisions(traded)["symbols"][0]["symbol"]
    assert "after the bar of 11:59" in shown(traded_app, f"/decisions?symbol={symbol}&at=12%3A00")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("symbol=NOPE", "NOPE is not among the 40 symbols"),
        ("symbol=A&at=later", "Invalid time 'later'"),
        ("date=2020-01-02", "no session on 2020-01-02"),
        ("run=none", "--run none matches 0 runs"),
        ("symbol=%3Cscript%3E", "symbol"),
    ],
)
def test_a_bad_request_says_what_is_wrong_and_keeps_the_form(traded_app: ASGIApp, query: str, words: str) -> None:
    """With status 400, the remedy, and no markup of what was entered."""
    page = ask(traded_app, "GET", f"/decisions?{query}", VIEWER)
    assert page.status == 400
    assert words in unescape(page.text)
    assert 'role="alert"' in page.text
    assert 'action="/decisions"' in page.text
    assert "<script>" not in page.text


def test_why_no_trade_shows_what_each_window_did(traded_app: ASGIApp, traded: Path) -> None:
    """Candidates, triggers, and each reason with its own sentence."""
    page, day = shown(traded_app, "/decisions/day"), day_decisions(traded)
    assert all([one for window in day["windows"] for one in window[part]] for part in ("denials", "near_misses"))
    for window in day["windows"]:
        assert f"<h2>{window['strategy']} " in page
        for one in window["denials"]:
            assert one["sentence"] in page
        for near in window["near_misses"]:
            assert f">{near['symbol']}</a>" in page
    assert ask(traded_app, "GET", "/decisions/day?date=2020-01-02", VIEWER).status == 400


def test_before_the_first_session_the_pages_say_what_to_do(app: ASGIApp) -> None:
    """Not as a fault."""
    assert "<code>tbot run</code>" in shown(app, "/decisions")
    assert "<code>tbot run</code>" in shown(app, "/decisions/day")


LINES = """\
  open, entries 09:50 to 10:00: candidate
    average volume             9,654,513  at least 1,000,000              met
      decided by                    WEIGHTS
  bar: open 19.38  high 19.64  low 19.38  close 19.47  volume 69,421
    limits                             used   this order      allowed
      WINDOW_LOSS_LIMIT               \u22120.10         0.00       200.00  met
      <b> & co                            2  """.splitlines()


def test_the_lines_of_an_answer_keep_their_text_and_have_their_columns() -> None:
    """As on the command line where there is room; on a phone each has its place: a pair, figures under headings."""
    shown = str(answer(LINES))
    assert Markup(shown).striptags() == " ".join(" ".join(LINES).split())
    assert unescape(re.sub(r"</?span[^>]*>", "", shown)) == "\n".join(LINES) + "\n"
    found = [(kind, html.count('class="cell"')) for kind, html in re.findall(r'class="line ?(.*?)">(.*)</span>', shown)]
    assert found == [
        ("d1", 0),
        ("pair d2", 4),
        ("pair d3", 2),
        ("d1", 0),
        ("amounts d2", 4),
        ("amounts d3", 5),
        ("pair d3", 2),
    ]


def test_what_stands_out_in_a_line_is_marked_and_the_rest_escaped() -> None:
    """A name from a plugin is no markup."""
    assert marked(f"a {strong('<b>')} & c") == "a <strong>&lt;b&gt;</strong> &amp; c"
    assert prose("Run `tbot <x>` & wait.") == "Run <code>tbot &lt;x&gt;</code> &amp; wait."
