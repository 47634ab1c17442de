"""The first run: a folder becomes an instance by the page alone, and a broken-off set-up goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.passwords import HashParameters, PasswordHasher
from tbot_extension_web.access.permissions import Permission, allows
from tbot_extension_web.app import create_app
from tbot_extension_web.headers import Origin
from tbot_extension_web.opening import open_site
from tbot_extension_web.pages.setup import _create, later_address
from tbot_extension_web.routes import ROUTES, Stage
from tbot_extension_web.server import Address
from tbot_extension_web.setup.begin_steps import MOST_FINDINGS
from tbot_extension_web.setup.state import SetUpState
from tbot_extension_web.site import Site
from tbot_extension_web.testing.browser import Browser
from tbot_extension_web.testing.client import HOST, ask
from tbot_extension_web.testing.given_sessions import CSRF

from tbot_core import cli
from tbot_core.actions.audit import verify_audit_log
from tbot_core.actions.bundles import back_up_secrets
from tbot_core.actions.checks import check_instance
from tbot_core.actions.instance_creation import paper_settings
from tbot_core.actions.plugins import list_plugins
from tbot_core.actions.secrets import put_values, vault_of_home
from tbot_core.actions.setup_draft import Draft, SetUp, begin_setup
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.instance.identity import read_identity
from tbot_core.instance.secrets import encrypt_category, open_instance_vault
from tbot_core.instance.sources import is_set_up
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.lock import read_lock
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret
from tbot_core.testing.canaries import canary
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp
    from tbot_extension_web.routes import WebRoute


PASSWORD = "velvet otter quarry"
CHEAP = HashParameters(memory_kib=8, iterations=1)


@contextmanager
def opened(home: Path) -> Iterator[tuple[Browser, str]]:
    """A browser at the page of the folder, and the link that `tbot web` prints, "" where it prints none."""
    found = open_site(home, SystemClock(), hasher=PasswordHasher(CHEAP))
    try:
        link = found.make_link()
        yield Browser(app=create_app(found.site)), "" if link is None else f"/first-run?link={link}"
    finally:
        found.store.close()


def create(browser: Browser) -> None:
    """Approve the plugins of the summary that is shown, and make the instance."""
    (digest,) = re.findall(r'name="plugins" value="([0-9a-f]{64})"', browser.text)
    browser.send("/setup/create", {"plugins": digest})


def make_admin(browser: Browser, link: str, **form: str) -> None:
    """Open the link, and send its form."""
    browser.open(link)
    browser.send("/first-run", {"name": "alice", "password": PASSWORD, "again": PASSWORD, **form})


def log_in(browser: Browser) -> None:
    """Log in as the admin."""
    browser.open("/login")
    browser.send("/login", {"name": "alice", "password": PASSWORD})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "bot"


def test_the_token_of_the_link_leaves_the_address_at_once(home: Path) -> None:
    """It moves into a cookie that only this page gets."""
    with opened(home) as (browser, link):
        answer = ask(browser.app, "GET", link)
        assert (answer.status, answer.headers["location"], answer.body) == (303, "/first-run", b"")
        (cookie,) = answer.cookies
        assert "HttpOnly" in cookie
        assert "Path=/first-run" in cookie
        browser.open(link)
        assert browser.place == "/first-run"
        assert link.partition("=")[2] not in browser.text


def test_without_the_link_no_account_becomes_admin(home: Path) -> None:
    """The page says how to get one; a token that was not printed is none."""
    with opened(home) as (browser, link):
        for path in ("/first-run", "/first-run?link=" + 64 * "0"):
            assert browser.open(path).status == 403
            assert "Start <code>tbot web --home" in browser.text
        browser.open(link)
        browser.cookies.pop("tbot-first-run")
        form = {"name": "alice", "password": PASSWORD, "again": PASSWORD}
        assert browser.send("/first-run", form).status == 403


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"again": "something else entirely"}, "The two passwords differ."),
        ({"password": "short", "again": "short"}, "at least 12 characters"),
        ({"name": "a b"}, "2 to 32 characters"),
    ],
)
def test_a_form_that_cannot_be_used_says_why_and_keeps_the_name(home: Path, form: dict[str, str], said: str) -> None:
    """The link stays valid, and no password is sent back."""
    with opened(home) as (browser, link):
        make_admin(browser, link, **form)
        assert browser.answer is not None
        assert browser.answer.status == 400
        assert said in browser.text
        assert f'value="{form.get("name", "alice")}"' in browser.text
        assert form.get("password", PASSWORD) not in browser.text
        make_admin(browser, link)
        assert browser.place == "/setup/begin"


def test_the_page_of_the_link_is_gone_once_an_admin_exists(home: Path) -> None:
    """For the link, and for its form."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        for path in (link, "/first-run"):
            assert browser.open(path).status == 404
        assert browser.send("/first-run", {"name": "bob", "password": PASSWORD, "again": PASSWORD}).status in {403, 404}


