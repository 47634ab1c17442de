"""The page of runs: what has run with its reports, and what is started from here."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.pages.runs import report_policy
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF
from tbot_extension_web.texts import profit

from tbot_core.actions.simulations import SimulationRequest, write_progress
from tbot_core.reports.html import page_head
from tbot_core.reports.summary import SIMULATED_PRICES, RunSummary
from tbot_core.status.trades import trades_document
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.testing.client import Answer

HEAD = page_head("any report", "")
VIEWER = {"cookie": "tbot-session=viewer"}
TRADER = {"cookie": "tbot-session=trader"}
DAY = "2018-07-02"
FORM = {"csrf": CSRF, "kind": "backtest", "first": DAY, "last": DAY}


def run_of(page: str) -> str:
    """The name of the report that a page links to."""
    (found,) = set(re.findall(r'href="/runs/(\w+)/report"', page))
    return str(found)


def test_each_run_has_its_figures_and_its_report(traded_app: ASGIApp) -> None:
    """The report opens with a policy of its own: apart from the page, with the hashes that it carries."""
    page = unescape(ask(traded_app, "GET", "/runs", VIEWER).text)
    name = run_of(page)
    assert "<td>simulated</td>" in page
    answer = ask(traded_app, "GET", f"/runs/{name}/report", VIEWER)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; script-src 'sha256-")
    assert policy == report_policy(HEAD)
    table = ask(traded_app, "GET", f"/runs/{name}/trades.csv", VIEWER)
    assert table.headers["content-disposition"] == f'attachment; filename="tbot-{name}.csv"'
    assert table.text.startswith("session,strategy,symbol")


def test_a_session_that_is_not_closed_has_the_figures_of_its_trades(own_app: ASGIApp, own: Path, traded: Path) -> None:
    """It says that it is not closed, and how many positions are open; what is not known is an empty cell."""

    def row(kind: str, nth: int) -> str:
        _stopped_at(traded, own, kind, nth)
        table = ask(own_app, "GET", "/runs", VIEWER).text.partition("<h2>All runs</h2>")[2]
        return table.partition("<tbody>")[2].partition("</tr>")[0]

    assert "not closed</span>" in (found := row("session_closed", 0))
    (run,) = (own / "data" / "runs").glob("*.sqlite")
    sums = trades_document(own, run=run.stem)
    assert f'data-label="P&amp;L">{profit(sums["pnl"])}</td>' in found
    assert f'data-label="Trades">{sums["count"]}</td>' in found
    assert '<td class="n "></td><td class="n" data-label="Trades">0, 1 open</td>' in row("fill", 1)


def _stopped_at(traded: Path, home: Path, kind: str, nth: int) -> None:
    # The journal of the demo as it was just before the nth event of a kind.
    (source,) = (traded / "data" / "runs").glob("*.sqlite")
    path = home / "data" / "runs" / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, path)
    with closing(sqlite3.connect(path)) as copy:
        copy.execute(
            "DELETE FROM events WHERE seq >= (SELECT seq FROM events WHERE kind = ? ORDER BY seq LIMIT 1 OFFSET ?)",
            (kind, nth),
        )
        copy.commit()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<p>no head</p>",
        "script-src 'unsafe-inline'; style-src 'self'\"",
        f"{' ' * 5000}{HEAD}",
    ],
)
def test_a_report_without_hashes_runs_nothing(text: str) -> None:
    """Whatever the file says instead of them."""
    assert "script-src 'none'; style-src 'none';" in report_policy(text)


def test_an_unknown_report_is_refused(traded_app: ASGIApp) -> None:
    """Also one whose name leads elsewhere."""
    for name in ("none", "..%2F.env_bot", "%2e%2e"):
        answer = ask(traded_app, "GET", f"/runs/{name}/report", VIEWER)
        assert answer.status in {400, 404}
        assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An instance of which a test may start something, with one session of a stock that rises a cent a minute."""
    home = tmp_path / "own"
    store = StoreFixture(folder=home / "data")
    store.folder.mkdir(parents=True)
    store.put(rising_bars("AAA", exchange_sessions(DAY, DAY), price=20.0))
    lines = ("STRATEGY_SEQUENCE=open", "FILTERS=none", "BROKER_NAME=PAPER", "STRAT_OPEN_BUFFER=0", "VOLUME_LIMIT=0")
    (home / ".env_bot").write_text("\n".join(lines))
    return home


