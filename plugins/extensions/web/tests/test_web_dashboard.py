"""The dashboard of a run, its stream, the requests of the risk page, and the entries that wait."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request
from tbot_extension_web.app import create_app
from tbot_extension_web.call import Call
from tbot_extension_web.day_view import day_view
from tbot_extension_web.live import STALE_S
from tbot_extension_web.opening import open_site
from tbot_extension_web.pages import dashboard
from tbot_extension_web.pages.risk import ACTS, offered
from tbot_extension_web.server import Address, server_config
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.actions.secrets import put_values, vault_of_home
from tbot_core.errors import SettingsError
from tbot_core.instance import Instance
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.instance.secrets import encrypt_category
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent
from tbot_core.model.clock import ManualClock
from tbot_core.reports.summary import SIMULATED_PRICES
from tbot_core.testing.canaries import canary
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.given_sessions import GivenSessions

VIEWER = {"cookie": "tbot-session=viewer"}
ADMIN = {"cookie": f"tbot-session={STEPPED_UP}"}
CERTIFICATE = Path("cert.pem")
EVERY_STOP = {"stop", "kill", "stop-flatten", "kill-flatten", "stop-keep"}


@pytest.fixture
def own(traded: Path, tmp_path: Path) -> Path:
    """A copy of the demo that requests may be written to."""
    return shutil.copytree(traded, tmp_path / "own")


BADGE = re.compile(r'<span class="badge (\w+)">([A-Z]+)</span>')
LOGIN = {"api_key": canary("key"), "api_secret": canary("secret")}
SHOWN = ("simulation", "SIMULATION")


@pytest.mark.parametrize("path", ["/alerts", "/confirmations", "/settings", "/runs"])
def test_the_badge_names_the_account_that_would_trade(traded_app: ASGIApp, path: str) -> None:
    """Whether the dashboard was opened before or not, and whatever simulation ran last."""
    assert BADGE.findall(ask(traded_app, "GET", path, VIEWER).text) == [("paper", "PAPER")]
    assert 'data-mode="paper"' in ask(traded_app, "GET", "/confirmations/waiting", VIEWER).text


@pytest.mark.parametrize("path", ["/", "/risk", "/trades", "/decisions", "/decisions/day"])
def test_a_page_with_a_simulated_run_says_which_one(traded_app: ASGIApp, traded: Path, path: str) -> None:
    """Beside the badge of the account, by the run's id."""
    page = ask(traded_app, "GET", path, VIEWER).text
    assert BADGE.findall(page) == [("paper", "PAPER"), SHOWN]
    (journal,) = (traded / "data" / "runs").glob("*.sqlite")
    assert journal.stem in page.partition(">SIMULATION<")[2][:200]


def test_live_credentials_are_said_before_the_bot_has_ever_run(sealed: Path, site_of: Callable[[Path], Site]) -> None:
    """A change of them is seen within seconds; what cannot be opened leaves the badge as it was."""
    encrypt_category(vault := vault_of_home(sealed), "env_bot", b"BROKER_NAME=ALPACA\n")
    put_values(sealed, "broker", {"alpaca": {**LOGIN, "mode": "paper"}})
    site = site_of(sealed)
    app, clock = create_app(site), site.clock
    assert isinstance(clock, ManualClock)

    def badges() -> list[tuple[str, str]]:
        clock.advance(STALE_S)
        return BADGE.findall(ask(app, "GET", "/risk", VIEWER).text)

    assert badges() == [("paper", "PAPER")]
    put_values(sealed, "broker", {"alpaca": {**LOGIN, "mode": "live"}})
    assert badges() == [("live", "LIVE")]
    vault.store.place("broker").key.unlink()
    assert badges() == [("live", "LIVE")]


def test_the_dashboard_shows_the_day_of_the_run(traded_app: ASGIApp) -> None:
    """Its figures, its windows, its curve with the loss limit, and its events, the latest first."""
    page = ask(traded_app, "GET", "/", VIEWER).text
    assert "No bot is running." in page
    assert "entries 09:50" in page
    assert page.index("Session 2026-03-02 closed") < page.index("] EXIT ") < page.index("Session 2026-03-02: ")
    data = page.partition('id="equity-data">')[2].partition("</script>")[0]
    curve = json.loads(data)
    assert len(curve["times"]) == len(curve["equity"]) == len(curve["limit"]) > 2
    assert max(curve["limit"]) < min(curve["equity"])