@pytest.mark.slow
def test_an_empty_folder_becomes_a_paper_instance_by_the_page_alone(home: Path) -> None:
    """Each step with what it proposes; at the end the check is shown, and the dashboard is there."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/identity", {"identity": "ACME_US_PAPER_B01"})
        for _ in range(20):
            if browser.place == "/setup/summary":
                break
            browser.send(browser.place, shown_values(browser.text))
        assert "ACME_US_PAPER_B01" in browser.text
        assert (
            f'<td>broker</td><td class="wrap whole">tbot-broker-paper {version("tbot-broker-paper")}<' in browser.text
        )
        listed = list_plugins(None)[0]
        paper = next(one for one in listed if (one["kind"], one["name"]) == ("broker", "paper"))
        assert f"<code>{paper['files_hash']}</code>" in browser.text
        create(browser)
        assert browser.place == "/check"
        assert "</code> passed" in browser.text
        assert "plugins.lock is written" in browser.text
        assert 'href="/account/codes"' in browser.text
        assert "will listen on" not in browser.text
        assert browser.open("/").status == 200
        assert browser.place == "/"
        assert browser.open("/setup").status == 200
        assert browser.place == "/"
        assert browser.send("/setup/create").status in {403, 404}
    approved = read_lock(home)
    assert approved is not None
    assert {one.approver for one in approved.plugins} == {"web/alice"}
    settings = load_settings(home, mode="paper")
    assert settings.trading.broker_name == "paper"
    identity = read_identity(Instance(home), settings.deployment)
    assert identity is not None
    assert identity.text == "ACME_US_PAPER_B01"
    assert not (home / "data/setup.enc").exists()
    assert cli.invoke(["check", "--home", str(home)]) == 0
    with opened(home) as (browser, link):
        assert link == ""
        log_in(browser)
        assert browser.place == "/"


def test_a_broken_off_set_up_goes_on_where_it_was(home: Path) -> None:
    """After a restart: with a new link while there is no admin, then by a login, with the answers kept."""
    with opened(home) as (browser, link):
        browser.open(link)
    with opened(home) as (browser, again):
        assert again != link
        assert browser.open(link).status == 403
        make_admin(browser, again)
        browser.send("/setup/begin", {"how": "usual"})
        browser.send("/setup/identity", {"identity": "ACME_US_PAPER_B01"})
        assert browser.place != "/setup/identity"
        place = browser.place
    with opened(home) as (browser, link):
        assert link == ""
        log_in(browser)
        assert browser.place == place
        assert 'value="ACME_US_PAPER_B01"' in browser.open("/setup/identity").text


def test_during_a_set_up_every_page_leads_to_it(home: Path) -> None:
    """For the admin; without a login to the login."""
    with opened(home) as (browser, link):
        assert browser.open("/").status == 200
        assert browser.place == "/login"
        make_admin(browser, link)
        for path in ("/", "/risk", "/check"):
            browser.open(path)
            assert browser.place == "/setup/begin"


def test_an_answer_that_is_not_allowed_is_shown_with_its_fault(home: Path) -> None:
    """Nothing is stored, and what was written stays in the form."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        answer = browser.send("/setup/identity", {"identity": "acme"})
        assert answer.status == 400
        assert "&#39;acme&#39; is not allowed. Allowed: ENTITY_JURISDICTION_BROKER_BOTID" in browser.text
        assert 'value="acme"' in browser.text
        assert browser.send("/setup/broker", {"broker": "nowhere"}).status == 400
        assert browser.open("/setup/nowhere").status == 404
        browser.open("/setup")
        assert browser.place == "/setup/begin"


def test_the_draft_is_encrypted(home: Path) -> None:
    """Neither the answers nor their names are in a file of the folder."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/identity", {"identity": "ACME_US_PAPER_B01"})
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not [path for path in files if b"ACME_US" in path.read_bytes()]


def test_commands_say_that_the_set_up_is_not_finished(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And how to go on."""
    with opened(home):
        pass
    for command in (["check"], ["run"], ["init", "--paper"], ["init", "--adopt"], ["config", "show"]):
        assert cli.invoke([*command, "--home", str(home)]) == 3
        said = "".join(capsys.readouterr())
        assert f"The set-up of {home} on the web page is not finished." in said
        assert f"`tbot web --home {home}` goes on with it." in said


def test_a_folder_in_which_a_process_trades_is_not_set_up(home: Path) -> None:
    """Neither at the start of the page nor at the end of the set-up: the run has read what would be replaced."""
    trading = Instance.at(home).lock
    with filesystem.hold_lock(trading), pytest.raises(AccessError, match=f"Process {os.getpid()} trades in {home}"):
        begin_setup(Instance.at(home))
    assert not home.joinpath("storage").exists()
    setup = begin_setup(Instance.at(home))
    with filesystem.hold_lock(trading), pytest.raises(AccessError, match="with settings that a set-up would replace"):
        setup.finish(Draft())
    assert not is_set_up(setup.instance)