@pytest.fixture
def own_app(own: Path, app_of: Callable[[Path], ASGIApp]) -> ASGIApp:
    """Its page."""
    return app_of(own)


def sent(app: ASGIApp, path: str = "/runs", **fields: str) -> Answer:
    """Send a form of the page."""
    return ask(app, "POST", path, TRADER, FORM | fields)


def test_a_bad_form_starts_nothing_and_keeps_what_was_entered(own_app: ASGIApp, own: Path) -> None:
    """With the fault and its remedy."""
    answer = sent(own_app, seed="many")
    assert answer.status == 400
    assert "Invalid seed &#39;many&#39;" in answer.text
    assert not (own / "data" / "simulations").exists()


def given(home: Path, form: dict[str, str], output: str = "", errors: str = "") -> str:
    """What was started has ended like this; where it is shown."""
    folder = home / "data" / "simulations"
    folder.mkdir()
    request = SimulationRequest.of_texts(form).document()
    about = {"request": request, "actor": "web/a", "started": f"{DAY}T14:00:00+00:00", "process": None}
    for part, text in (("request", json.dumps(about)), ("output", output), ("errors", errors)):
        (folder / f"20180702T140000.{part}").write_text(text)
    return "/runs/started/20180702T140000"


@pytest.mark.parametrize(
    ("output", "errors", "offered"),
    [
        ("", "tbot: No bars of any symbol are stored from 2018-07-02 to 2018-07-02.", True),
        ('{"notes": ["No bars are stored for the session of 2018-07-02: no trading there."]}', "", True),
        ('{"notes": ["Another note."]}', "", False),
        ("", "tbot: the settings are invalid", False),
    ],
)
def test_where_bars_are_missing_one_button_downloads_them(
    own_app: ASGIApp, own: Path, output: str, errors: str, *, offered: bool
) -> None:
    """With the days and symbols of the run, for who may start one; where none is missing there is no button."""
    ended = {"trades": [], "equity_start": "1", "equity_end": "1", "sessions": 1, "symbols": 1, "report": ""}
    place = given(own, FORM | {"symbols": "AAA"}, json.dumps(ended | json.loads(output)) if output else "", errors)
    page = ask(own_app, "GET", place, TRADER).text
    assert ("Download the bars of these days" in page) is offered
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
    assert not offered or (fields["kind"], fields["first"], fields["symbols"]) == ("download", DAY, "AAA")
    assert "Download the bars" not in ask(own_app, "GET", place, VIEWER).text


def test_a_download_ends_with_its_sentences(own_app: ASGIApp, own: Path) -> None:
    """And is listed with what was started, without trades."""
    result = {
        "source": "acme", "first": DAY, "last": DAY, "sessions": 1, "symbols": ["AAA"], "unknown": [], "skipped": 1,
        "downloaded": 0, "bars": 0, "invalid": 0, "refused": [], "facts": 0, "rehearsal_store": None,
    }  # fmt: skip
    place = given(own, FORM | {"kind": "download"}, json.dumps(result))
    page = ask(own_app, "GET", place, VIEWER).text
    assert "Stored already: 1 session of single symbols." in page
    listed = ask(own_app, "GET", "/runs", VIEWER).text
    assert "<td>download</td>" in listed
    assert "<td>acme</td>" in listed