def test_the_stream_gives_all_parts_first_and_ends_with_the_session(
    traded: Path, site_of: Callable[[Path], Site], logins: GivenSessions
) -> None:
    """Then only what changed; a session that is over gets the end in place of another part."""
    page = site_of(traded)

    async def read() -> list[str]:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/live/dashboard",
            "query_string": b"",
            "headers": [(b"cookie", b"tbot-session=viewer")],
        }
        call = Call(request=Request(scope), site=page, session=logins.session("viewer"))
        answer = await dashboard.stream(call)
        got: list[str] = []
        async for chunk in answer.body_iterator:  # type: ignore[attr-defined]
            got.append(str(chunk))
            if len(got) == 2:
                logins.ended.append("viewer")
                page.live._version += 1  # as a change would
                page.live._parts["state"] = (page.live._version, "changed")
                page.live._tell()
        return got

    retry, parts, ended = asyncio.run(read())
    assert retry.startswith("retry: ")
    assert all(f'hx-target="#part-{name}"' in parts for name in ("state", "figures", "events", "health"))
    assert ended.startswith("event: ended")


def test_a_page_may_follow_one_part_alone(traded: Path, site_of: Callable[[Path], Site], logins: GivenSessions) -> None:
    """As that of the confirmations does, for its title; while this part does not change, it reads that all is well."""
    page = site_of(traded)

    async def read() -> list[str]:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/live/dashboard",
            "query_string": b"part=state",
            "headers": [(b"cookie", b"tbot-session=viewer")],
        }
        call = Call(request=Request(scope), site=page, session=logins.session("viewer"))
        got: list[str] = []
        answer = await dashboard.stream(call)
        async for chunk in answer.body_iterator:  # type: ignore[attr-defined]
            got.append(str(chunk))
            page.live._version += 1
            page.live._parts["health"] = (page.live._version, "changed")
            page.live._tell()
            if len(got) == 3:
                page.live.end()
        return got

    _, parts, messages = asyncio.run(read())
    assert 'hx-target="#part-state"' in parts
    assert "data-waiting=" in parts
    assert "#part-health" not in parts
    assert messages.startswith("event: heard")


@pytest.mark.parametrize("act", ACTS, ids=lambda one: one.label)
def test_a_request_is_answered_as_the_command_line_answers_it(
    own: Path, app_of: Callable[[Path], ASGIApp], act: object
) -> None:
    """With a sentence of what happens, said once, since no bot runs; a reload asks for nothing.

    Paper is not armed, and without an audit log there is no older journal to accept.
    """
    path = str(getattr(act, "path", ""))
    app = app_of(own)
    answer = ask(app, "POST", path, ADMIN, {"csrf": CSRF, "sessions": "2", "sure": "yes"})
    if path.endswith("/arm"):
        assert (answer.status, "needs no arming" in answer.text) == (400, True)
    elif path.endswith("/accept-journal"):
        assert (answer.status, "TB-SEC-" in answer.text) == (400, True)
    else:
        assert (answer.status, answer.headers["location"]) == (303, "/risk")
        shown, reloaded = (ask(app, "GET", "/risk", ADMIN).text for _ in range(2))
        assert 'class="notice" role="status"' in shown
        assert 'class="notice" role="status"' not in reloaded


def test_a_kill_is_there_for_the_command_line_too(own: Path, app_of: Callable[[Path], ASGIApp]) -> None:
    """It is a request in the control folder, in the user's name."""
    ask(app_of(own), "POST", "/risk/kill", ADMIN, {"csrf": CSRF, "sure": "yes"})
    written = "".join(path.read_text() for path in (own / "control").iterdir() if path.is_file())
    assert '"kill"' in written
    assert "web/a-admin" in written


