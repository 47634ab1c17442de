"""The page of alerts: what is open, how each was delivered, tests and acknowledgements."""

from __future__ import annotations

import datetime as dt
import shutil
from html import unescape
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.testing.client import ask, send
from tbot_extension_web.testing.given_sessions import CSRF

from tbot_core.actions.alerts import alert_documents
from tbot_core.alerts.store import AlertStore, Delivery, Notice
from tbot_core.contracts import Urgency

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp

VIEWER = {"cookie": "tbot-session=viewer"}
TRADER = {"cookie": "tbot-session=trader"}
NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


@pytest.fixture
def home(traded: Path, tmp_path: Path) -> Path:
    """An instance that has reported an incident and a loss."""
    place = tmp_path / "bot"
    (place / "data").mkdir(parents=True)
    shutil.copy(traded / ".env_bot", place)
    store = AlertStore(place / "data" / "alerts.sqlite")
    with store.transaction(1):
        store.open_incident(
            Notice(key="feed", urgency=Urgency.CRITICAL, what="The feed is silent: <b>0</b> bars."), NOW
        )
        store.add_notices([Notice(key="loss", urgency=Urgency.ROUTINE, what="AAA lost 12.00.")], NOW)
    store.close()
    return place


@pytest.fixture
def app(home: Path, app_of: Callable[[Path], ASGIApp]) -> ASGIApp:
    """Its page."""
    return app_of(home)


def shown(app: ASGIApp, path: str = "/alerts") -> str:
    """The page."""
    answer = ask(app, "GET", path, VIEWER)
    assert answer.status == 200
    return answer.text


def test_what_is_open_stands_above_the_log(app: ASGIApp) -> None:
    """With its delivery; what an alert quotes is no markup. A viewer gets no form."""
    page = shown(app)
    opened, log = page.split("<h2>Log</h2>")
    assert "The feed is silent: &lt;b&gt;0&lt;/b&gt; bars." in opened
    assert "AAA lost 12.00." not in opened
    assert "AAA lost 12.00." in log
    assert "not sent yet" in log
    assert 'action="/alerts' not in page


@pytest.mark.parametrize(
    ("choice", "there"), [("critical", (True, False)), ("unsent", (True, True)), ("nonsense", (True, True))]
)
def test_the_log_is_filtered(app: ASGIApp, choice: str, there: tuple[bool, bool]) -> None:
    """By the link that is chosen; an unknown one shows all."""
    log = shown(app, f"/alerts?show={choice}").split("<h2>Log</h2>")[1]
    assert ("The feed is silent" in log, "AAA lost" in log) == there


def test_alerts_are_acknowledged_in_the_users_name(app: ASGIApp, home: Path) -> None:
    """The chosen ones, then all; without a choice nothing is done, and an unknown number is refused."""
    nothing = ask(app, "POST", "/alerts/acknowledge", TRADER, {"csrf": CSRF})
    assert (nothing.status, "No alert is chosen" in nothing.text) == (400, True)
    unknown = ask(app, "POST", "/alerts/acknowledge", TRADER, {"csrf": CSRF, "alert-99": "on"})
    assert (unknown.status, "Unknown alert 99" in unescape(unknown.text)) == (400, True)
    assert [one["acked_by"] for one in alert_documents(home, 9)] == [None, None]
    first = send(app, "/alerts/acknowledge", TRADER, {"csrf": CSRF, "alert-1": "on", "alert-x": "on"})
    assert (first.status, "Acknowledged: 1 alert." in first.text) == (200, True)
    assert [one["acked_by"] for one in alert_documents(home, 9)] == ["web/a-trader", None]
    ask(app, "POST", "/alerts/acknowledge", TRADER, {"csrf": CSRF, "all": "yes"})
    assert [one["acked_by"] for one in alert_documents(home, 9)] == ["web/a-trader", "web/a-trader"]
    assert "No such alert." in shown(app, "/alerts?show=unacknowledged")


@pytest.mark.slow
def test_a_channel_is_tested_and_its_answer_shown(app: ASGIApp, capsys: pytest.CaptureFixture[str]) -> None:
    """One message for each urgency; a channel that the settings do not name is refused."""
    page = ask(app, "POST", "/alerts/test", TRADER, {"csrf": CSRF, "channel": "console"})
    assert (page.status, page.text.count("<td>delivered</td>")) == (200, 2)
    refused = ask(app, "POST", "/alerts/test", TRADER, {"csrf": CSRF, "channel": "pigeon"})
    assert (refused.status, "pigeon is not a channel" in refused.text) == (400, True)
    capsys.readouterr()


def test_nothing_reported_yet_says_what_will_be(traded_app: ASGIApp) -> None:
    """Not an empty table."""
    page = shown(traded_app)
    assert "No incident is open." in page
    assert "Nothing was reported yet." in page


def test_an_alert_that_its_own_channel_never_got_says_so(app: ASGIApp, home: Path) -> None:
    """Though another one delivered it; it is among the unsent. The health box has the channel's state."""
    with (home / ".env_bot").open("a", encoding="utf-8") as file:
        file.write("CRITICAL_ALERT_CHANNEL=email\n")
    store = AlertStore(home / "data" / "alerts.sqlite")
    store.mark_sent(store.unsent(Urgency.CRITICAL), "tbot-1", Delivery(reached=("console",)), NOW)
    store.close()
    log = shown(app, "/alerts?show=unsent").split("<h2>Log</h2>")[1]
    assert 'sent by console, <strong class="loss">not by email</strong>' in log
    health = shown(app, "/").split("<h2>Health</h2>")[1]
    assert '<strong class="loss">not set up: no secrets smtp are stored</strong>' in health
    assert "not tested: nothing was sent yet" in health