def shown_values(page: str) -> dict[str, str]:
    """The values of the form that is shown, as a browser sends them."""
    texts = re.findall(r'<input id="[^"]*" name="([^"]*)"[^>]*? value="([^"]*)"', page)
    chosen = re.findall(r'<input type="(?:radio|checkbox)" name="([^"]*)" value="([^"]*)" checked', page)
    listed = re.findall(r'<select id="[^"]*" name="([^"]*)".*?<option value="([^"]*)" selected', page, re.DOTALL)
    return dict([*texts, *chosen, *listed])


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> SetUp:
    """A set-up that has begun."""
    return begin_setup(Instance.at(tmp_path_factory.mktemp("begun")))


@pytest.fixture
def unmade(begun: SetUp, logins: Any) -> ASGIApp:
    """Its page, with the sessions of tests."""
    origin = Origin(scheme="http", hosts=frozenset({HOST}))
    site = Site(begun.instance.home, SystemClock(), origin, logins)
    site.setup = begun
    return create_app(site)


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: one.name)
def test_each_route_of_an_instance_leads_to_the_set_up(unmade: ASGIApp, route: WebRoute) -> None:
    """For who may use it; the set-up itself is for admins, and no route fails."""
    path = re.sub(r"\{\w+(:path)?\}", "x", route.path)
    for role in Role:
        answer = ask(unmade, route.method, path, {"cookie": f"tbot-session={role}"}, {"csrf": CSRF})
        assert answer.status < 500
        if route.permission in {Permission.PUBLIC, Permission.FIRST_RUN, Permission.METRICS}:
            continue
        if not allows(role, route.permission):
            assert answer.status == 403
        elif route.stage is Stage.MADE:
            assert (answer.status, answer.headers["location"]) == (303, "/setup")


def test_an_answer_is_judged_while_it_is_written(home: Path) -> None:
    """One field at a time, without storing it; the text is escaped, and a hidden one is not repeated."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        page = browser.answer

        def fault(path: str, **form: str) -> str:
            browser.answer = page  # a script leaves the page as it is
            return browser.send(path, form).text

        assert fault("/setup/identity/field?name=identity", identity="ACME_US_PAPER_B01") == ""
        assert "&lt;b&gt;" in fault("/setup/identity/field?name=identity", identity="<b>")
        assert fault("/setup/settings-risk/field?name=MAX_TRADES", MAX_TRADES="4") == ""
        assert "from 0 to 1000" in fault("/setup/settings-risk/field?name=MAX_TRADES", MAX_TRADES="9999")
        assert fault("/setup/settings-risk/field?name=NOT_ONE", NOT_ONE="4") == ""
        browser.open("/setup")
        assert browser.place == "/setup/begin"


@pytest.mark.slow
def test_every_setting_has_its_place_in_a_group(home: Path) -> None:
    """With its explanation, what is allowed, its default and the usual value; what differs is stored, and no more."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        page = browser.open("/setup/settings").text
        groups = re.findall(r'href="(/setup/settings-[^"]*)"', page)
        pages = {path: browser.open(path).text for path in groups}
        shown = {name for text in pages.values() for name in re.findall(r' name="([A-Z][A-Z0-9_]+)"', text)}
        assert {"MAX_TRADES", "SLIPPAGE_MEAN_PCT", "STRAT_OPEN_BUFFER", "START_TIME_OPEN", "SESSION_TIMEOUT"} <= shown
        assert {one.partition("=")[0] for one in paper_settings().splitlines() if not one.startswith("#")} <= shown
        assert "Largest number of orders that a strategy window sends. Allowed: a whole number" in pages[groups[3]]
        for path, text in list(pages.items())[::4]:
            browser.open(path)
            assert browser.send(path, shown_values(text)).status == 200
            assert browser.place == "/setup/settings"
        assert "changed" not in browser.text
        browser.open("/setup/settings-risk")
        browser.send("/setup/settings-risk", shown_values(browser.text) | {"MAX_TRADES": "3", "UNKNOWN": "1"})
        assert "24 settings, 1 changed" in browser.text
        assert 'value="3"' in browser.open("/setup/settings-risk").text
        browser.send("/setup/settings-risk", shown_values(browser.text) | {"WEIGHTS": "0.9,0.9"})
        assert "which sum to at most 1" in browser.text
        assert "MAX_TRADES=3<" in browser.open("/setup/summary").text


def test_a_plugin_that_is_not_installed_is_no_answer(home: Path) -> None:
    """The set-up refuses it as `tbot config set` does; one that is installed is stored."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.open("/setup/settings-trading")
        values = shown_values(browser.text)
        assert browser.send("/setup/settings-trading", values | {"BROKER_NAME": "NOBODY"}).status == 400
        assert "no broker nobody is installed" in browser.text
        browser.send("/setup/settings-trading", values | {"BROKER_NAME": "ALPACA"})
        assert browser.place == "/setup/settings"


def test_an_address_for_other_machines_needs_a_certificate(home: Path) -> None:
    """And the choice to be reached by them."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.open("/setup/network")
        assert browser.send("/setup/network", {"host": "0.0.0.0"}).status == 400
        assert "for other machines without TLS" in browser.text
        assert "choose true if you want that" in browser.text
        assert browser.send("/setup/network", {"host": "127.0.0.1"}).status == 200


