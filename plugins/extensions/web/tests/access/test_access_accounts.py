"""Accounts: users in the vault, changed whole or not at all, and never without an admin."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tbot_extension_web.access import accounts as module
from tbot_extension_web.access import second_factor
from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.credentials import LoginCredentials, Role
from tbot_extension_web.access.security_log import FREE_BYTES, SecurityLog

from tbot_core.actions.secrets import put_values
from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import AccessError, SettingsError, UsageError, VaultError
from tbot_core.instance import secret_schemas
from tbot_core.instance.secrets import encrypt_category
from tbot_core.system import filesystem
from tbot_core.vault import audit_log

PASSWORD = "velvet otter quarry"


def stored(access: Any) -> Any:
    """The content of the file of users."""
    with access.vault.read("login") as opened:
        return json.loads(bytes(opened.view))


def write(access: Any, sections: dict[str, Any]) -> None:
    """Write the file of users, as `tbot secrets set` does."""
    encrypt_category(access.vault, "login", json.dumps(sections).encode())


def test_users_are_sections_of_the_category(access: Any) -> None:
    """A user is a section with hash and role; nothing of it is on the disk in plain."""
    access.add("Bob.Smith", Role.TRADER)
    found = stored(access)
    assert sorted(found) == ["alice", "bob.smith"]
    assert sorted(found["bob.smith"]) == ["hash", "role"]
    assert found["bob.smith"]["role"] == "trader"
    assert access.vault.verify(secret_schemas.schemas()) == ()
    assert {name: account.role for name, account in access.accounts.read().items()} == {
        "alice": Role.ADMIN,
        "bob.smith": Role.TRADER,
    }


def test_the_declared_fields_are_those_of_the_core() -> None:
    """The plugin declares what the core knows of the category while the plugin is not installed."""
    own, known = secret_fields(LoginCredentials), secret_schemas.schemas()["login", ""]
    assert {name: (it.doc, it.aliases, it.default_text, it.hidden, it.kind.allowed) for name, it in own.items()} == {
        name: (it.doc, it.aliases, it.default_text, it.hidden, it.kind.allowed) for name, it in known.items()
    }


@pytest.mark.parametrize("name", ["", "a", "-ab", "a b", "a/b", "ä1", "x" * 33, "a\nb", "ab\u0000"])
def test_names_are_plain(empty: Any, name: str) -> None:
    """A name is two to 32 letters, digits, dots, hyphens and underscores; anything else is refused."""
    with pytest.raises(UsageError, match="2 to 32"):
        empty.add(name)
    assert empty.accounts.read() == {}


def test_no_user_is_called_as_the_first_run_is(access: Any) -> None:
    """Its line in the log names the right user."""
    with pytest.raises(UsageError, match="the first run"):
        access.add(" Setup")


def test_a_weak_password_is_refused_with_the_bots_identity_known(access: Any) -> None:
    """The password rules hold for new users and changes, with the user's name and the bot's identity as words."""
    for password in ("short", "bob-bob-bob-bob", "us_tx_sim_b01"):
        with pytest.raises(UsageError):
            access.do(access.accounts.add("bob", password, Role.VIEWER, actor="alice"))
        with pytest.raises(UsageError):
            access.do(access.accounts.set_password("alice", password, actor="alice"))
    assert list(access.accounts.read()) == ["alice"]


def test_the_last_admin_stays_one(access: Any) -> None:
    """The last admin can neither be removed nor get another role; with a second one both work."""
    for work in (access.accounts.remove, access.accounts.set_role):
        args = (Role.VIEWER,) if work == access.accounts.set_role else ()
        with pytest.raises(UsageError, match="last admin"):
            access.do(work("alice", *args, actor="alice"))
    access.add("bob", Role.ADMIN)
    access.do(access.accounts.set_role("alice", Role.VIEWER, actor="bob"))
    assert access.accounts.read()["alice"].role is Role.VIEWER
    access.do(access.accounts.remove("alice", actor="bob"))
    assert list(access.accounts.read()) == ["bob"]


def test_a_name_is_added_once_and_an_unknown_one_is_not_changed(access: Any) -> None:
    """A second user of a name is refused, and so is any change of a user who does not exist."""
    with pytest.raises(UsageError, match="exists"):
        access.add("ALICE")
    accounts = access.accounts
    for work in (
        accounts.set_password("bob", PASSWORD, actor="alice"),
        accounts.set_role("bob", Role.ADMIN, actor="alice"),
        accounts.set_totp("bob", None, actor="alice"),
        accounts.remove("bob", actor="alice"),
        accounts.spend_recovery("bob", "0"),
    ):
        with pytest.raises(UsageError, match="does not exist"):
            access.do(work)


def test_changes_are_recorded_with_the_acting_user(access: Any) -> None:
    """Each change is in the security log with the user who made it, as are the accesses to the vault for it."""
    access.add("bob")
    access.do(access.accounts.set_role("bob", Role.TRADER, actor="alice"))
    access.do(access.accounts.remove("bob", actor="alice"))
    assert access.log()[1:] == [
        ("web/alice", "account", "addition of bob: viewer"),
        ("web/alice", "account", "role of bob: trader"),
        ("web/alice", "account", "removal of bob"),
    ]
    lines = [it for it in audit_log.log_entries(audit_log.log_path(access.vault.instance)) if it.action == "write"]
    assert {(it.actor, it.category) for it in lines[1:]} == {("web/alice", "login")}


def test_what_changes_nothing_writes_nothing(access: Any) -> None:
    """A hash that was changed meanwhile is not renewed: the file stays as it is."""
    account = access.accounts.read()["alice"]
    access.do(access.accounts.set_password("alice", "another quarry otter", actor="alice"))
    before = filesystem.revision(access.home / "storage/secrets/login.json.enc")
    access.do(access.accounts.renew_hash(account, PASSWORD))
    assert filesystem.revision(access.home / "storage/secrets/login.json.enc") == before


def test_concurrent_changes_all_count(access: Any) -> None:
    """Changes from several processes at once: none is lost, and of two first admins only one is made."""
    others = [Accounts(SecurityLog(vault=access.vault), access.hasher) for _ in range(4)]

    async def story() -> None:
        work = (one.add(f"user{at}", PASSWORD, Role.VIEWER, actor="alice") for at, one in enumerate(others))
        await asyncio.gather(*work)

    access.do(story())
    assert sorted(access.accounts.read()) == ["alice", "user0", "user1", "user2", "user3"]


def test_of_two_first_admins_one_is_made(empty: Any) -> None:
    """Two that use the link at once: the second is refused."""

    async def story() -> list[Any]:
        work = (empty.accounts.add_first_admin(name, PASSWORD) for name in ("alice", "mallory"))
        return await asyncio.gather(*work, return_exceptions=True)

    found = empty.do(story())
    assert sum(isinstance(one, UsageError) for one in found) == 1
    assert len(empty.accounts.read()) == 1


def test_who_is_no_admin_any_more_changes_no_other_account(access: Any) -> None:
    """As judged when the change is written: a user who was removed or demoted meanwhile changes none but the own."""
    access.add("bob", Role.ADMIN)
    access.do(access.accounts.set_role("alice", Role.TRADER, actor="bob"))
    for actor in ("alice", "mallory"):
        for work in (
            access.accounts.add("eve", PASSWORD, Role.ADMIN, actor=actor),
            access.accounts.set_role("bob", Role.VIEWER, actor=actor),
            access.accounts.remove("bob", actor=actor),
        ):
            with pytest.raises(UsageError, match="not an admin any more"):
                access.do(work)
    access.do(access.accounts.set_password("alice", "another quarry otter", actor="alice"))
    without = Accounts(SecurityLog(vault=access.vault), access.hasher, with_roles=False)
    access.do(without.add("eve", PASSWORD, Role.VIEWER, actor="alice"))
    assert sorted(access.accounts.read()) == ["alice", "bob", "eve"]


def test_a_lock_that_is_held_too_long_is_an_error(access: Any) -> None:
    """A change gives up when another process writes secrets for seconds."""
    access.vault.wait_s = 0.05
    with access.vault.store.holding("broker"), pytest.raises(VaultError, match="another tbot process is writing"):
        access.add("bob")


def test_a_user_whom_the_command_line_adds_meanwhile_stays(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its write comes after the page has read the accounts; the page's change is made of the new ones."""
    text, dump = access.accounts.read()["alice"].hash.inspect(), module._dump
    (access.home / ".env_bot").touch()
    waiting = [{"eve": {"hash": text, "role": "viewer"}}]

    def dumped(accounts: Any) -> bytes:
        if waiting:
            put_values(access.home, "login", waiting.pop())
        return dump(accounts)

    monkeypatch.setattr(module, "_dump", dumped)
    access.add("bob")
    assert sorted(stored(access)) == ["alice", "bob", "eve"]
    monkeypatch.setattr(module, "_TRIES", 2)
    waiting += [{"eve": {"hash": text, "role": "trader"}}] * 2
    with pytest.raises(AccessError, match="keep changing"):
        access.add("carol")
    assert "carol" not in stored(access)