def test_the_form_has_the_days_that_the_command_would_download(own_app: ASGIApp) -> None:
    """The latest 21 sessions, of the source of the settings, named if it is simulated; entries stay after a fault."""
    page = ask(own_app, "GET", "/runs", TRADER).text
    form = page.partition("<h2>Download bars</h2>")[2].partition("</form>")[0]
    assert 'name="first" value="2026-10-26"' in form
    assert 'name="last" value="2026-11-23"' in form
    assert "One-minute bars of paper" in form
    assert "its companies and prices are invented" in form
    assert "<h2>Download bars</h2>" not in ask(own_app, "GET", "/runs", VIEWER).text
    wrong = sent(own_app, kind="download", symbols="A;B", first="2020-01-02", last="2020-01-03").text
    begun, _, form = wrong.partition("<h2>Download bars</h2>")
    assert 'value="2020-01-02"' in form
    assert 'value="2020-01-02"' not in begun


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_download_runs_as_a_process_of_its_own(own_app: ASGIApp, own: Path) -> None:
    """It stores the bars of the source, here of the simulator, and says how many."""
    answer = sent(own_app, kind="download", first="2026-02-23", last="2026-02-24", symbols="AXILO")
    assert answer.status == 303
    with (own / "data" / "simulations" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    page = ask(own_app, "GET", answer.headers["location"], VIEWER).text
    assert "paper: 2 sessions from 2026-02-23 to 2026-02-24, 1 symbol: " in page
    progress = next((own / "data" / "simulations").glob("*.progress"))
    assert json.loads(progress.read_text()) == {"done": 2, "of": 2}


@pytest.mark.parametrize("simulated", [True, False])
def test_a_result_on_simulated_prices_says_so(own_app: ASGIApp, own: Path, *, simulated: bool) -> None:
    """In one sentence above its figures, and in the list; one on market prices does not."""
    result = RunSummary(
        mode="backtest",
        simulated=simulated,
        sessions=1,
        symbols=1,
        equity_start=Decimal(1),
        equity_end=Decimal(2),
        trades=(),
        denials={},
        settings_hash="s",
        data_hash="d",
    )
    shown = ask(own_app, "GET", given(own, FORM, json.dumps(result.document())), VIEWER).text
    assert (SIMULATED_PRICES in shown.partition("<dt>P&amp;L")[0]) is simulated
    assert ("<td>simulated</td>" in ask(own_app, "GET", "/runs", VIEWER).text) is simulated


def test_a_run_shows_what_its_data_lack_while_it_runs(own_app: ASGIApp, own: Path) -> None:
    """The notes that the command line prints before the first session."""
    place = given(own, FORM)
    folder = own / "data" / "simulations"
    write_progress(folder / "20180702T140000.progress", 0, 1, ["The VIX is unknown in 1 of 1 sessions."])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part = ask(own_app, "GET", f"{place}/progress", VIEWER | {"hx-request": "true"}).text
    assert "0 of 1 sessions" in part
    assert "The VIX is unknown in 1 of 1 sessions." in part


@pytest.mark.slow
def test_a_backtest_runs_as_a_process_of_its_own_to_its_report(own_app: ASGIApp, own: Path) -> None:
    """It is shown while it runs and at its end, with its figures and the report; an ended one is not cancelled."""
    answer = sent(own_app)
    assert answer.status == 303
    place = answer.headers["location"]
    shown = ask(own_app, "GET", place, VIEWER).text
    assert f"{DAY} to {DAY}" in shown
    assert "by web/a-trader" in shown
    with (own / "data" / "simulations" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    part = ask(own_app, "GET", f"{place}/progress", VIEWER | {"hx-request": "true"}).text
    assert "DONE" in part
    assert "<html" not in part
    assert "hx-get" not in part
    report = ask(own_app, "GET", f"/runs/{run_of(part)}/report", VIEWER)
    assert f"Backtest, {DAY}" in report.text
    cancelled = sent(own_app, f"{place}/cancel")
    assert (cancelled.status, cancelled.headers["location"]) == (303, place)
    page = ask(own_app, "GET", "/runs", VIEWER).text
    assert place in page
    assert run_of(page) == run_of(part)
    assert page.count("<td>stored bars</td>") == 2
    assert "<dt>Prices</dt><dd>stored bars</dd>" in part
    assert "Source: stored bars." in report.text
    assert f"<td>{DAY}</td>" in page