@pytest.mark.slow
def test_alerts_need_a_channel_and_its_login(home: Path) -> None:
    """The channel's own fields follow, with what each may be; a login may be left for later."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.open("/setup/alerts")
        assert browser.send("/setup/alerts", {"critical.console": "true"}).status == 400
        assert "Choose at least one channel for routine alerts." in browser.text
        browser.send("/setup/alerts", {"critical.email": "true", "routine.console": "true"})
        assert browser.place == "/setup/channels"
        browser.send("/setup/channels", {"later": "1"})
        assert '<span class="mark">later</span>' in browser.text
        assert "email: host" in browser.open("/setup/summary").text
        browser.open("/setup/channels")
        assert browser.send("/setup/channels", {"smtp.email.host": "mail.example"}).status == 400
        assert "Give this, or user." in browser.text
        form = {"smtp.email.host": "mail.example", "smtp.email.user": "me@example.com", "smtp.email.password": "canary"}
        assert browser.send("/setup/channels", form).status == 200
        page = browser.open("/setup/channels").text
        assert "set; empty keeps it" in page
        assert "canary" not in page
        assert "smtp: host, user, password" in browser.open("/setup/summary").text
        browser.open("/setup/channels")
        browser.send("/setup/channels", {"later": "1"})
        assert browser.place == "/setup/screeners"


@pytest.mark.parametrize("form", [{}, {"plugins": 64 * "0"}])
def test_other_plugins_than_those_shown_are_not_approved(home: Path, form: dict[str, str]) -> None:
    """One was installed meanwhile, or the form is not that of the summary: nothing is made, and the list is shown."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        assert browser.send("/setup/create", form).status == 400
        assert "The plugins differ from those that were shown." in browser.text
        assert "tbot-broker-paper" in browser.text
    assert not (home / "plugins.lock").exists()
    assert not (home / ".env_bot.enc").exists()


def test_the_last_page_says_that_a_public_address_waits_for_codes() -> None:
    """With the address, and what to do first."""
    said = later_address(Address(host="192.0.2.1", certificate=Path("c.pem")))
    assert "https://192.0.2.1:8443/" in said
    assert "turn the codes on now" in said