def test_a_file_written_by_hand_is_read(access: Any) -> None:
    """Users whose section was written by `tbot secrets set`, with aliases and capitals, log in."""
    text = access.accounts.read()["alice"].hash.inspect()
    secret = second_factor.new_totp_secret()
    write(access, {"Root": {"password_hash": text, "ROLE": "admin", "totp_secret": secret}, "eve": {"hash": "plain"}})
    found = access.accounts.read()
    assert (found["root"].role, found["root"].totp.inspect()) == (Role.ADMIN, secret)
    assert found["eve"].role is Role.VIEWER
    assert not hasattr(access.log_in("eve", "plain"), "token")
    access.do(access.accounts.add("bob", PASSWORD, Role.VIEWER, actor="root"))
    assert stored(access)["root"] == {"hash": text, "role": "admin", "totp": secret}


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"Bob": {"hash": "x"}, "bob": {"hash": "y"}}, SettingsError),
        ({"bob": {"hash": "x", "role": "god"}}, VaultError),
        ({"bob": {"role": "viewer"}}, VaultError),
        ({"bob": 1}, VaultError),
    ],
)
def test_an_invalid_file_is_an_error_that_names_no_value(access: Any, sections: Any, fault: type[Exception]) -> None:
    """A login gets the fault of the file, and nothing is changed on top of it."""
    write(access, sections)
    with pytest.raises(fault):
        access.log_in()
    with pytest.raises(fault):
        access.add("carol")
    assert stored(access) == sections


