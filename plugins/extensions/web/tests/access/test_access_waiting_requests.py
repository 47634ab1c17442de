"""Requests that wait for a bot, of users who were removed or lost their role since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.security_log import FREE_BYTES, SecurityLog

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.system import filesystem
from tbot_core.vault import audit_log

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
def bob(access: Any) -> Any:
    """An instance with another admin, bob."""
    access.add("bob", Role.ADMIN)
    return access


def ask(access: Any, actor: str, verbs: Iterable[ControlVerb]) -> None:
    """Make requests that no bot takes."""
    for verb in verbs:
        control.write_request(access.home / "control", verb, actor=actor, now=access.clock.now())


def waiting(access: Any) -> set[tuple[str, str]]:
    """Who asks for what."""
    return {(one.actor, one.verb.value) for one in control.read_folder(access.home / "control").requests}


def refusals(access: Any) -> list[tuple[str, str]]:
    """The acting user and the words of the lines about refused requests."""
    lines = audit_log.log_entries(audit_log.log_path(access.vault.instance))
    return [(one.actor, one.outcome) for one in lines if (one.action, one.category) == ("deny", "control")]


def test_requests_of_a_removed_user_are_refused(bob: Any) -> None:
    """Each with a line that says whose it was and why; a kill stays, and what others asked for."""
    ask(bob, "web/bob", set(ControlVerb))
    ask(bob, "web/alice", [ControlVerb.STOP])
    ask(bob, "bob", [ControlVerb.STOP])
    bob.do(bob.accounts.remove("bob", actor="alice"))
    assert waiting(bob) == {("web/bob", "kill"), ("web/alice", "stop"), ("bob", "stop")}
    refused_requests = refusals(bob)
    assert len(refused_requests) == len(set(refused_requests)) == len(ControlVerb) - 1
    words = "refused arm of web/bob, made 2026-11-24 09:30:00 in New York: the user was removed"
    assert ("web/alice", words) in refused_requests


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        (Role.TRADER, {"kill", "stop", "defense-on", "disarm", "confirm", "reject"}),
        (Role.VIEWER, {"kill"}),
    ],
)
def test_requests_that_a_new_role_may_not_make_are_refused(bob: Any, role: Role, kept: set[str]) -> None:
    """What the role still may ask for stays."""
    ask(bob, "web/bob", set(ControlVerb))
    bob.do(bob.accounts.set_role("bob", role, actor="alice"))
    assert {verb for _, verb in waiting(bob)} == kept
    assert all(words.endswith(f"the user is now {role}") for _, words in refusals(bob))


def test_without_roles_only_a_removal_refuses(bob: Any) -> None:
    """Every account is an admin then."""
    accounts = Accounts(SecurityLog(vault=bob.vault), bob.hasher, with_roles=False)
    ask(bob, "web/bob", [ControlVerb.STOP_FLATTEN])
    bob.do(accounts.set_role("bob", Role.VIEWER, actor="alice"))
    assert waiting(bob) == {("web/bob", "stop-flatten")}
    bob.do(accounts.remove("bob", actor="alice"))
    assert waiting(bob) == set()


def test_a_change_by_another_process_counts_at_the_next_reading(bob: Any) -> None:
    """As one of the command line, or of a page that was killed before it refused: also at a start of the page."""
    ask(bob, "web/bob", [ControlVerb.STOP])
    bob.accounts.read()
    bob.do(Accounts(SecurityLog(vault=bob.vault), bob.hasher).remove("bob", actor="alice"))
    ask(bob, "web/bob", [ControlVerb.STOP])  # what the other one left
    bob.accounts.read()
    assert waiting(bob) == set()
    ask(bob, "web/bob", [ControlVerb.STOP])
    bob.start()
    bob.accounts.read()
    assert waiting(bob) == set()
    assert {actor for actor, _ in refusals(bob)} == {"web/alice", "web/-"}


def test_nothing_is_refused_without_a_line(bob: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the request stays, the page goes on, and it is refused once there is space."""
    ask(bob, "web/carol", [ControlVerb.STOP])
    bob.start()
    free = filesystem.free_bytes
    monkeypatch.setattr(filesystem, "free_bytes", lambda _: FREE_BYTES - 1)
    assert set(bob.accounts.read()) == {"alice", "bob"}
    assert waiting(bob) == {("web/carol", "stop")}
    monkeypatch.setattr(filesystem, "free_bytes", free)
    bob.accounts.read()
    assert waiting(bob) == set()