@pytest.mark.slow
def test_credentials_are_tested_where_asked_and_never_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result stays on the page and in the summary until they are changed; a refused login may be kept."""
    said = iter((False, True))
    given: list[dict[str, str]] = []

    def try_login(_loaded: object, _settings: object, credentials: dict[str, str], *, live: bool) -> DrillStep:
        given.append({**credentials, "live": str(live)})
        return DrillStep(what="alpaca answers", passed=next(said), words="the words of the broker")

    monkeypatch.setattr("tbot_extension_web.setup.trials.try_login", try_login)
    form = {"broker.alpaca.api_key": "canary-one", "broker.alpaca.api_secret": "canary-two"}
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.open("/setup/broker")
        browser.send("/setup/broker", {"broker": "alpaca"})
        browser.send("/setup/credentials/test", {**form, "broker.alpaca.mode": "live"})
        assert browser.place == "/setup/credentials"
        assert "Failed: the words of the broker" in browser.text
        assert "what you entered is kept" in browser.text
        assert "canary" not in browser.text
        assert "LIVE: real money" in browser.open("/setup/summary").text
        browser.open("/setup/credentials")
        browser.send("/setup/credentials/test", {"broker.alpaca.mode": "paper"})
        assert "Passed: the words of the broker" in browser.text
        assert "Passed: the words of the broker" in browser.open("/setup/summary").text
        browser.open("/setup/credentials")
        browser.send("/setup/credentials", {"broker.alpaca.api_key": "canary-new"})
        assert "not tested" in browser.open("/setup/summary").text
        assert browser.send("/setup/identity/test", {"identity": "ACME_US_PAPER_B01"}).status == 404
    first = {"api_key": "canary-one", "api_secret": "canary-two"}
    assert given == [{**first, "mode": "live", "live": "True"}, {**first, "mode": "paper", "live": "False"}]


def test_a_set_up_in_a_rehearsal_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On each of its pages, and in the summary: what is tested then is tested at the rehearsal's servers."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        assert '<span class="badge simulation">SET-UP</span>' in browser.open("/setup/broker").text
        assert "REHEARSAL" not in browser.open("/setup/summary").text
        monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
        assert '<span class="badge rehearsal">SET-UP IN A REHEARSAL</span>' in browser.open("/setup/broker").text
        assert "TBOT_REHEARSAL is set: what is tested here" in browser.open("/setup/summary").text


@pytest.mark.parametrize("section", [("bot_identity", ""), ("broker", "alpaca")])
def test_what_is_sent_while_a_login_is_tried_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch, section: tuple[str, str]
) -> None:
    """The answers of another tab are not overwritten; the result is noted unless it is of other answers by then."""

    def try_login(*_parts: object, **_more: object) -> DrillStep:
        setup = begin_setup(Instance.at(home))
        late = {"BOT_IDENTITY_STRING": "LATE_US_PAPER_B07", "api_key": "late", "api_secret": "late"}
        setup.change(lambda draft: (SetUpState(setup=setup, draft=draft).with_section(*section, late).draft, None))
        return DrillStep(what="alpaca answers", passed=True, words="the words of the broker")

    monkeypatch.setattr("tbot_extension_web.setup.trials.try_login", try_login)
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.open("/setup/broker")
        browser.send("/setup/broker", {"broker": "alpaca"})
        browser.send("/setup/credentials/test", {"broker.alpaca.api_key": "one", "broker.alpaca.api_secret": "two"})
        assert ("Passed: the words of the broker" in browser.text) is (section[0] == "bot_identity")
        assert ("LATE_US_PAPER_B07" in browser.open("/setup/identity").text) is (section[0] == "bot_identity")


ENV = (
    "# mine\nENVIRONMENT=production\nLOGIN_KEY_PATH=storage/keys/people.key\nLOGIN_PATH=storage/secrets/people.json.enc"
)
BOT = "# mine\nBROKER_NAME=PAPER\nMAX_TRADES=3\nNOT_KNOWN=1\nCRITICAL_ALERT_CHANNEL=email\n"


def content(home: Path, category: str) -> bytes:
    """The decrypted content of a category."""
    with vault_of_home(home).read(category) as found:
        return bytes(found.view)


def finish(browser: Browser) -> None:
    """Send each step as it is shown, with logins left for later, and create the instance."""
    for _ in range(20):
        if browser.place == "/setup/summary":
            break
        form = shown_values(browser.text)
        browser.send(browser.place, form | ({"later": "1"} if 'name="later"' in browser.text else {}))
    create(browser)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["folder", "upload"])
def test_settings_that_a_person_has_are_taken_over_to_the_byte(home: Path, how: str) -> None:
    """What is missing and unknown is shown, only what is missing is asked, and the accounts stay where .env wants them.

    In the folder the plaintext is removed at the end.
    """
    if how == "folder":
        home.mkdir()
        (home / ".env").write_text(ENV)
        (home / ".env_bot").write_text(BOT)
    with opened(home) as (browser, link):
        make_admin(browser, link)
        assert (".env_bot, .env in the folder are taken over." in browser.text) is (how == "folder")
        files = {"env": ENV.encode(), "env_bot": BOT.encode()} if how == "upload" else {}
        browser.upload("/setup/begin", {"how": how}, files)
        assert browser.place == "/setup/taken"
        assert "email: host" in browser.text
        assert browser.text.count("NOT_KNOWN") == 1
        browser.send("/setup/taken")
        assert browser.place == "/setup/identity"
        browser.send("/setup/identity", {"identity": "ACME_US_PAPER_B01"})
        assert browser.place == "/setup/channels"
        browser.send("/setup/channels", {"smtp.email.host": "mail.example", "smtp.email.user": "me@example.com"})
        assert browser.place == "/setup/summary"
        create(browser)
        assert browser.place == "/check"
    assert [content(home, name) for name in ("env", "env_bot")] == [ENV.encode(), BOT.encode()]
    assert not (home / ".env").exists()
    assert not (home / ".env_bot").exists()
    assert not (home / "storage/keys/login.key").exists()
    assert not (home / "storage/secrets/login.json.enc").exists()
    with opened(home) as (browser, link):
        assert link == ""
        log_in(browser)
        assert browser.place == "/"


@pytest.mark.slow
def test_the_samples_become_an_instance_to_the_byte(home: Path, shared: Path) -> None:
    """The steps that follow are those of the secrets that they need."""
    texts = {name: (shared / "reference" / f"{name}.sample").read_bytes() for name in ("env", "env_bot")}
    home.mkdir()
    for name, data in texts.items():
        (home / f".{name}").write_bytes(data)
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/begin", {"how": "folder"})
        for secret in ("alpaca: api key, api secret", "email: host", "pagerduty: routing key", "finnhub: api key"):
            assert secret in browser.text
        asked = []
        for _ in range(20):
            asked.append(browser.place.removeprefix("/setup/"))
            if asked[-1] == "summary":
                break
            form = shown_values(browser.text)
            browser.send(browser.place, form | ({"later": "1"} if 'name="later"' in browser.text else {}))
        assert asked == ["taken", "identity", "credentials", "channels", "screener-logins", "summary"]
        create(browser)
        assert browser.place == "/check"
    assert {name: content(home, name) for name in texts} == texts


@pytest.mark.slow
def test_of_two_who_make_the_instance_at_once_one_does(home: Path) -> None:
    """The other one gets the same page, and no fault."""
    setup = begin_setup(Instance.at(home))
    user = SimpleNamespace(user="alice")
    call: Any = SimpleNamespace(site=SimpleNamespace(setup=setup, home=home), user=user, actor="web/alice")
    with ThreadPoolExecutor() as threads:
        made = list(threads.map(_create, [call, call]))
    assert is_set_up(setup.instance)
    assert sorted(map(bool, made)) == [False, True]


def test_of_many_findings_about_a_file_a_part_is_shown(home: Path) -> None:
    """With how many more there are."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/begin", {"how": "usual"})
        browser.open("/setup/begin")
        lines = b"".join(b"UNKNOWN_%d=1\n" % number for number in range(300))
        browser.upload("/setup/begin", {"how": "upload"}, {"env_bot": lines, "env": b""})
        assert browser.place == "/setup/taken"
        more = re.search(r"and (\d+) more", browser.text)
        assert more is not None
        assert browser.text.count('class="level') + int(more[1]) >= 300
        assert browser.text.count('class="level') == MOST_FINDINGS


