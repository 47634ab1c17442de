"""Rotation: killed at every step, then resumed, aborted or begun anew, with a reader looking on, nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
from datetime import timedelta
from typing import Any

import pytest

from tbot_core.errors import VaultError
from tbot_core.testing.canaries import canary
from tbot_core.vault import keys, rotation
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode, vault_error
from tbot_core.vault.keys import RootKey

TWO = ("login", "smtp")
DEEDS: dict[str, Any] = {
    "resume": rotation.resume_rotation,
    "abort": rotation.withdraw_rotation,
    "rotate": rotation.rotate_categories,
}
TEXT = {category: canary(category).encode() for category in TWO}


def code_of(deed: Any) -> VaultErrorCode:
    """Under which code a deed is refused."""
    with pytest.raises(VaultError) as refused:
        deed()
    assert re.match(r"TB-SEC-\d{3} (every category|audit|env|login|broker|smtp): \S", refused.value.message)
    assert not re.search(r"None|XX", str(refused.value))
    assert refused.value.remedy
    return CODE_BY_TEXT[refused.value.code]


@pytest.fixture
def pair(bench: Any) -> Any:
    """An instance with two categories."""
    fill(bench)
    return bench


def fill(bench: Any) -> None:
    """Make two categories; afterwards go back to them as they were made."""
    kept = bench.path("kept")
    if not kept.exists():
        vault = bench.vault()
        for category in TWO:
            vault.make_key(category)
            vault.write(category, TEXT[category])
        shutil.copytree(bench.path("storage"), kept)
    shutil.rmtree(bench.path("storage"))
    shutil.copytree(kept, bench.path("storage"))
    bench.quiet()


def texts(bench: Any) -> dict[str, bytes]:
    """What both categories open to, read by a process of its own."""
    store = bench.store(system=type(bench.disk)())
    found = {}
    for category in TWO:
        with store.load(category) as opened:
            found[category] = bytes(opened.view)
    return found


def slots(bench: Any, category: str) -> dict[str, str | None]:
    """The ids in each slot."""
    store = bench.store(system=type(bench.disk)())
    return {slot: None if (key := store.key(category, slot)) is None else key.name for slot in ("cur", "next", "prev")}


def test_a_rotation_gives_each_category_a_new_key(pair: Any) -> None:
    """The new key is the current one, the old stays as prev, next is gone, and the file opens with the new alone."""
    before = {category: slots(pair, category)["cur"] for category in TWO}
    done = rotation.rotate_categories(pair.vault())
    assert {it.category: it.before for it in done} == before
    for it in done:
        assert slots(pair, it.category) == {"cur": it.after, "next": None, "prev": it.before}
        pair.store().put_key(it.category, "prev", None)
    assert texts(pair) == TEXT
    assert pair.notes.words == [
        ("rotate", "login", "begun"),
        ("rotate", "login", "ok"),
        ("rotate", "smtp", "begun"),
        ("rotate", "smtp", "ok"),
        ("rotate", "login", "begun"),
        ("rotate", "login", "ok"),
        ("rotate", "smtp", "begun"),
        ("rotate", "smtp", "ok"),
    ]


def test_one_category_may_be_rotated_alone(pair: Any) -> None:
    """The others keep their keys; one without a file, or without a key, does no harm."""
    before = slots(pair, "login")
    pair.path("storage/secrets/smtp_credentials.json.enc").unlink()
    (done,) = rotation.rotate_categories(pair.vault(), ("smtp", "network"))
    assert (done.category, slots(pair, "login")) == ("smtp", before)
    assert slots(pair, "smtp")["cur"] == done.after


def test_nothing_begun_is_nothing_to_resume_or_abort(pair: Any) -> None:
    """Both may be called at any time."""
    before = {category: slots(pair, category) for category in TWO}
    assert (rotation.resume_rotation(pair.vault()), rotation.withdraw_rotation(pair.vault())) == ((), ())
    assert {category: slots(pair, category) for category in TWO} == before
    assert pair.notes.said == []


def killed_states(bench: Any) -> int:
    """How many calls of the disk a rotation of both makes."""
    rotation.rotate_categories(bench.vault(), TWO)
    count = len(bench.disk.calls)
    fill(bench)
    assert count > 100
    return count


def kill(bench: Any, position: int, died: type[BaseException], deed: Any) -> None:
    """Do something, and be killed at that call."""
    bench.disk.fails_at, bench.disk.fault = position, died()
    with pytest.raises(died):
        deed(bench.vault())
    bench.quiet()


@pytest.mark.slow
@pytest.mark.parametrize("deeds", [("resume", "abort"), ("abort", "rotate"), ("resume", "rotate")], ids="-".join)
@pytest.mark.first(0)  # over two seconds
def test_killed_at_every_call_then_resumed_aborted_or_begun_anew(
    pair: Any, died: type[BaseException], deeds: tuple[str, ...]
) -> None:
    """In each state both files are readable, whatever is done next; and afterwards the keys are in order."""
    count = killed_states(pair)
    for position in range(count):
        kill(pair, position, died, lambda vault: rotation.rotate_categories(vault, TWO))
        assert texts(pair) == TEXT
        for deed in deeds:
            DEEDS[deed](pair.vault(), TWO)
            assert texts(pair) == TEXT
            for category in TWO:
                found = slots(pair, category)
                assert found["next"] is None
                assert found["cur"] != found["prev"]
                with pair.store().load(category) as opened:
                    assert opened.key_id == found["cur"]
        assert pair.vault().upgrade(dry_run=True) == ()
        fill(pair)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize("every", [27, pytest.param(9, marks=pytest.mark.full)])
@pytest.mark.parametrize("deed", ["resume", "abort"])
def test_killed_again_during_the_repair(pair: Any, died: type[BaseException], deed: str, every: int) -> None:
    """A resume or an abort that is killed at any call leaves the files readable, and may be repeated."""
    for state in range(0, killed_states(pair), every):
        position = 0
        while True:
            kill(pair, state, died, lambda vault: rotation.rotate_categories(vault, TWO))
            pair.disk.fails_at, pair.disk.fault = position, died()
            try:
                DEEDS[deed](pair.vault(), TWO)
            except died:
                pair.quiet()
            else:
                pair.quiet()
                break
            assert texts(pair) == TEXT
            DEEDS[deed](pair.vault(), TWO)
            assert texts(pair) == TEXT
            assert all(slots(pair, category)["next"] is None for category in TWO)
            fill(pair)
            position += 4
        fill(pair)


def test_a_reader_never_fails_while_keys_are_rotated(pair: Any) -> None:
    """Between any two calls of a rotation a reader opens everything."""
    seen: list[int] = []

    def look(number: int) -> None:
        seen.append(number)
        assert texts(pair) == TEXT

    pair.disk.before = look
    rotation.rotate_categories(pair.vault(), TWO)
    pair.disk.before = None
    assert len(seen) > 100


def test_a_rotation_that_passes_between_a_readers_steps_does_no_harm(pair: Any) -> None:
    """At whichever call of a reader the whole rotation, or an abort of one, happens: the reader gets the text."""
    reader = pair.store()
    reader.load("smtp").wipe()
    count = len(pair.disk.calls)
    assert count > 5
    for position in range(count):
        for deed in (rotation.rotate_categories, rotation.withdraw_rotation):
            if deed is rotation.withdraw_rotation:
                half(pair)
            pair.quiet()
            pair.disk.before = once(position, lambda deed=deed: deed(pair.vault(system=type(pair.disk)()), ("smtp",)))
            with pair.store().load("smtp") as opened:
                assert bytes(opened.view) == TEXT["smtp"]
            pair.quiet()


def half(bench: Any) -> None:
    """Rotate smtp up to the moment where its file is under the next key."""
    store = bench.store()
    store.put_key("smtp", "next", keys.generate_key())
    store.put("smtp", TEXT["smtp"], store.key("smtp", "next"))


def once(position: int, deed: Any) -> Any:
    """Do something before the call of that number."""

    def before(number: int) -> None:
        if number == position:
            deed()

    return before


def test_a_rotation_begun_must_be_ended_first(pair: Any) -> None:
    """Neither rotate nor rekey goes over an unfinished rotation, and nothing of the others was begun."""
    half(pair)
    assert code_of(lambda: rotation.rotate_categories(pair.vault())) is VaultErrorCode.ROTATION_BEGUN
    assert code_of(lambda: rotation.replace_key(pair.vault(), "smtp", b"x")) is VaultErrorCode.ROTATION_BEGUN
    assert slots(pair, "login")["next"] is None
    (done,) = rotation.resume_rotation(pair.vault())
    assert (done.category, texts(pair)) == ("smtp", TEXT)


def test_an_abort_goes_back_to_the_key_that_was(pair: Any) -> None:
    """The file is under the current key again, and its name is shown."""
    before = slots(pair, "smtp")
    half(pair)
    assert rotation.withdraw_rotation(pair.vault()) == ("smtp",)
    assert (slots(pair, "smtp"), texts(pair)) == (before, TEXT)
    assert pair.notes.words == [("rotate", "smtp", "begun"), ("rotate", "smtp", "ok")]


def test_an_abort_before_the_promotion_leaves_no_key_twice(pair: Any) -> None:
    """A current key that was copied to prev already is taken out there; another previous key stays."""
    for kept in (False, True):
        half(pair)
        store = pair.store()
        store.put_key("smtp", "prev", keys.generate_key() if kept else store.key("smtp"))
        before = slots(pair, "smtp")
        rotation.withdraw_rotation(pair.vault(), ("smtp",))
        expected = {"cur": before["cur"], "next": None, "prev": before["prev"] if kept else None}
        assert (slots(pair, "smtp"), texts(pair)) == (expected, TEXT)


def test_an_abort_after_the_promotion_keeps_the_new_key(pair: Any) -> None:
    """What is left to do is to drop the next key, which is the current one."""
    (done,) = rotation.rotate_categories(pair.vault(), ("smtp",))
    store = pair.store()
    store.put_key("smtp", "next", store.key("smtp"))
    assert rotation.withdraw_rotation(pair.vault(), ("smtp",)) == ("smtp",)
    assert slots(pair, "smtp") == {"cur": done.after, "next": None, "prev": done.before}
    assert texts(pair) == TEXT


def test_one_process_rotates_at_a_time(pair: Any) -> None:
    """Whatever it is that moves keys is refused while somebody else writes."""
    with pair.store().holding("smtp"):
        for deed in (rotation.rotate_categories, rotation.resume_rotation, rotation.withdraw_rotation):
            assert code_of(lambda deed=deed: deed(pair.vault(), ("smtp",))) is VaultErrorCode.VAULT_BUSY
        assert code_of(lambda: rotation.replace_key(pair.vault(), "smtp", b"x")) is VaultErrorCode.VAULT_BUSY


def test_a_file_that_does_not_open_stops_a_rotation(pair: Any) -> None:
    """A damaged file is found before any key is thrown away, and the audit log records it."""
    pair.path("storage/secrets/smtp_credentials.json.enc").write_bytes(b"tbot1.AAAA")
    assert code_of(lambda: rotation.rotate_categories(pair.vault(), ("smtp",))) is VaultErrorCode.TOKEN_MAGIC
    assert pair.notes.words[-1] == ("deny", "smtp", VaultErrorCode.TOKEN_MAGIC.text)
    found = slots(pair, "smtp")
    assert found["next"]
    assert found["cur"]


def test_a_promotion_needs_a_file_that_opens_with_the_new_key(pair: Any) -> None:
    """Without a current key, a next one that does not open the file is not made the current one."""
    store = pair.store()
    store.put_key("smtp", "next", keys.generate_key())
    store.put_key("smtp", "cur", None)
    assert code_of(lambda: rotation.resume_rotation(pair.vault())) is VaultErrorCode.ROTATION_UNPROVEN
    assert rotation.withdraw_rotation(pair.vault()) == ("smtp",)
    assert slots(pair, "smtp") == {"cur": None, "next": None, "prev": None}


def test_an_abort_keeps_the_only_key_that_opens_the_file(pair: Any) -> None:
    """Where there is no key to go back to, the new one stays if the file needs it."""
    half(pair)
    pair.store().put_key("smtp", "cur", None)
    assert rotation.withdraw_rotation(pair.vault()) == ("smtp",)
    assert texts(pair) == TEXT
    pair.path("storage/secrets/smtp_credentials.json.enc").unlink()
    pair.store().put_key("smtp", "next", keys.generate_key())
    pair.store().put_key("smtp", "cur", None)
    assert rotation.withdraw_rotation(pair.vault()) == ("smtp",)
    assert slots(pair, "smtp")["cur"] is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_failing_disk_ends_a_rotation_with_a_code(pair: Any, number: int) -> None:
    """The error is typed, the files are readable, and a resume or an abort repairs the rest."""
    count = killed_states(pair)
    for position in range(0, count, 3):
        pair.disk.fails_at, pair.disk.fault = position, OSError(number, os.strerror(number))
        code_of(lambda: rotation.rotate_categories(pair.vault(), TWO))
        pair.quiet()
        assert texts(pair) == TEXT
        rotation.resume_rotation(pair.vault())
        assert texts(pair) == TEXT
        fill(pair)


def test_a_rekey_needs_neither_the_old_key_nor_the_old_file(pair: Any) -> None:
    """A lost or damaged key is replaced, with new values; a sound one stays as prev."""
    first = rotation.replace_key(pair.vault(), "smtp", b"new")
    assert pair.notes.words == [("rotate", "smtp", "begun"), ("rotate", "smtp", "ok")]
    assert slots(pair, "smtp") == {"cur": first.after, "next": None, "prev": first.before}
    for damage in (b"x", None):
        path = pair.path("storage/keys/smtp.key")
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
            path.chmod(0o600)
        done = rotation.replace_key(pair.vault(), "smtp", b"newer")
        assert (done.before, slots(pair, "smtp")["cur"]) == ("", done.after)
        with pair.store().load("smtp") as opened:
            assert bytes(opened.view) == b"newer"


def test_a_previous_key_is_retired_when_no_file_needs_it(pair: Any) -> None:
    """After its days, and a backup that is later than the rotation; not while a rotation is under way."""
    rotation.rotate_categories(pair.vault(), TWO)
    moment = pair.clock.now()
    pair.clock.advance(timedelta(days=30).total_seconds())
    now = pair.clock.now()
    when = dict.fromkeys(TWO, moment)

    def retired(**more: Any) -> tuple[str, ...]:
        return rotation.retire_previous_keys(pair.vault(), when, **{"backed_up": now, "keep_days": 30, **more})

    assert retired(backed_up=None) == ()
    assert retired(backed_up=moment) == ()
    assert retired(keep_days=31) == ()
    pair.store().put_key("login", "next", keys.generate_key())
    pair.quiet()
    assert retired() == ("smtp",)
    assert pair.notes.words == [("retire", "smtp", "begun"), ("retire", "smtp", "ok")]
    assert slots(pair, "smtp")["prev"] is None
    assert slots(pair, "login")["prev"]
    assert retired() == ()
    assert texts(pair) == TEXT


def test_a_previous_key_that_the_file_needs_is_never_retired(pair: Any) -> None:
    """The file is opened with the current key alone first."""
    store = pair.store()
    store.put_key("smtp", "prev", store.key("smtp"))
    store.put_key("smtp", "cur", keys.generate_key())
    pair.clock.advance(timedelta(days=99).total_seconds())
    now = pair.clock.now()
    when = {"smtp": now - timedelta(days=90)}
    assert (
        code_of(lambda: rotation.retire_previous_keys(pair.vault(), when, backed_up=now, keep_days=30))
        is VaultErrorCode.ROTATION_UNPROVEN
    )
    assert texts(pair) == TEXT


def test_a_rotation_is_refused_that_the_audit_log_cannot_write_down(pair: Any) -> None:
    """Before any key is made."""
    before = slots(pair, "smtp")
    pair.notes.fault = vault_error(VaultErrorCode.AUDIT_UNWRITABLE, "audit", "data/audit.log")
    assert code_of(lambda: rotation.rotate_categories(pair.vault(), ("smtp",))) is VaultErrorCode.AUDIT_UNWRITABLE
    assert slots(pair, "smtp") == before


def test_two_rotations_one_after_the_other_keep_one_previous_key(pair: Any) -> None:
    """The key before the last is gone."""
    (first,) = rotation.rotate_categories(pair.vault(), ("smtp",))
    (second,) = rotation.rotate_categories(pair.vault(), ("smtp",))
    assert slots(pair, "smtp") == {"cur": second.after, "next": None, "prev": first.after}
    assert isinstance(pair.store().key("smtp"), RootKey)
