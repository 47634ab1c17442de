"""Logins: who gets in, what locks, how long, and that a refusal says and does the same whatever its cause."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.access import login_store, passwords, second_factor
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.denials import AT_ONCE, EVERY_S
from tbot_extension_web.access.login_rules import LoginRules
from tbot_extension_web.access.logins import BUSY, STEP_UP_REFUSED, LoggedIn, Refused, csrf_token
from tbot_extension_web.access.passwords import HashParameters

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, TbotError, UsageError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "velvet otter quarry"
AWAY = "192.0.2.7"


def is_in(answer: Any) -> bool:
    """Whether a login or a step-up was accepted."""
    return isinstance(answer, LoggedIn)


def test_a_right_password_logs_in_and_the_session_knows_who(access: Any) -> None:
    """A login gives a new token of 256 bits; its session has user, role and the token against forged requests."""
    first, second = access.log_in("  Alice "), access.log_in()
    assert len(first.token) == 64
    assert first.token != second.token
    session = access.logins.session(first.token)
    assert (session.user, session.role, session.stepped_up) == ("alice", Role.ADMIN, False)
    assert session.csrf == first.csrf == csrf_token(first.token) != second.csrf
    assert access.logins.session("0" * 64) is None


def test_every_refusal_has_one_sentence(access: Any) -> None:
    """Wrong password, unknown name, impossible name, missing code and a lock cannot be distinguished."""
    names = ("bob", "../\udcff \n", "")
    answers = [access.log_in(password="x" * 300), *(access.log_in(name) for name in names)]
    access.do(access.accounts.set_totp("alice", second_factor.new_totp_secret(), actor="alice"))
    answers.append(access.log_in())
    access.fail(10)
    answers.append(access.log_in())
    assert set(answers) == {Refused(sentence=access.rules.refusal)}
    assert "15 minutes" in access.rules.refusal


def test_the_attempt_after_the_limit_is_refused_though_it_is_right(access: Any) -> None:
    """F108: ten failures lock; the eleventh attempt is refused with the right password, until the lock-out ends."""
    access.fail(9)
    assert is_in(access.log_in())
    access.fail(10)
    access.clock.advance(15 * 60 - 0.2)
    assert access.logins.locked_users() == ("alice",)
    assert not is_in(access.log_in())
    access.clock.advance(0.1)
    assert access.logins.locked_users() == ()
    assert is_in(access.log_in())


def test_attempts_during_a_lock_do_not_lengthen_it(access: Any) -> None:
    """A lock lasts as long as the setting says, whatever is tried meanwhile."""
    access.fail(10)
    access.clock.advance(10 * 60)
    access.fail(10)
    access.clock.advance(5 * 60)
    assert is_in(access.log_in())


def test_failures_are_forgotten_after_the_time_of_a_lock(access: Any) -> None:
    """Failures that are a lock-out's length apart do not add up."""
    access.fail(9)
    access.clock.advance(15 * 60)
    access.fail(9)
    assert is_in(access.log_in())


@pytest.mark.parametrize("shift", [{"days": 400}, {"days": -400}])
def test_a_lock_outlasts_a_restart_and_a_changed_clock(access: Any, shift: dict[str, float]) -> None:
    """F108: within a boot the wall clock neither ends nor lengthens a lock, also over a restart of the process."""
    access.fail(10)
    access.clock.set_by(**shift)
    access.start()
    assert not is_in(access.log_in())
    access.clock.advance(14 * 60)
    access.start()
    assert not is_in(access.log_in())
    access.clock.advance(60)
    assert is_in(access.log_in())


def test_a_lock_outlasts_a_reboot_by_the_wall_clock(access: Any) -> None:
    """After a reboot what is left of the lock counts, by the wall clock."""
    access.fail(10)
    access.clock.advance(5 * 60)
    access.reboot()
    access.clock.advance(9 * 60)
    access.start()
    assert not is_in(access.log_in())
    access.clock.advance(60)
    assert is_in(access.log_in())