@pytest.mark.parametrize(
    ("bot", "said"),
    [
        (b"", "Choose your .env_bot"),
        (b"MAX_TRADES=many\n", "MAX_TRADES"),
        (b"BROKER_NAME=PAPER # \xff\n", "env_bot, chosen as .env_bot:1: Byte 0xff is not UTF-8 text"),
        (b"A=1\n" * 5_001, "more than 5,000 lines"),
        (b"SEED=1\n", "CONTROL_DIR=/elsewhere/control is outside of the folder"),
    ],
)
def test_a_file_that_cannot_be_taken_over_says_why(home: Path, bot: bytes, said: str) -> None:
    """Nothing is stored, and other files can be chosen."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        env = {"env": b"CONTROL_DIR=/elsewhere/control\n"} if bot == b"SEED=1\n" else {}
        answer = browser.upload("/setup/begin", {"how": "upload"}, {"env_bot": bot} | env)
        assert answer.status == 400
        assert said in browser.text
        browser.open("/setup")
        assert browser.place == "/setup/begin"


@pytest.mark.parametrize(
    ("given", "after"),
    [("ACME_US_PAPER_B07", "ACME_US_ALPACA_B07"), ("ACME_US_OTHER_B07", "ACME_US_OTHER_B07")],
)
def test_an_identity_that_names_the_broker_follows_it(home: Path, given: str, after: str) -> None:
    """It is asked for before the broker; one that names something else stays as it was written."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/identity", {"identity": given})
        browser.open("/setup/broker")
        browser.send("/setup/broker", {"broker": "alpaca"})
        browser.open("/setup/identity")
        assert f'value="{after}"' in browser.text


@pytest.mark.parametrize("how", ["usual", "upload"])
def test_files_that_were_chosen_count_whichever_option_stands(home: Path, how: str) -> None:
    """Back at the first page they are named, and stay without being chosen again."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.upload("/setup/begin", {"how": how}, {"env_bot": b"MAX_TRADES=2\n"})
        assert browser.place == "/setup/taken"
        browser.open("/setup/begin")
        assert "There already: .env_bot, 1 line." in browser.text
        browser.send("/setup/begin", {"how": "upload"})
        assert browser.place == "/setup/taken"
        answer = browser.upload("/setup/begin", {"how": "usual"}, {"env": b"KEEP_PREV_DAYS=3\n"})
        assert answer.status == 200
        assert "<code>.env</code>" in browser.text
        assert "<code>.env_bot</code>" in browser.text


def test_what_is_wrong_stands_at_the_top_with_links(home: Path) -> None:
    """The list has the focus; each entry leads to its field."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/begin", {"how": "usual"})
        browser.open("/setup/settings-risk")
        browser.send("/setup/settings-risk", {"MAX_TRADES": "many"})
        head, _, form = browser.text.partition('<form method="post" action="/setup/')
        assert 'role="alert" tabindex="-1" autofocus' in head
        (target,) = re.findall(r'<li><a href="#([\w-]+)">', head)
        assert f'<input id="{target}"' in form