def test_without_an_entry_that_waits_the_page_says_how_one_comes_to_wait(traded_app: ASGIApp) -> None:
    """And an answer to an unknown entry is refused with a sentence."""
    assert "TRADE_CONFIRMATION_REQUIRED" in ask(traded_app, "GET", "/confirmations", VIEWER).text
    assert "No entry waits" in ask(traded_app, "GET", "/confirmations/waiting", VIEWER).text
    for verb in ("approve", "reject"):
        answer = ask(traded_app, "POST", f"/confirmations/{verb}", ADMIN, {"csrf": CSRF, "id": "beef"})
        assert (answer.status, "has the ID beef" in answer.text) == (400, True)


def test_now_is_drawn_while_a_session_runs_and_samples_join_the_curve() -> None:
    """By the time of the marks; before the first session no date is shown."""
    day = {
        "open": "2026-03-02T14:30:00+00:00",
        "minutes": 390,
        "windows": [{"strategy": "open", "start": 0, "entry": 20, "entry_end": 30, "leave": 60}],
        "equity": [["2026-03-02T14:30:00+00:00", "100.00"]],
        "samples": [("2026-03-02T14:40:00+00:00", "101.00")],
    }
    status = {"in_session": True, "marks_at": "2026-03-02T14:40:30+00:00", "daily_loss_limit": "5.00"}
    shown = day_view(status, day)
    assert shown["minute"] == 10
    assert shown["windows"][0]["times"]["entry"] == "09:50"
    assert (shown["curve"]["equity"], shown["curve"]["limit"]) == ([100.0, 101.0], [95.0, 95.0])
    assert day_view({"in_session": False}, day)["minute"] is None
    assert day_view({}, {**day, "equity": [], "samples": ()})["curve"]["times"] == []
    assert day_view({}, {}) == {}


def test_an_address_names_the_hosts_that_a_browser_may_show() -> None:
    """On this machine all its names; elsewhere the configured ones, the usual port with and without its number."""
    here = Address(port=8443)
    assert here.url == "http://127.0.0.1:8443/"
    assert here.origin.hosts == {"127.0.0.1:8443", "localhost:8443", "[::1]:8443"}
    away = Address(host="0.0.0.0", port=443, certificate=CERTIFICATE, hosts=("Bot.example",))
    assert {"bot.example", "bot.example:443"} <= away.origin.hosts
    assert not away.origin.covers("http://bot.example")
    assert Address(host="::1").url == "http://[::1]:8443/"


@pytest.fixture
def clock() -> ManualClock:
    """A clock."""
    return ManualClock(dt.datetime(2026, 11, 24, 15, tzinfo=dt.UTC))


def test_the_page_believes_no_proxy_and_logs_no_request(app: ASGIApp) -> None:
    """A header cannot change the source for which failed logins count; addresses of requests are in no log."""
    config = server_config(app, Address(port=8555))
    assert (config.host, config.port, config.proxy_headers, config.access_log) == ("127.0.0.1", 8555, False, False)


def test_without_roles_the_page_stays_on_this_machine(sealed: Path, clock: ManualClock) -> None:
    """RBAC_ENABLED=false makes every account admin; roles are the default."""
    first = open_site(sealed, clock)
    assert first.site.logins.rules.with_roles
    first.store.close()
    vault = vault_of_home(sealed)
    encrypt_category(vault, "env_bot", b"BROKER_NAME=PAPER\nRBAC_ENABLED=False\n")
    opened = open_site(sealed, clock, 8555)
    assert (opened.address.port, opened.site.logins.rules.with_roles) == (8555, False)
    opened.store.close()
    certified = {"host": "0.0.0.0", "public": True, "certificate": "c.pem", "private_key": "k.pem"}
    encrypt_category(vault, "network", json.dumps(certified).encode())
    with pytest.raises(SettingsError, match="every account would be admin"):
        open_site(sealed, clock)


CERTIFIED = {"host": "192.0.2.1", "port": 8444, "public": True, "certificate": "c.pem", "private_key": "k.pem"}