@pytest.mark.parametrize("reboots", [1, 2])
def test_a_clock_set_back_over_a_reboot_does_not_lengthen_a_lock(access: Any, reboots: int) -> None:
    """A reboot with a clock that was set back leaves at most the whole lock-out, counted from the reboot."""
    access.fail(10)
    access.clock.set_by(days=-400)
    for _ in range(reboots):
        access.reboot()
        access.clock.advance(7 * 60)
    assert not is_in(access.log_in())
    access.clock.advance((15 - 7 * reboots) * 60)
    assert is_in(access.log_in())


def test_a_lock_of_one_user_leaves_others_and_open_sessions_alone(access: Any) -> None:
    """A lock keeps neither another user out nor ends the user's own session, and the session may still step up."""
    access.add("bob")
    token = access.token()
    access.fail(10)
    assert is_in(access.log_in("bob"))
    assert access.logins.session(token).user == "alice"
    assert is_in(access.do(access.logins.step_up(token, PASSWORD, "")))
    assert not is_in(access.log_in())


def test_failures_count_for_the_network_too(access: Any) -> None:
    """Ten failures from a /24 or /64, whatever the names, refuse all logins from it, and from nowhere else."""
    for number in range(10):
        access.fail(1, f"user{number}", source=f"192.0.2.{number}")
        access.fail(1, f"user{number}", source=f"2001:db8::{number}")
    assert not is_in(access.log_in(source="192.0.2.200"))
    assert not is_in(access.log_in(source="::ffff:192.0.2.200"))
    assert not is_in(access.log_in(source="2001:db8::ffff"))
    assert is_in(access.log_in(source="192.0.3.1"))
    assert is_in(access.log_in(source="2001:db8:0:1::1"))
    assert is_in(access.log_in(source="::1"))


def test_a_locked_network_cannot_lock_names(access: Any) -> None:
    """From a locked network the failures count for no name: a stranger cannot lock every user."""
    access.fail(10, "nobody1", source=AWAY)
    access.fail(20, source=AWAY)
    assert is_in(access.log_in())


def test_this_machine_is_no_network(access: Any) -> None:
    """Failures from a loopback address count for the name alone."""
    for number in range(30):
        access.fail(1, f"user{number}", source="127.0.0.1")
    assert is_in(access.log_in())


def test_an_admin_unlocks_a_user(access: Any) -> None:
    """What an admin unlocks may log in at once."""
    access.fail(10)
    assert access.do(access.logins.unlock("alice", actor="root"))
    assert is_in(access.log_in())
    assert not access.do(access.logins.unlock("alice", actor="root"))


@pytest.mark.parametrize(("source", "rows"), [("127.0.0.1", 1), (AWAY, 2)])
def test_known_and_unknown_names_cost_the_same(access: Any, source: str, rows: int) -> None:
    """Known or unknown, locked or not, right or wrong: a refused attempt makes one hash and changes as many rows."""
    for name in ("alice", "unknown", "not a name"):
        for password in ["wrong wrong wrong"] * 12 + [PASSWORD]:
            hashes, changes = access.hasher.computed, access.store.changes
            assert not is_in(access.log_in(name, password, source=source))
            assert (access.hasher.computed - hashes, access.store.changes - changes) == (1, rows)


