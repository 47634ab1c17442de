"""The one-time link makes the first admin, from this machine, within half an hour, once."""

from __future__ import annotations

from typing import Any

import pytest
from tbot_extension_web.access.credentials import Role

from tbot_core.errors import AccessError, UsageError
from tbot_core.system import filesystem

PASSWORD = "velvet otter quarry"
HERE = "127.0.0.1"


def make(access: Any, token: str, source: str = HERE, password: str = PASSWORD) -> Any:
    """Make the admin by a link."""
    return access.do(access.link.make_admin(token, source, "owner", password))


def test_the_link_makes_one_admin(empty: Any) -> None:
    """A new instance's link makes an admin, who logs in; then it is void, and no other is made."""
    token = empty.link.make()
    assert len(token) == 64
    assert empty.link.is_valid(token, HERE)
    assert empty.link.is_valid(token, "::1")
    assert make(empty, token).role is Role.ADMIN
    assert empty.logins.session(empty.token("owner")).role is Role.ADMIN
    assert not empty.link.is_valid(token, HERE)
    with pytest.raises(UsageError, match="not valid"):
        make(empty, token)
    assert empty.link.make() is None
    assert empty.log()[0] == ("web/setup", "account", "addition of owner: admin")


@pytest.mark.parametrize("source", ["192.0.2.7", "10.0.0.1", "", "fe80::1%eth0", "::ffff:192.0.2.7"])
def test_the_link_works_from_this_machine_only(empty: Any, source: str) -> None:
    """From another machine, or an unknown one, a right link is not valid, and stays unused."""
    token = empty.link.make()
    with pytest.raises(UsageError, match="not valid"):
        make(empty, token, source)
    assert make(empty, token).name == "owner"


def test_a_link_ends_after_half_an_hour(empty: Any) -> None:
    """Thirty minutes by the monotonic clock, whatever the wall clock says; a reboot ends it at once."""
    token = empty.link.make()
    empty.clock.set_by(days=-3)
    empty.start()
    empty.clock.advance(1799)
    assert empty.link.is_valid(token, HERE)
    empty.clock.advance(1)
    assert not empty.link.is_valid(token, HERE)
    token = empty.link.make()
    empty.reboot()
    assert not empty.link.is_valid(token, HERE)


def test_only_the_last_link_is_valid(empty: Any) -> None:
    """Each start makes a link, and the one before is void; a wrong one never is."""
    before, token = empty.link.make(), empty.link.make()
    assert not empty.link.is_valid(before, HERE)
    assert not empty.link.is_valid("0" * 64, HERE)
    assert not empty.link.is_valid("\udcff", HERE)
    assert empty.link.is_valid(token, HERE)


def test_a_refused_password_does_not_use_up_the_link(empty: Any) -> None:
    """The owner corrects the password and goes on with the same link."""
    token = empty.link.make()
    with pytest.raises(UsageError, match="at least 12"):
        make(empty, token, password="short")
    assert make(empty, token).name == "owner"


def test_cp25_a_process_killed_while_the_link_is_used_does_not_lock_the_owner_out(
    empty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the admin is stored, the next start makes a new link; killed after, the admin logs in."""

    class Killed(BaseException):
        """The process was killed."""

    async def killed(*_: object) -> None:
        raise Killed

    def died() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(empty.accounts, "add_first_admin", killed)
        token = empty.link.make()
        with pytest.raises(Killed):
            make(empty, token)
    empty.start()
    token = empty.link.make()
    assert token is not None
    with monkeypatch.context() as patch:
        patch.setattr(empty.store, "remove_link", died)
        with pytest.raises(Killed):
            make(empty, token)
    empty.start()
    assert not empty.link.is_valid(token, HERE)
    assert empty.link.make() is None
    assert empty.token("owner")


def test_the_token_is_not_in_the_store_and_the_store_is_private(empty: Any) -> None:
    """Only hashes are stored, in files that no other user may read."""
    token, _ = empty.link.make(), empty.fail(1)
    empty.close()
    paths = [path for path in filesystem.files(empty.home / "data") if path.name.startswith("web.sqlite")]
    assert paths
    assert not [path for path in paths if token.encode() in filesystem.read_bytes(path)]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_a_store_that_cannot_be_used_is_an_error(empty: Any) -> None:
    """A damaged file, and one of another program, are refused with the remedy; a closed one too."""
    path = empty.home / "data" / "web.sqlite"
    empty.close()
    with pytest.raises(AccessError, match="login store"):
        empty.store.set_link("x")
    for content in (b"not a database" * 100, None):
        for one in filesystem.files(path.parent):
            if one.name.startswith(path.name):
                filesystem.remove(one)
        if content is not None:
            filesystem.write_atomic(path, content)
        else:
            import sqlite3

            with sqlite3.connect(path) as other:
                other.execute("PRAGMA application_id = 7")
            other.close()
        with pytest.raises(AccessError, match="may be removed"):
            empty.start()