def test_an_address_for_other_machines_waits_for_an_admin_with_codes(sealed: Path, clock: ManualClock) -> None:
    """Until then the page is on this machine, without TLS, and says where it will be; a viewer's codes are none."""
    encrypt_category(vault_of_home(sealed), "network", json.dumps(CERTIFIED).encode())
    vault, hashed = vault_of_home(sealed), "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaA"
    codes = {"hash": hashed, "totp": "A" * 32}
    for users in ({}, {"anna": {"hash": hashed, "role": "admin"}, "bob": {**codes, "role": "viewer"}}):
        if users:
            encrypt_category(vault, "login", json.dumps(users).encode())
        opened = open_site(sealed, clock)
        assert (opened.address.url, opened.site.logins.rules.totp_required) == ("http://127.0.0.1:8444/", False)
        assert opened.site.origin == opened.address.origin
        assert opened.waits is not None
        assert opened.waits.url == "https://192.0.2.1:8444/"
        opened.store.close()
    encrypt_category(vault, "login", json.dumps({"anna": {**codes, "role": "admin"}}).encode())
    opened = open_site(sealed, clock)
    assert (opened.address.url, opened.waits) == ("https://192.0.2.1:8444/", None)
    assert opened.site.logins.rules.totp_required
    opened.store.close()


def test_an_address_for_other_machines_needs_tls_and_a_word() -> None:
    """Refused with what to set; on this machine neither is needed."""
    Address().refuse_open(public=False)
    with pytest.raises(SettingsError, match="without TLS"):
        Address(host="0.0.0.0").refuse_open(public=True)
    with pytest.raises(SettingsError, match="other machines reach it"):
        Address(host="0.0.0.0", certificate=CERTIFICATE).refuse_open(public=False)
    Address(host="0.0.0.0", certificate=CERTIFICATE).refuse_open(public=True)


def test_the_risk_page_reads_the_state_again_while_it_is_open(own: Path, app_of: Callable[[Path], ASGIApp]) -> None:
    """By a part that its script asks for; without scripts by a link. What waits is said, with the time of reading."""
    app = app_of(own)
    page = ask(app, "GET", "/risk", ADMIN).text
    assert 'hx-trigger="every 2s"' in page
    assert '<noscript><p><a class="button" href="/risk">' in page
    ask(app, "POST", "/risk/kill", ADMIN, {"csrf": CSRF, "sure": "yes"})
    part = ask(app, "GET", "/risk/state", {**ADMIN, "hx-request": "true"}).text
    assert "takes effect at the next start: kill" in part
    assert '<time id="as-of">10:00:00</time>' in part


@pytest.mark.parametrize("simulated", [True, False])
def test_paper_on_the_simulated_market_says_that_it_is_invented(app: ASGIApp, sealed: Path, *, simulated: bool) -> None:
    """Beside its figures, with the way to real prices; an account at a broker has no such sentence."""
    started: dict[str, Any] = {
        "run_id": "paper",
        "mode": "paper",
        "source": "a feed",
        "simulated": simulated,
        "equity": "1000",
    }
    started |= {"settings": {}, "notes": [], "request": {"kind": "live", "symbols": [], "seed": 0}}
    opened: dict[str, Any] = {
        "date": "2026-11-24",
        "open": "2026-11-24T14:30:00+00:00",
        "close": "2026-11-24T21:00:00+00:00",
    }
    opened |= {"minutes": 390, "symbols": 1, "equity": "1000", "account": "A", "state": "normal", "windows": {}}
    with closing(open_instance_journal(Instance(sealed))) as journal:
        for kind, payload in ((records.RUN_STARTED, started), (records.SESSION_OPENED, opened)):
            journal.append(
                [NewEvent(kind=kind, payload=payload, time=dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC))]
            )
    page = ask(app, "GET", "/", VIEWER).text
    assert ("The market of the broker paper is invented" in page) is simulated