CHILD = """
import asyncio, json, os, shutil, signal, sys
from pathlib import Path

from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.login_store import LoginStore
from tbot_extension_web.access.passwords import HashParameters, PasswordHasher
from tbot_extension_web.access.security_log import SecurityLog
from tbot_core.actions.plugins import list_plugins
from tbot_core.actions.secrets import vault_of_home
from tbot_core.actions.setup_draft import Draft, begin_setup, complete_setup
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.older_layout import read_older_installation
from tbot_core.instance.sources import is_set_up, unfinished_setup
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.lock import read_lock

place, first, step, adopts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "adopts"
ENV = b"LOGIN_KEY_PATH=storage/keys/people.key\\nLOGIN_PATH=storage/secrets/people.json.enc"
BOT = b"# mine\\nBROKER_NAME=PAPER\\nMAX_TRADES=3"
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}
PASSWORD = "velvet otter quarry"
DRAFTS = (
    Draft(),
    Draft(answers={"bot_identity": {"BOT_IDENTITY_STRING": "ACME_US_PAPER_B01"}}, done=("identity",)),
    Draft(
        answers={"bot_identity": {"BOT_IDENTITY_STRING": "ACME_US_PAPER_B01"}},
        settings={"MAX_TRADES": "3"},
        done=("identity", "broker"),
    ),
)

def accounts(setup):
    return Accounts(SecurityLog(vault=setup.vault), PasswordHasher(HashParameters(memory_kib=8, iterations=1)))

def whole(home):
    # What `tbot web` does from its start to the end of a set-up, from wherever it was.
    instance = Instance(home)
    if is_set_up(instance):
        complete_setup(instance)
        return
    setup = begin_setup(instance)
    LoginStore(instance.data / "web.sqlite", SystemClock()).close()
    users = accounts(setup)
    if not users.has_admin:
        asyncio.run(users.add_first_admin("alice", PASSWORD))
    drafts = DRAFTS
    if adopts:
        taken = setup.taken_over(DRAFTS[1], read_older_installation(home, without=("login",)))
        drafts = (*DRAFTS[:2], taken)
    for draft in drafts[drafts.index(setup.read()) + 1 :]:  # raises where it is none of them
        setup.write(draft)
    setup.finish(setup.read())

def mortal(home, left):
    # The process is killed at the file operation number `left` in the folder.
    def hook(event, given):
        nonlocal left
        if event in EVENTS and str(given[0]).startswith(str(place)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    whole(home)

os.fsync = lambda handle: None
ops, kills, unfinished, made = first, 0, 0, 0
while True:
    home = place / "x"
    shutil.rmtree(home, ignore_errors=True)
    if adopts:
        home.mkdir()
        (home / ".env").write_bytes(ENV)
        (home / ".env_bot").write_bytes(BOT)
    process = os.fork()
    if not process:
        mortal(home, ops)
        os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
        break
    kills += 1
    if is_set_up(Instance(home)):
        made += 1
        load_settings(home, mode="paper")
    elif adopts:
        assert [(home / name).read_bytes() for name in (".env", ".env_bot")] == [ENV, BOT], ops
    elif (home / "data/setup.enc").exists():
        assert unfinished_setup(Instance(home)) is not None, ops
    else:  # nothing but empty folders yet
        assert not [one for one in home.rglob("*") if one.is_file()], ops
    unfinished += (home / "data/setup.enc").exists()
    whole(home)
    settings = load_settings(home, mode="paper")
    assert settings.risk.max_trades == 3, ops
    assert not (home / "data/setup.enc").exists(), ops
    assert not list((home / "data").glob(".setup*")), ops
    assert not list((home / "storage").rglob(".*")), ops
    vault = vault_of_home(home)
    users = Accounts(SecurityLog(vault=vault), PasswordHasher(HashParameters(memory_kib=8, iterations=1)))
    assert users.has_admin, ops
    if adopts:
        assert sorted(one.name for one in home.glob(".env*")) == [".env.enc", ".env_bot.enc"], ops
        assert sorted(one.name for one in (home / "storage").rglob("*login*")) == [], ops
        for name, data in (("env", ENV), ("env_bot", BOT)):
            with vault.read(name) as opened:
                assert bytes(opened.view) == data, ops
    ops += step
print(json.dumps({"kills": kills, "unfinished": unfinished, "made": made, "ops": ops}))
"""


