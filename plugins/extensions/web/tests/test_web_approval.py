"""The approval of plugins on the page: what is asked, what is pinned, and what is refused."""

from __future__ import annotations

import importlib
import json
import re
from html import unescape
from typing import TYPE_CHECKING, Final

import pytest
from tbot_extension_web.testing.client import ask, ask_once
from tbot_extension_web.testing.given_sessions import CSRF, RIGHT, STEPPED_UP

from tbot_core.plugins.lock import FILE_NAME, read_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.testing.client import Answer
    from tbot_extension_web.testing.given_sessions import GivenSessions

ADMIN: Final = {"cookie": "tbot-session=admin"}
CONFIRMED: Final = {"cookie": f"tbot-session={STEPPED_UP}"}
PATH: Final = "/plugins/approve"
PLUGIN: Final = """
import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.model.window import Window


@attrs.frozen(kw_only=True)
class Config:
    window: Window

    def scan(self, bars, day, since=0):
        raise AssertionError


@hookimpl
def tbot_strategy():
    return Plugin(name="drift", summary="A sample", config=Config, create=lambda config, context: config)
"""

pytestmark = [pytest.mark.slow, pytest.mark.first(0)]  # each plugin is tried in a process of its own


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one file of a strategy `drift`, installed as its own distribution."""
    site = tmp_path / "site"
    info = site / "their_drift-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-drift\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[tbot.strategies]\ndrift = their_drift\n")
    found = site / "their_drift" / "__init__.py"
    found.parent.mkdir()
    found.write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return found


@pytest.fixture
def home(tmp_path: Path, module: Path) -> Path:
    """An instance that trades this strategy."""
    folder = tmp_path / "own"
    folder.mkdir()
    assert module.exists()
    (folder / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=drift\nFILTERS=none\nEXTENSIONS=none\n")
    return folder


@pytest.fixture
def page(home: Path, app_of: Callable[[Path], ASGIApp]) -> ASGIApp:
    """Its page."""
    return app_of(home)


def post(page: ASGIApp, who: dict[str, str] = CONFIRMED, **fields: str) -> Answer:
    """Send the form."""
    return ask(page, "POST", PATH, who, {"csrf": CSRF, **fields})


def asked(page: ASGIApp) -> dict[str, str]:
    """The fields of the answer to the question."""
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', post(page, ADMIN).text))


def shown(page: ASGIApp, who: dict[str, str] = ADMIN) -> str:
    """The page of plugins."""
    return unescape(ask(page, "GET", "/plugins", who).text)


def test_an_admin_approves_what_the_question_names(page: ASGIApp, home: Path, logins: GivenSessions) -> None:
    """The page, the question and the lock have the same; the lock and the audit log have the admin's name."""
    before = shown(page)
    row = before[before.index("strategy drift</th>") :].partition("</tr>")[0]
    assert ">new<" in row
    assert "their-drift 2.5" in row
    question = unescape(post(page, ADMIN).text)
    digest = re.search(r"<code>(\w{12})</code>", row)
    assert digest is not None
    assert f"new: strategy drift, their-drift 2.5, files {digest[1]}, origin" in question
    assert "needs nothing" in question
    assert not (home / FILE_NAME).exists()
    answer = ask(page, "POST", PATH, CONFIRMED, asked(page))
    assert answer.headers["location"] == "/plugins"
    lock = read_lock(home)
    assert lock is not None
    pinned = lock.of("strategy", "drift")
    assert pinned is not None
    assert (pinned.approver, pinned.files_hash) == ("web/a-admin", digest[1])
    (line,) = logins.security.lines
    assert line[0] == "a-admin"
    assert line[1].startswith(f"write approved {len(lock.plugins)} plugins, changed: ")
    assert "strategy/drift" in line[1]
    after = shown(page, CONFIRMED)
    assert f"{FILE_NAME} is written: {len(lock.plugins)} plugins" in after
    assert "Nothing differs from what is approved." in after
    assert PATH not in after


def test_a_plugin_that_changed_since_the_question_is_not_approved(
    page: ASGIApp, home: Path, module: Path, logins: GivenSessions
) -> None:
    """Nothing is written or recorded; the next question names the change with both hashes."""
    ask(page, "POST", PATH, CONFIRMED, asked(page))
    pinned = (home / FILE_NAME).read_text()
    logins.security.lines.clear()
    module.write_text(f"{PLUGIN}# one\n")
    fields = asked(page)
    module.write_text(f"{PLUGIN}# another\n")
    refused = ask(page, "POST", PATH, CONFIRMED, fields)
    assert refused.status == 400
    assert "The plugins are not those that were shown: nothing was approved." in refused.text
    assert ((home / FILE_NAME).read_text(), logins.security.lines) == (pinned, [])
    question = unescape(post(page, ADMIN).text)
    assert re.search(r"changed: strategy drift, .* files \w{12} \(approved before: 2\.5, \w{12}\)", question)
    assert "The strategy drift has a changed file: their_drift/__init__.py." in question
    (home / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nFILTERS=none\nEXTENSIONS=none\n")
    assert "removed: strategy drift, their-drift 2.5, is no longer enabled." in unescape(post(page, ADMIN).text)


def test_an_approval_needs_the_password_and_its_question(page: ASGIApp, home: Path) -> None:
    """Without the password it is asked for, and a wrong one makes nothing; without the digest nothing is approved."""
    fields = asked(page)
    place = ask_once(page, "POST", PATH, ADMIN, fields).headers["location"]
    assert place.startswith("/step-up?request=")
    number = place.partition("request=")[2]
    for password, written in (("wrong", False), (RIGHT, True)):
        ask(page, "POST", "/step-up", ADMIN, {"csrf": CSRF, "request": number, "password": password})
        assert (home / FILE_NAME).exists() is written
    (home / FILE_NAME).unlink()
    assert post(page, sure="yes").status == 400
    assert not (home / FILE_NAME).exists()


def test_others_see_the_state_and_no_approval(page: ASGIApp, home: Path) -> None:
    """Nothing is tried for them; what cannot be proposed is said to the admin."""
    text = shown(page, {"cookie": "tbot-session=trader"})
    assert "An admin approves them." in text
    assert "What an approval pins" not in text
    assert not (home / "data" / "plugins.json").exists()
    (home / ".env_bot").unlink()
    assert "is not an instance" in shown(page) or "no instance" in shown(page)


def test_trials_are_made_once(page: ASGIApp, home: Path) -> None:
    """Their results are recorded, so that the page is quick the next time."""
    shown(page)
    results = json.loads((home / "data" / "plugins.json").read_text())["results"]
    seen = {key: one["seen"] for key, one in results.items()}
    assert seen
    shown(page)
    again = json.loads((home / "data" / "plugins.json").read_text())["results"]
    assert {key: one["seen"] for key, one in again.items()} == seen
