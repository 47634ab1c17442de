"""Logins through the page: what a refusal costs and says whatever its cause, and the lock at its limit."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from tbot_extension_web.access import denials
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.app import create_app
from tbot_extension_web.headers import Origin
from tbot_extension_web.site import Site
from tbot_extension_web.testing.browser import Browser
from tbot_extension_web.testing.client import HOST, Answer

from tbot_core import cli
from tbot_core.actions.settings_edit import settings_view
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets
from tbot_core.vault import audit_log

PASSWORD = "velvet otter quarry"
WRONG = "wrong wrong wrong"


def browser(access: Any) -> Browser:
    """A browser on the login page."""
    origin = Origin(scheme="http", hosts=frozenset({HOST}))
    found = Browser(app=create_app(Site(access.home, access.clock, origin, access.logins, "B01")))
    found.open("/login")
    return found


def try_login(access: Any, name: str, password: str) -> Answer:
    """The answer to a form that a new browser sends."""
    access.clock.advance(0.1)
    return browser(access).send("/login", {"name": name, "password": password})


@attrs.frozen
class Cost:
    """What an attempt made the machine do, and what it received; the name and the token of the form are left out."""

    hashes: int
    rows: int
    lines: int
    status: int
    headers: tuple[tuple[str, str], ...]
    text: str


def cost(access: Any, name: str, password: str) -> Cost:
    """An attempt with what it costs."""
    hashes, rows, lines = access.hasher.computed, access.store.changes, written(access)
    answer = try_login(access, name, password)
    own = {"set-cookie", "content-length"}
    headers = tuple(sorted((one, value) for one, value in answer.headers.items() if one not in own))
    return Cost(
        access.hasher.computed - hashes,
        access.store.changes - rows,
        written(access) - lines,
        answer.status,
        headers,
        re.sub(r'value="[^"]*"', "", answer.text),
    )


def written(access: Any) -> int:
    """The lines of the security log."""
    return len(list(audit_log.log_entries(audit_log.log_path(access.vault.instance))))


def test_known_and_unknown_names_cost_the_same_through_the_page(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash, one row, one line, and the same page: for a user, for none, and for both locked, right or wrong.

    No line for any where there are too many.
    """
    monkeypatch.setattr(denials, "AT_ONCE", 100)
    access.start()
    try_login(access, "first", WRONG)  # opening the file of users is a line of its own
    before = {cost(access, name, WRONG) for name in ("alice", "nobody", "../ \n")}
    (one,) = before
    assert (one.hashes, one.rows, one.lines, one.status) == (1, 1, 1, 401)
    for name in ("alice", "nobody"):
        for _ in range(access.rules.attempt_limit - 2):
            assert cost(access, name, WRONG) in before
        assert cost(access, name, WRONG).hashes == 1  # it locks, which is a line more
    locked = {cost(access, name, password) for name in ("alice", "nobody") for password in (WRONG, PASSWORD)}
    assert locked == before
    monkeypatch.setattr(denials, "AT_ONCE", 0)
    access.start()
    try_login(access, "first", WRONG)
    assert {cost(access, name, WRONG) for name in ("alice", "nobody")} == {attrs.evolve(one, lines=0)}


@pytest.mark.slow
def test_f108_the_lock_is_exact_through_the_page_and_the_command_line_is_not_locked(
    access: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit's last failure locks, over a restart and a changed clock; open sessions and `tbot kill` go on."""
    access.add("bob", Role.TRADER)
    inside = browser(access)
    assert inside.send("/login", {"name": "bob", "password": PASSWORD}).status == 200
    for _ in range(access.rules.attempt_limit - 1):
        assert try_login(access, "bob", WRONG).status == 401
    assert try_login(access, "bob", PASSWORD).status == 200
    for _ in range(access.rules.attempt_limit):
        assert try_login(access, "bob", WRONG).status == 401
    assert try_login(access, "bob", PASSWORD).status == 401
    access.clock.set_by(days=400)
    access.start()
    assert try_login(access, "bob", PASSWORD).status == 401
    access.clock.set_by(days=-800)
    assert try_login(access, "bob", PASSWORD).status == 401
    inside.app = browser(access).app
    assert inside.open("/risk").status == 200
    assert try_login(access, "alice", PASSWORD).status == 200
    (access.home / ".env_bot").write_text("STRATEGY_SEQUENCE=open\n")
    monkeypatch.setenv("TBOT_HOME", str(access.home))
    assert cli.invoke(["kill", "--home", str(access.home)]) == 0
    assert list((access.home / "control").iterdir())
    access.clock.advance(access.rules.lockout_minutes * 60)
    assert try_login(access, "bob", PASSWORD).status == 200


@pytest.mark.slow
def test_a_wrong_password_at_a_change_of_settings_counts_as_a_failed_login(access: Any) -> None:
    """It ends the session at the limit and locks the name; nothing is saved, and the log has each refusal."""
    own = secrets.open_instance_vault(Instance(access.home), DeploymentSettings())
    secrets.encrypt_category(own, "env_bot", b"BROKER_NAME=PAPER\nTRADE_CONFIRMATION_REQUIRED=true\n")
    access.start(attempt_limit=3)
    admin = browser(access)
    admin.send("/login", {"name": "alice", "password": PASSWORD})
    admin.open("/settings/entries")
    form = {"version": settings_view(access.home).version, "set.TRADE_CONFIRMATION_REQUIRED": "false"}
    assert "Entries no longer wait for a person." in admin.send("/settings/review", form).text
    for _ in range(3):
        access.clock.advance(1)
        admin.send("/settings/save", {**form, "password": WRONG})
    assert access.logins.locked_users() == ("alice",)
    assert access.logins.sessions("alice") == []
    assert settings_view(access.home).values["TRADE_CONFIRMATION_REQUIRED"].value is True
    assert [it for it in access.log() if it[1] == "step-up"] == [("web/alice", "step-up", "refused")] * 3