def test_an_unknown_name_costs_what_the_stored_hashes_cost(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash for a name that is no user's has the parameters of the users' hashes, also after the setting changed."""
    seen: list[str] = []
    plain = access.hasher.verify

    async def verify(password: str, text: str) -> bool:
        seen.append(text)
        return bool(await plain(password, text))

    monkeypatch.setattr(access.hasher, "verify", verify)
    access.hasher.parameters = HashParameters(memory_kib=64, iterations=2)
    access.log_in("unknown")
    access.log_in(password="wrong wrong wrong")
    assert seen[0].split("$")[3] == seen[1].split("$")[3] == "m=8,t=1,p=1"


def test_attempts_are_bounded_whatever_the_name(access: Any) -> None:
    """Beyond the budget of all sources nothing is hashed or counted; the budget comes back with time."""
    answers = [access.do(access.logins.log_in("x", "y", "", AWAY, "")) for _ in range(20)]
    hashes, changes = access.hasher.computed, access.store.changes
    answers.append(access.do(access.logins.log_in("alice", PASSWORD, "", AWAY, "")))
    token = access.token
    assert [answer.busy for answer in answers] == [False] * 20 + [True]
    assert answers[-1] == Refused(sentence=BUSY, busy=True)
    assert (access.hasher.computed, access.store.changes) == (hashes, changes)
    assert token("alice")


def test_a_password_is_hashed_anew_where_the_parameters_changed(access: Any) -> None:
    """A login renews a hash of other parameters; the password stays, and the session lives on."""
    access.hasher.parameters = HashParameters(memory_kib=16, iterations=1)
    token = access.token()
    assert access.accounts.read()["alice"].hash.inspect().startswith("$argon2id$v=19$m=16,t=1,p=1$")
    assert access.logins.session(token) is not None
    hashes = access.hasher.computed
    assert is_in(access.log_in())
    assert access.hasher.computed - hashes == 1


def test_a_hash_that_cannot_be_renewed_does_not_keep_the_user_out(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file of users cannot be written, a login with a hash of former parameters is accepted."""

    async def fails(*_: object) -> None:
        raise TbotError("The disk is full.")

    access.hasher.parameters = HashParameters(memory_kib=16, iterations=1)
    monkeypatch.setattr(access.accounts, "renew_hash", fails)
    assert access.logins.session(access.token()) is not None


def test_a_password_changed_during_a_login_refuses_it(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that was changed or removed while it was verified begins no session."""
    plain = access.hasher.verify

    async def verify(password: str, text: str) -> bool:
        right = bool(await plain(password, text))
        await access.accounts.set_password("alice", "another quarry otter", actor="alice")
        return right

    monkeypatch.setattr(access.hasher, "verify", verify)
    assert not is_in(access.log_in())
    assert access.logins.sessions() == []


def test_refusals_locks_and_logins_are_in_the_security_log(access: Any) -> None:
    """Each event is a line with the user and the network; a name that is no user's is written nowhere."""
    access.start(attempt_limit=1)
    token = access.token()
    access.fail(1, source=AWAY)
    access.fail(1, "hunter2hunter2", source="198.51.100.1")
    access.do(access.logins.log_out(token))
    access.do(access.logins.log_out(token))
    access.do(access.logins.unlock("alice", actor="alice"))
    assert access.log()[1:] == [
        ("web/alice", "login", "ok"),
        ("web/alice@192.0.2.0/24", "login", "refused"),
        ("web/alice@192.0.2.0/24", "lock", "source"),
        ("web/alice@192.0.2.0/24", "lock", "name"),
        ("web/-@198.51.100.0/24", "login", "refused"),
        ("web/-@198.51.100.0/24", "lock", "source"),
        ("web/-@198.51.100.0/24", "lock", "name"),
        ("web/alice", "logout", "ok"),
        ("web/alice", "unlock", "alice"),
    ]
    access.close()
    for path in filesystem.files(access.home):
        assert b"hunter2" not in filesystem.read_bytes(path), path


def test_no_secret_shows_in_a_representation(access: Any) -> None:
    """Neither tokens nor hashes nor secrets of one-time passwords are shown by what holds them."""
    secret = second_factor.new_totp_secret()
    access.do(access.accounts.set_totp("alice", secret, ["abcd-efgh"], actor="alice"))
    code = second_factor.totp_code(secret, access.clock.now())
    answer = access.log_in(code=code)
    account = access.accounts.read()["alice"]
    shown = repr((answer, access.logins.session(answer.token), account, access.logins.sessions()))
    hidden = (answer.token, answer.csrf, secret, account.hash.inspect(), *account.recovery)
    assert not [one for one in hidden if one in shown]


def test_a_session_ends_when_idle_and_in_any_case(access: Any) -> None:
    """SESSION_TIMEOUT ends a session that is idle, SESSION_TIMEOUT_MINUTES one that is used."""
    idle, used = access.token(), access.token()
    for _ in range(119):
        access.clock.advance(60)
        assert access.logins.session(used) is not None
    assert access.logins.session(idle) is None
    access.clock.advance(61)
    assert access.logins.session(used) is None


def test_a_page_that_reloads_itself_does_not_keep_a_session_alive(access: Any) -> None:
    """A request that no person makes does not end the idle time."""
    token = access.token()
    for _ in range(49):
        access.clock.advance(60)
        assert access.logins.session(token, active=False) is not None
    access.clock.advance(61)
    assert access.logins.session(token, active=False) is None


def test_a_clock_that_is_set_does_not_move_the_end_of_a_session(access: Any) -> None:
    """Sessions are timed by the monotonic clock, over a restart of the process; a reboot ends them."""
    token = access.token()
    access.clock.set_by(days=-1)
    access.start()
    access.clock.set_by(days=3)
    assert access.logins.session(token) is not None
    access.clock.advance(3000)
    assert access.logins.session(token) is None
    token = access.token()
    access.reboot()
    assert access.logins.session(token) is None


def test_a_session_is_marked_as_used_each_half_minute_at_most(access: Any) -> None:
    """A request within half a minute of the last writes nothing."""
    token = access.token()
    changes = access.store.changes
    access.clock.advance(29)
    access.logins.session(token)
    assert access.store.changes == changes
    access.clock.advance(1)
    access.logins.session(token)
    assert access.store.changes == changes + 1


@pytest.mark.parametrize("change", ["password", "role", "removal"])
def test_another_password_or_role_and_removal_end_all_sessions(access: Any, change: str) -> None:
    """After a change of an account, by any process, its sessions end at once, those of others do not."""
    access.add("bob")
    tokens, mine = (access.token("bob"), access.token("bob")), access.token()
    accounts = access.accounts
    access.start()  # another process would have other objects
    work = {
        "password": lambda: accounts.set_password("bob", "another quarry otter", actor="alice"),
        "role": lambda: accounts.set_role("bob", Role.TRADER, actor="alice"),
        "removal": lambda: accounts.remove("bob", actor="alice"),
    }
    access.do(work[change]())
    assert [it.user for it in access.logins.sessions()] == ["alice"]
    assert [access.logins.session(token) for token in tokens] == [None, None]
    assert access.logins.session(mine) is not None


def test_without_roles_every_account_is_admin(access: Any) -> None:
    """RBAC_ENABLED=false: a viewer's session has the role of an admin."""
    access.add("bob")
    access.start(with_roles=False)
    assert access.logins.session(access.token("bob")).role is Role.ADMIN


def test_sessions_are_listed_and_ended(access: Any) -> None:
    """A user sees the own sessions with source and agent, and ends one or all; not those of another user."""
    access.add("bob")
    one, two, other = access.token(), access.token(source=AWAY), access.token("bob")
    rows = access.logins.sessions("alice")
    assert [(it.user, it.source, it.agent) for it in rows] == [
        ("alice", "this machine", "Firefox"),
        ("alice", "192.0.2.0/24", "Firefox"),
    ]
    assert rows[0].idle_s > rows[1].idle_s
    assert not access.logins.end_session("bob", rows[0].id)
    assert access.logins.end_session("alice", rows[0].id)
    assert [access.logins.session(it) is None for it in (one, two, other)] == [True, False, False]
    assert access.store.sessions.end_all("alice") == 1
    assert access.logins.session(two) is None
    assert len(access.logins.sessions()) == 1


def test_a_user_has_a_bounded_number_of_sessions(access: Any) -> None:
    """The twenty-first session ends the one that was idle longest; an agent is shortened and printable."""
    first = access.token()
    second = access.token()
    access.clock.advance(60)
    assert access.logins.session(first)
    for _ in range(19):
        access.token()
    assert (access.logins.session(first) is None, access.logins.session(second) is None) == (False, True)
    access.clock.advance(1)
    access.do(access.logins.log_in("alice", PASSWORD, "", "", "a\x1b[31m" + "b" * 5000))
    agent = access.logins.sessions()[-1].agent
    assert len(agent) == 120
    assert agent.isprintable()


def test_a_step_up_gives_a_new_token_for_five_minutes(access: Any) -> None:
    """After a step-up the former token is void, and dangerous requests are allowed for five minutes."""
    token = access.token()
    renewed = access.do(access.logins.step_up(token, PASSWORD, ""))
    assert access.logins.session(token) is None
    assert access.logins.session(renewed.token).stepped_up
    access.clock.advance(300)
    assert access.logins.session(renewed.token).stepped_up is False
    assert len(access.logins.sessions()) == 1


def test_failed_step_ups_count_and_end_the_session(access: Any) -> None:
    """At the limit the session ends, even if the next password is right, and the name is locked.

    A right password before it forgets them; entered for one request, it allows no other.
    """
    token = access.token()
    for _ in range(9):
        access.clock.advance(0.1)
        assert access.do(access.logins.step_up(token, "wrong", "")) == Refused(sentence=STEP_UP_REFUSED)
    assert access.do(access.logins.confirm(token, PASSWORD, "")) is None
    assert not access.logins.session(token).stepped_up
    for _ in range(10):
        access.clock.advance(0.1)
        assert access.logins.session(token) is not None
        assert not is_in(access.do(access.logins.step_up(token, "wrong", "")))
    assert access.logins.session(token) is None
    assert not is_in(access.do(access.logins.step_up(token, PASSWORD, "")))
    assert access.logins.locked_users() == ("alice",)


def test_a_session_that_ends_during_a_step_up_stays_ended(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step-up does not revive a session that was ended while the password was verified."""
    token, plain = access.token(), access.hasher.verify

    async def verify(password: str, text: str) -> bool:
        access.store.sessions.end_all("alice")
        return bool(await plain(password, text))

    monkeypatch.setattr(access.hasher, "verify", verify)
    assert not is_in(access.do(access.logins.step_up(token, PASSWORD, "")))
    assert access.logins.sessions() == []


def test_step_ups_and_changes_of_a_password_share_the_budget(access: Any) -> None:
    """What verifies a password is bounded as logins are, by a budget of its own."""
    token = access.token()
    answers = [access.do(access.logins.step_up(token, PASSWORD, "")) for _ in range(30)]
    assert answers[-1] == Refused(sentence=BUSY, busy=True)
    token = access.token()
    for _ in range(3):
        access.do(access.logins.step_up("0" * 64, PASSWORD, ""))
    assert access.do(access.logins.change_password(token, PASSWORD, "", "another quarry otter")).busy


def test_a_session_without_a_code_ends_where_codes_are_required(access: Any) -> None:
    """As when the page is started on an address that other machines reach; one of an account with codes goes on."""
    access.add("bob")
    access.do(access.accounts.set_totp("bob", secret := second_factor.new_totp_secret(), actor="bob"))
    without, with_codes = access.token(), access.token("bob", code=second_factor.totp_code(secret, access.clock.now()))
    access.start(totp_required=True)
    assert access.logins.session(with_codes).user == "bob"
    assert access.logins.session(without) is None
    access.start(totp_required=False)
    assert access.logins.session(without) is None


def test_a_store_that_another_program_writes_holds_the_page_up_for_a_moment(access: Any) -> None:
    """A login is refused then, within a second; who is logged in goes on."""
    token, began = access.token(), time.monotonic()
    with closing(sqlite3.connect(access.home / "data" / login_store.FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert access.logins.session(token).user == "alice"
        with pytest.raises(AccessError, match="locked"):
            access.log_in()
    assert time.monotonic() - began < 2
    assert is_in(access.log_in())


def test_logins_that_strangers_try_do_not_fill_the_security_log(access: Any) -> None:
    """Refusals and locks are few lines, which say how many are left out; each login that is accepted is one."""
    for number in range(10):
        access.fail(30, f"nobody{number}")
    lines = [(action, outcome) for _, action, outcome in access.log() if action in {"login", "lock"}]
    assert Counter(lines) == {("login", "refused"): AT_ONCE, ("lock", "name"): 10}
    access.clock.advance(EVERY_S)
    access.fail(1)
    assert access.log()[-1] == ("web/alice", "login", f"refused, {300 - AT_ONCE} more before it")
    for _ in range(AT_ONCE + 1):
        access.token()
    assert [line[1:] for line in access.log()[-AT_ONCE - 1 :]] == [("login", "ok")] * (AT_ONCE + 1)
    assert access.logins.last_logins() == {"alice": access.clock.now()}


def test_codes_that_are_turned_on_or_off_end_the_other_sessions(access: Any) -> None:
    """The acting one goes on under a new token, with its step-up; also where an admin turns them off for a user."""
    access.add("bob")
    token, other = access.token("bob"), access.token("bob")
    token = access.do(access.logins.step_up(token, PASSWORD, "")).token
    secret = second_factor.new_totp_secret()
    code = second_factor.totp_code(secret, access.clock.now())
    found, _ = access.do(access.logins.enrol_totp(token, secret, code))
    assert access.logins.session(found.token).stepped_up
    assert access.logins.session(found.token).csrf == found.csrf
    assert [access.logins.session(one) for one in (token, other)] == [None, None]
    with pytest.raises(UsageError, match="ended"):
        access.do(access.logins.end_totp(other))
    ended = access.do(access.logins.end_totp(found.token))
    assert access.logins.session(ended.token).user == "bob"
    access.do(access.accounts.set_totp("bob", secret, actor="bob"))
    assert access.logins.session(ended.token) is None


def test_strangers_keep_no_session_from_a_step_up(access: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by spending the budget of logins, nor by what their hashes take."""
    token, going, plain = access.token(), Event(), passwords.password_matches

    def verify(password: str, text: str) -> bool:
        if password == "slow":
            going.wait(10)
        return plain(password, text)

    monkeypatch.setattr(passwords, "password_matches", verify)

    async def story() -> tuple[Any, list[Any]]:
        tries = [asyncio.create_task(access.logins.log_in("x", "slow", "", AWAY, "")) for _ in range(30)]
        await asyncio.sleep(0)
        stepped_up = await asyncio.wait_for(access.logins.step_up(token, PASSWORD, ""), 5)
        going.set()
        return stepped_up, await asyncio.gather(*tries)

    stepped_up, tries = access.do(story())
    assert is_in(stepped_up)
    assert any(one.busy for one in tries)


def test_a_user_changes_the_own_password(access: Any) -> None:
    """With the present password; the other sessions end, and this one goes on under a new token."""
    token, other = access.token(), access.token()
    change = access.logins.change_password
    assert not is_in(access.do(change("0" * 64, PASSWORD, "", "another quarry otter")))
    assert not is_in(access.do(change(token, "wrong", "", "another quarry otter")))
    with pytest.raises(UsageError, match="at least 12"):
        access.do(change(token, PASSWORD, "", "short"))
    renewed = access.do(change(token, PASSWORD, "", "another quarry otter")).token
    assert [access.logins.session(it) is None for it in (token, other, renewed)] == [True, True, False]
    assert not is_in(access.log_in())
    assert is_in(access.log_in(password="another quarry otter"))


def test_a_user_who_is_removed_while_changing_the_password_has_no_session(
    access: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of a password begins no session for a user who is gone by then."""
    access.add("bob")
    token = access.token("bob")

    async def removed(*_: object, **__: object) -> None:
        await access.accounts.remove("bob", actor="alice")

    monkeypatch.setattr(access.accounts, "set_password", removed)
    assert not is_in(access.do(access.logins.change_password(token, PASSWORD, "", "another quarry otter")))
    assert access.logins.sessions() == []


def test_one_time_passwords_count_once(access: Any) -> None:
    """A code logs in once, within a step of drift; a step-up needs the next one."""
    secret, token = second_factor.new_totp_secret(), access.token()
    code = second_factor.totp_code(secret, access.clock.now())
    with pytest.raises(UsageError, match="does not fit"):
        access.do(access.logins.enrol_totp(token, secret, "000000" if code != "000000" else "000001"))
    _, codes = access.do(access.logins.enrol_totp(token, secret, code))
    assert len(set(codes)) == 10
    assert not is_in(access.log_in(code=code))
    access.clock.advance(30)
    code = second_factor.totp_code(secret, access.clock.now())
    assert not is_in(access.log_in(code=""))
    assert not is_in(access.log_in(password="wrong wrong wrong", code=code))
    token = access.token(code=f"{code[:3]} {code[3:]}")
    access.start()
    assert not is_in(access.log_in(code=code))
    assert not is_in(access.do(access.logins.step_up(token, PASSWORD, code)))
    access.clock.advance(30)
    code = second_factor.totp_code(secret, access.clock.now())
    assert is_in(access.do(access.logins.step_up(token, PASSWORD, code)))


def test_a_recovery_code_counts_once(access: Any) -> None:
    """A recovery code replaces a one-time password once, in any spelling; a lock does not use it up."""
    codes = second_factor.new_recovery_codes()
    access.do(access.accounts.set_totp("alice", second_factor.new_totp_secret(), codes, actor="alice"))
    access.fail(10)
    assert not is_in(access.log_in(code=codes[0]))
    access.clock.advance(15 * 60)
    assert is_in(access.log_in(code=codes[0].upper().replace("-", " ")))
    assert not is_in(access.log_in(code=codes[0]))
    assert is_in(access.log_in(code=codes[1]))
    assert len(access.accounts.read()["alice"].recovery) == 8
    assert not access.do(access.accounts.spend_recovery("alice", second_factor.recovery_hash(codes[0])))


def test_where_codes_are_required_an_account_without_them_is_refused(access: Any) -> None:
    """On an address that other machines reach a password alone is not enough, nor is a session of before."""
    before = access.token("alice")
    assert access.logins.session(before) is not None
    access.start(totp_required=True)
    assert not is_in(access.log_in())
    assert access.logins.session(before) is None


def test_the_rules_are_those_of_the_settings() -> None:
    """Limit, lock-out, idle and absolute time come from `.env`."""
    deployment = DeploymentSettings(
        login_attempt_limit=3, login_lockout_minutes=7, session_timeout=600.0, session_timeout_minutes=30
    )
    rules = LoginRules.of(deployment, with_roles=False, totp_required=True)
    assert rules == LoginRules(
        attempt_limit=3, lockout_minutes=7, idle_s=600.0, absolute_minutes=30, with_roles=False, totp_required=True
    )
    assert (rules.lock.limit, rules.lock.span_s, rules.absolute_s) == (3, 420.0, 1800.0)
    assert LoginRules.of(DeploymentSettings(), with_roles=True, totp_required=False) == LoginRules()


def test_a_transaction_that_fails_changes_nothing(access: Any) -> None:
    """What was counted before a failure is undone with it."""
    store = access.store

    def fail() -> None:
        with store.transaction():
            store.run("INSERT INTO links VALUES ('x', 0)")
            store.run("INSERT INTO nothing VALUES (1)")

    with pytest.raises(AccessError, match="login store"):
        fail()
    assert store.rows("SELECT * FROM links") == []
    assert is_in(access.log_in())


def test_the_number_of_failures_that_are_stored_is_bounded(access: Any) -> None:
    """Beyond ten thousand names and sources those with the fewest failures are forgotten; locks stay."""
    access.fail(10)
    access.store.run(
        "INSERT INTO attempts WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) "
        "SELECT 'subject ' || i, 1, 0, 0, ? FROM n",
        access.store.seconds,
    )
    access.fail(1, "bob")
    ((rows,),) = access.store.rows("SELECT count(*) FROM attempts")
    assert rows <= 10_001
    assert not is_in(access.log_in())


def test_the_boot_is_the_machines_or_this_processs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel names the boot; where it does not, each process counts as a boot, so that wall time decides."""
    (tmp_path / "boot_id").write_text("6f937c87\n")
    monkeypatch.setattr(login_store, "_BOOT_ID", tmp_path / "boot_id")
    assert login_store.boot_id() == "6f937c87"
    monkeypatch.setattr(login_store, "_BOOT_ID", tmp_path / "absent")
    assert login_store.boot_id() != login_store.boot_id()