def test_a_finished_simulation_is_never_today(traded_app: ASGIApp) -> None:
    """Its figures carry the run, the session's date and the words; no figure of an account is there."""
    page = ask(traded_app, "GET", "/", VIEWER).text
    figures = page.partition('id="part-figures"')[2].partition('id="part-positions"')[0]
    assert "No bot runs here for an account" in figures
    assert "demo, finished at 20" in figures
    assert "session of 2026-03-02" in figures
    assert SIMULATED_PRICES in figures.partition("<dl")[0]
    for title in ("Today", "Trades today", "Equity"):
        assert f"<dt>{title}</dt>" not in figures
    assert "<dt>Session of 2026-03-02</dt>" in figures
    assert "Equity of 2026-03-02, demo" in page


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, EVERY_STOP),
        ({"running": False}, {"kill"}),
        ({"running": True}, {"stop", "kill", "stop-keep"}),
        ({"running": True, "positions": ["one"]}, EVERY_STOP),
        ({"running": False, "orders": ["one"]}, {"kill", "stop-flatten", "kill-flatten"}),
        (
            {"running": True, "causes": [StateCause.UNRECONCILED.value]},
            EVERY_STOP,
        ),
    ],
)
def test_stops_are_offered_to_a_bot_and_closing_where_something_may_be_open(
    status: dict[str, object], expected: set[str]
) -> None:
    """A kill while none holds; everything while nothing is known of the bot, closing while the account is not known."""
    quiet = {"running": True, "positions": [], "orders": [], "causes": [], "requests": {"waiting": []}}
    known = {**quiet, **status} if status else {}
    restricting = [one for one in ACTS if one.verb.value.startswith(("stop", "kill"))]
    restricting = [one for one in restricting if one.verb.value not in {"stop-cancel", "kill-clear"}]
    assert {one.verb.value for one in restricting if offered(one, known)} == expected


@pytest.mark.parametrize(
    ("state", "causes", "expected"),
    [
        ("normal", [], {"kill", "defense-on"}),
        ("halted", [StateCause.KILL_COMMAND.value], {"kill-clear"}),
        ("halted", [StateCause.KILL_FILE.value], {"kill", "kill-clear"}),
        ("defense", [StateCause.DEFENSE_COMMAND.value], {"kill", "defense-off"}),
        ("defense", [StateCause.HALF_LOSS.value], {"kill", "defense-on"}),
    ],
)
def test_what_is_in_force_already_is_not_offered(state: str, causes: list[str], expected: set[str]) -> None:
    """A kill of the command while it holds; defense while it was asked for, or while nothing is entered at all."""
    requests = {"kill": False, "stop": False, "waiting": []}
    known = {"running": True, "positions": [], "orders": [], "causes": causes, "state": state, "requests": requests}
    judged = [one for one in ACTS if one.verb.value in {"kill", "kill-clear", "defense-on", "defense-off"}]
    assert {one.verb.value for one in judged if offered(one, known)} == expected


def test_what_would_withdraw_nothing_is_not_offered(own: Path, site_of: Callable[[Path], Site]) -> None:
    """Clear the kill is there once a kill is, also on a page that is open; a bot that does not run is not normal."""
    site = site_of(own)
    app = create_app(site)
    page = ask(app, "GET", "/risk", ADMIN).text
    for label in ("Cancel the stop", "Clear the kill", "Defense off"):
        assert f"<h2>{label}</h2>" not in page
    (part,) = re.findall(r'hx-get="(/risk/state[^"]*)"', page)
    assert "<h2>" not in ask(app, "GET", part, {**ADMIN, "hx-request": "true"}).text
    assert 'class="pill off">NOT RUNNING' in page
    assert ">NORMAL<" not in page
    ask(app, "POST", "/risk/kill", ADMIN, {"csrf": CSRF, "sure": "yes"})
    assert "<h2>Clear the kill</h2>" in ask(app, "GET", "/risk", ADMIN).text
    answer = ask(app, "GET", part, {**ADMIN, "hx-request": "true"})
    assert (answer.headers["hx-retarget"], answer.headers["hx-reswap"]) == ("#risk", "outerHTML")
    assert "<h2>Clear the kill</h2>" in answer.text
    assert "<html" not in answer.text
    assert isinstance(site.clock, ManualClock)
    site.clock.advance(1)
    ask(app, "POST", "/risk/kill-clear", ADMIN, {"csrf": CSRF})
    page = ask(app, "GET", "/risk", ADMIN).text
    assert "the kill is cleared: the next start begins without it." in page
    assert "<h2>Clear the kill</h2>" not in page
