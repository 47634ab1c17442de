"""The first run: a folder becomes an instance by the page alone, and a broken-off set-up goes on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.access.passwords import HashParameters, PasswordHasher
from tbot_extension_web.app import create_app
from tbot_extension_web.opening import open_site
from tbot_extension_web.testing.browser import Browser
from tbot_extension_web.testing.client import ask

from tbot_core import cli
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.identity import read_identity
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "velvet otter quarry"
CHEAP = HashParameters(memory_kib=8, iterations=1)


@contextmanager
def opened(home: Path) -> Iterator[tuple[Browser, str]]:
    """A browser at the page of the folder, and the link that `tbot web` prints, "" where it prints none."""
    found = open_site(home, SystemClock(), hasher=PasswordHasher(CHEAP))
    try:
        yield Browser(app=create_app(found.site)), "" if found.link is None else f"/first-run?link={found.link}"
    finally:
        found.store.close()


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


def test_without_the_link_nobody_becomes_admin(home: Path) -> None:
    """The page says how to get one; a token that was not printed is none."""
    with opened(home) as (browser, link):
        for path in ("/first-run", "/first-run?link=" + 64 * "0"):
            assert browser.open(path).status == 403
            assert "Start `tbot web` again" in browser.text
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
        assert browser.place == "/setup/identity"


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
        browser.send("/setup/create")
        assert browser.place == "/check"
        assert "`tbot check` passed" in browser.text
        assert browser.open("/").status == 200
        assert browser.place == "/"
        assert browser.open("/setup").status == 200
        assert browser.place == "/"
        assert browser.send("/setup/create").status in {403, 404}
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
            assert browser.place == "/setup/identity"


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
        assert browser.place == "/setup/identity"


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


def shown_values(page: str) -> dict[str, str]:
    """The values of the form that is shown, as a browser sends them."""
    texts = re.findall(r'<input id="[^"]*" name="([^"]*)"[^>]*? value="([^"]*)"', page)
    chosen = re.findall(r'<input type="(?:radio|checkbox)" name="([^"]*)" value="([^"]*)" checked', page)
    listed = re.findall(r'<select id="[^"]*" name="([^"]*)".*?<option value="([^"]*)" selected', page, re.DOTALL)
    return dict([*texts, *chosen, *listed])


CHILD = """
import asyncio, json, os, shutil, signal, sys
from pathlib import Path

from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.login_store import LoginStore
from tbot_extension_web.access.passwords import HashParameters, PasswordHasher
from tbot_extension_web.access.security_log import SecurityLog
from tbot_core.actions.setup_draft import Draft, begin_setup, complete_setup
from tbot_core.instance import Instance, load_settings
from tbot_core.instance.sources import is_made, unfinished_setup
from tbot_core.model.clock import SystemClock

place, first, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
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
    if is_made(instance):
        complete_setup(instance)
        return
    setup = begin_setup(instance)
    LoginStore(instance.data / "web.sqlite", SystemClock()).close()
    users = accounts(setup)
    if not users.has_admin:
        asyncio.run(users.add_first_admin("alice", PASSWORD))
    for draft in DRAFTS[DRAFTS.index(setup.read()) + 1 :]:  # raises where it is none of them
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
    process = os.fork()
    if not process:
        mortal(home, ops)
        os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
        break
    kills += 1
    if is_made(Instance(home)):
        made += 1
        load_settings(home, mode="paper")
    elif (home / "data/setup.enc").exists():
        unfinished += 1
        assert unfinished_setup(Instance(home)) is not None, ops
    else:  # nothing but empty folders yet
        assert not [one for one in home.rglob("*") if one.is_file()], ops
    whole(home)
    settings = load_settings(home, mode="paper")
    assert settings.risk.max_trades == 3, ops
    assert not (home / "data/setup.enc").exists(), ops
    assert not list((home / "data").glob(".setup*")), ops
    assert not list((home / "storage").rglob(".*")), ops
    ops += step
print(json.dumps({"kills": kills, "unfinished": unfinished, "made": made, "ops": ops}))
"""


@pytest.mark.parametrize(
    ("first", "step"),
    [
        pytest.param(3, 41, marks=pytest.mark.slow),
        pytest.param(11, 19, marks=pytest.mark.slow),
        pytest.param(0, 1, marks=[pytest.mark.full, pytest.mark.timeout(600)]),
    ],
)
def test_cp25_a_set_up_that_is_killed_goes_on_and_nothing_is_half_made(first: int, step: int, tmp_path: Path) -> None:
    """SIGKILL at each file operation: before, the set-up goes on with the answers that were sent; after, all is made.

    `make test` takes some of the operations.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        command = [sys.executable, "-W", "error", "-c", CHILD, folder, str(first), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ops"] > 150
    assert said["unfinished"] * step > 100