@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(
    ("first", "step", "kind"),
    [
        pytest.param(3, 61, "adopts", marks=pytest.mark.slow),
        pytest.param(11, 41, "asks", marks=pytest.mark.slow),
        *(pytest.param(0, 1, kind, marks=[pytest.mark.full, pytest.mark.timeout(1200)]) for kind in ("adopts", "asks")),
    ],
)
def test_cp25_a_set_up_that_is_killed_goes_on_and_nothing_is_half_made(
    first: int, step: int, kind: str, tmp_path: Path
) -> None:
    """SIGKILL at each file operation: before, the set-up goes on with the answers that were sent; after, all is made.

    `make test` takes some of the operations.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        command = [sys.executable, "-W", "error", "-c", CHILD, folder, str(first), str(step), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ops"] > 150
    assert said["unfinished"] * step > 100


PHRASE = canary("phrase of a backup")


def step_up(browser: Browser) -> None:
    """Enter the password again."""
    browser.open("/step-up?next=/secrets")
    browser.send("/step-up", {"password": PASSWORD, "next": "/secrets"})


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Backups that the page of an instance has written: before its first user, and with one."""
    home = tmp_path_factory.mktemp("source") / "bot"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    put_values(home, "env_bot", {"MAX_TRADES": "3"})
    path, _ = back_up_secrets(home, None, Secret(PHRASE))
    found = {"without users": path.read_bytes()}
    path.unlink()
    with opened(home) as (browser, link):
        make_admin(browser, link, name="zoe")
        step_up(browser)
        browser.send("/secrets/backups", {"passphrase": PHRASE, "again": PHRASE})
        (name,) = set(re.findall(r'href="(/secrets/backups/[^"]+)"', browser.text))
        found["with users"] = browser.open(name).body
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["with users", "without users"])
def test_an_empty_folder_becomes_the_instance_of_a_backup(home: Path, backups: dict[str, bytes], kind: str) -> None:
    """By the page alone, with its settings; its users log in at once, or the admin of the set-up where it has none."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        assert f"<code>{home}</code>" in browser.text
        browser.upload("/setup/restore", {"passphrase": PHRASE}, {"backup": backups[kind]})
        assert "<h1>The backup is restored</h1>" in browser.text
        assert "The backup opens. It holds env, env_bot, " in browser.text
        assert "It holds no journal" in browser.text
        assert '<th scope="row">secrets</th>' in browser.text
        assert PHRASE not in browser.text
        browser.open("/")
        if kind == "with users":
            assert browser.place == "/login"
            log_in(browser)
            assert browser.place == "/login"
            browser.send("/login", {"name": "zoe", "password": PASSWORD})
        assert browser.place == "/"
        step_up(browser)
        browser.send("/secrets/rotate")
        assert "the id of its key is now" in browser.text
    settings = load_settings(home, mode="paper")
    assert settings.risk.max_trades == 3
    assert not (home / "data/setup.enc").exists()
    assert [row for row in check_instance(home) if row.level == "fail" and row.subject != "plugins"] == []
    actors = {it.actor for it in log_entries(log_path(Instance(home))) if it.action == "restore"}
    assert actors == {"web/alice"}
    verify_audit_log(Instance(home))
    with opened(home) as (browser, link):
        assert link == ""


def damaged(data: bytes) -> bytes:
    """The backup with another letter in its content."""
    return data[:-40] + (b"B" if data[-40:-39] == b"A" else b"A") + data[-39:]


@pytest.mark.parametrize(
    ("change", "form", "said"),
    [
        (bytes, {"passphrase": "not the passphrase"}, "the passphrase does not match the bundle backup"),
        (bytes, {}, "at least one"),
        (damaged, {"passphrase": PHRASE}, "the bundle backup was changed since it was written"),
        (lambda data: data[:200], {"passphrase": PHRASE}, "TB-SEC-10"),
        (lambda _: b"BROKER_NAME=PAPER\n", {"passphrase": PHRASE}, "is not a bundle of tbot"),
        (lambda _: b"", {"passphrase": PHRASE}, "No backup was chosen."),
    ],
)
def test_what_cannot_be_restored_says_why_and_the_set_up_goes_on(
    home: Path, backups: dict[str, bytes], change: Callable[[bytes], bytes], form: dict[str, str], said: str
) -> None:
    """A wrong passphrase, and a file that is damaged, none or not there: nothing is made or lost."""
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.send("/setup/identity", {"identity": "ACME_US_PAPER_B01"})
        before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.parent.name != "data"}
        answer = browser.upload("/setup/restore", form, {"backup": change(backups["with users"])})
        assert (answer.status, said in browser.text) == (400, True)
        assert form.get("passphrase", PHRASE) not in browser.text
        assert {path: path.read_bytes() for path in before} == before
        assert 'value="ACME_US_PAPER_B01"' in browser.open("/setup/identity").text


def test_no_file_that_is_there_is_overwritten_by_a_restore(home: Path, backups: dict[str, bytes]) -> None:
    """Settings that lie in the folder are named, and the set-up goes on; an instance has no set-up at all."""
    home.mkdir()
    (home / ".env_bot").write_text(BOT)
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.upload("/setup/restore", {"passphrase": PHRASE}, {"backup": backups["with users"]})
        assert "the backup would overwrite .env_bot" in browser.text
        assert (home / ".env_bot").read_text() == BOT
        browser.open("/setup")
        assert browser.place == "/setup/begin"


@pytest.mark.slow
def test_a_folder_that_is_an_instance_takes_no_backup(home: Path, backups: dict[str, bytes]) -> None:
    """Its page has no set-up, so that nothing is left to restore into."""
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    before = {path: path.read_bytes() for path in (home / "storage").rglob("*") if path.is_file()}
    with opened(home) as (browser, link):
        make_admin(browser, link)
        answer = browser.upload("/setup/restore", {"passphrase": PHRASE}, {"backup": backups["with users"]})
        assert (answer.status, "The set-up is finished" in browser.text) == (404, True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("category", "text", "said"),
    [
        ("network", b'{"port": 9443}', "From its next start on the page is at http://127.0.0.1:9443/."),
        ("network", b'{"host": "192.0.2.1", "certificate": "c", "private_key": "k"}', "turn the codes on now"),
        ("network", b'{"port": "none"}', "The page cannot open the instance: TB-SEC-"),
        ("login", b'{"bob": {"hash": "x", "role": "viewer"}}', "has no admin that this page can read"),
        ("env", b"CONTROL_DIR=/elsewhere/control\n", "CONTROL_DIR=/elsewhere/control is outside of the folder"),
    ],
)
def test_what_is_special_about_a_restored_instance_is_said(
    home: Path, tmp_path: Path, category: str, text: bytes, said: str
) -> None:
    """Another address, one that cannot be read, no admin; settings that lead outside of the folder are refused."""
    vault = open_instance_vault(Instance(tmp_path / "source"), DeploymentSettings())
    for name, content in {"env": b"# mine\n", "env_bot": b"BROKER_NAME=PAPER\n", category: text}.items():
        encrypt_category(vault, name, content)
    path, _ = back_up_secrets(tmp_path / "source", None, Secret(PHRASE))
    with opened(home) as (browser, link):
        make_admin(browser, link)
        browser.upload("/setup/restore", {"passphrase": PHRASE}, {"backup": path.read_bytes()})
        assert said in browser.text
        assert is_set_up(Instance(home)) is (category != "env")
