"""The bot on the dashboard: started and stopped there, and what has an effect now is what is offered."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.app import create_app
from tbot_extension_web.testing.client import ask, send
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.actions.service import ServiceHost, service_status, stop_service
from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_extension_web.site import Site

BOT = "import signal; print('READY', flush=True); signal.pause()"
ADMIN = {"cookie": "tbot-session=admin"}
CONFIRMED = {"cookie": f"tbot-session={STEPPED_UP}"}
TRADER, VIEWER = ({"cookie": f"tbot-session={role}"} for role in ("trader", "viewer"))


@pytest.fixture
def site(tmp_path: Path, site_of: Callable[[Path], Site]) -> Iterator[Site]:
    """The page of an instance on a machine without systemd, whose bot is a small program."""
    home = tmp_path / "bot"
    home.mkdir()
    (home / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    found = site_of(home)
    found.service_host = ServiceHost(program=(sys.executable, "-c", BOT), systemctl="no-such-systemctl", steady_s=0.2)
    yield found
    stop_service(home, host=found.service_host)


def control(page: str) -> str:
    """The card of the bot."""
    return page.partition("<h2>Bot</h2>")[2].partition("<h2>As it happens")[0]


@pytest.mark.slow
def test_the_bot_is_started_and_stopped_on_the_dashboard(site: Site) -> None:
    """By an admin; with who keeps it running and its last output. A second start changes nothing."""
    app, home = create_app(site), site.home
    assert "No bot runs." in control(ask(app, "GET", "/", ADMIN).text)
    for who in (TRADER, VIEWER):
        assert "/service/start" not in control(ask(app, "GET", "/", who).text)
    assert "Started." in send(app, "/service/start", CONFIRMED, {"csrf": CSRF}).text
    state = service_status(home, site.service_host)
    assert state is not None
    assert (state["running"], state["actor"]) == (True, "web/a-admin")
    shown = control(ask(app, "GET", "/", ADMIN).text)
    assert f"process {state['process']}, supervised by tbot itself (process {state['supervisor_process']})" in shown
    assert "READY" in shown
    assert "/service/start" not in shown
    assert "It runs already" in send(app, "/service/start", CONFIRMED, {"csrf": CSRF}).text
    asked = ask(app, "POST", "/service/stop", ADMIN, {"csrf": CSRF}).text
    assert "Stop the service?" in asked
    assert "STOP_POLICY=keep: positions keep their stops at the broker, and nothing manages them." in asked
    assert service_status(home, site.service_host)["running"]  # type: ignore[index]  # it was started
    send(app, "/service/stop", ADMIN, {"csrf": CSRF, "sure": "yes"})
    assert not service_status(home, site.service_host)["running"]  # type: ignore[index]  # likewise
    left = control(ask(app, "GET", "/", ADMIN).text)
    assert "/service/start" in left
    assert "No bot runs: web/a-admin stopped it." in left


@pytest.mark.slow
def test_a_stop_that_lasts_is_shown_on_the_dashboard(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page does not wait for its end."""
    monkeypatch.setattr("tbot_extension_web.pages.service.ANSWER_S", 0.0)
    app = create_app(site)
    send(app, "/service/start", CONFIRMED, {"csrf": CSRF})
    answer = send(app, "/service/stop", ADMIN, {"csrf": CSRF, "sure": "yes"})
    assert "The bot is being stopped by STOP_POLICY; the dashboard shows when it has ended." in answer.text


def test_after_a_kill_its_clearing_is_offered_to_those_with_the_permission(site: Site) -> None:
    """Its button is gone; others read who clears it."""
    app = create_app(site)
    assert ">Kill</button>" in control(ask(app, "GET", "/", TRADER).text)
    ask(app, "POST", "/risk/kill", TRADER, {"csrf": CSRF, "sure": "yes"})
    for who, clears in ((ADMIN, True), (TRADER, False), (VIEWER, False)):
        shown = control(ask(app, "GET", "/", who).text)
        assert ">Kill</button>" not in shown
        assert ("Clear the kill</button>" in shown) is clears
        assert ("A kill holds until an admin clears it." in shown) is not clears
    assert isinstance(site.clock, ManualClock)
    site.clock.advance(1)
    ask(app, "POST", "/risk/kill-clear", CONFIRMED, {"csrf": CSRF})
    assert ">Kill</button>" in control(ask(app, "GET", "/", ADMIN).text)


def test_an_open_dashboard_gets_the_card_when_it_has_changed(site: Site) -> None:
    """And nothing while it has not; the address alone is no page."""
    app = create_app(site)
    (part,) = re.findall(r'hx-get="(/service[^"]*)"', ask(app, "GET", "/", ADMIN).text)
    asked = {**ADMIN, "hx-request": "true"}
    assert ask(app, "GET", part, asked).status == 204
    ask(app, "POST", "/risk/kill", TRADER, {"csrf": CSRF, "sure": "yes"})
    answer = ask(app, "GET", part, asked)
    assert (answer.status, "Clear the kill" in answer.text, "<html" in answer.text) == (200, True, False)
    assert ask(app, "GET", part, ADMIN).headers["location"] == "/"