def test_the_second_factor_is_set_and_ended(access: Any) -> None:
    """Recovery codes are stored by their hashes; without a second factor nothing of it stays."""
    secret, codes = second_factor.new_totp_secret(), second_factor.new_recovery_codes()
    with pytest.raises(UsageError, match="Base32"):
        access.do(access.accounts.set_totp("alice", "short", actor="alice"))
    access.do(access.accounts.set_totp("alice", secret, codes, actor="alice"))
    assert stored(access)["alice"]["recovery"] == ",".join(map(second_factor.recovery_hash, codes))
    assert access.accounts.read()["alice"].totp.inspect() == secret
    access.do(access.accounts.set_totp("alice", None, actor="alice"))
    assert sorted(stored(access)["alice"]) == ["hash", "role"]


def test_the_file_is_opened_only_when_it_changed(access: Any) -> None:
    """Reading accounts for each request does not decrypt the file each time."""
    access.accounts.read()
    lines = audit_log.log_head(audit_log.log_path(access.vault.instance)).count
    for _ in range(5):
        access.accounts.read()
    assert audit_log.log_head(audit_log.log_path(access.vault.instance)).count == lines


def test_a_full_disk_refuses_logins_and_keeps_the_reserve(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no space left nothing is recorded: the space that is reserved for exits is not used up by logins."""
    lines = access.log()
    monkeypatch.setattr(filesystem, "free_bytes", lambda _: FREE_BYTES - 1)
    with pytest.raises(AccessError, match="full"):
        access.log_in()
    assert access.log() == lines
    assert access.logins.sessions() == []


def test_a_process_killed_during_a_change_leaves_the_accounts_whole(access: Any) -> None:
    """CP25: killed at any write, the file holds the accounts of before or after the change, and the next one works."""
    disk, names, number = access.vault.system, {"alice"}, 0
    while True:
        disk.dies_at, name = number, f"user{number}"
        number += 1
        try:
            access.add(name)
        except BaseException as fault:
            disk.dies_at = None
            if type(fault).__name__ != "Killed":
                raise
            access.start()
            found = set(access.accounts.read())
            assert found in (names, names | {name})
            names = found
        else:
            break
    disk.dies_at = None
    assert number > 10
    access.add("last")
    assert set(access.accounts.read()) == names | {name, "last"}
    head = access.vault.audit.verify()
    assert head.count > number


def test_an_owner_who_lost_the_password_gets_a_new_link(access: Any) -> None:
    """Without the admin's section, as `tbot secrets edit login` leaves it, the next start makes a link again."""
    token = access.token()
    write(access, {})
    access.start()
    assert access.logins.session(token) is None
    link = access.link.make()
    access.do(access.link.make_admin(link, "127.0.0.1", "alice", "another quarry otter"))
    assert access.token(password="another quarry otter")
