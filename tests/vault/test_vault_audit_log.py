"""The audit log: every access is a line, and what happened to the lines shows."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import VaultError
from tbot_core.instance.folder import Instance
from tbot_core.model.clock import ManualClock
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.vault import audit_log, rotation
from tbot_core.vault.audit_log import AuditAnchor, AuditLog
from tbot_core.vault.categories import AUDITED
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode
from tbot_core.vault.store import SecretStore
from tbot_core.vault.vault import SecretAccess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def code_of(deed: Callable[[], object]) -> VaultErrorCode:
    """Under which code a deed is refused."""
    with pytest.raises(VaultError) as refused:
        deed()
    return CODE_BY_TEXT[refused.value.code]


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    """An instance whose audit log has a key."""
    (tmp_path / "storage" / "keys").mkdir(parents=True)
    (tmp_path / "storage" / "keys").chmod(0o700)
    (tmp_path / "storage" / "secrets").mkdir()
    clock = ManualClock(datetime(2026, 11, 24, 14, 30, tzinfo=UTC))
    made = SecretStore(instance=Instance.at(tmp_path), deployment=DeploymentSettings(), clock=clock, strict=True)
    audit_log.open_vault(made, "test").make_key("audit")
    return made


@pytest.fixture
def log(store: SecretStore) -> AuditLog:
    """A log of three lines."""
    log = AuditLog(store=store, actor="user")
    log.record(access())
    log.record(access(outcome="TB-SEC-011", action="deny"))
    return log


def access(**more: Any) -> SecretAccess:
    """An access."""
    return SecretAccess(**{"action": "decrypt", "category": "smtp", "outcome": "ok", "key_id": "00ff", **more})


def test_every_access_is_a_line(store: SecretStore, log: AuditLog) -> None:
    """Who, what, when, under which key and with what outcome; never a value. One's own file, 0600."""
    store.clock.advance(1.5)  # type: ignore[attr-defined]
    log.record(access(category="broker"))
    lines = list(audit_log.log_entries(log.path))
    assert [(it.seq, it.actor, it.action, it.category, it.outcome) for it in lines] == [
        (1, "test", "write", "audit", "ok"),
        (2, "user", "decrypt", "smtp", "ok"),
        (3, "user", "deny", "smtp", "TB-SEC-011"),
        (4, "user", "decrypt", "broker", "ok"),
    ]
    assert (lines[3].utc, lines[3].monotonic) == (datetime(2026, 11, 24, 14, 30, 1, 500_000, tzinfo=UTC), 1.5)
    assert lines[1].key_id == "00ff"
    assert log.path == store.instance.home / "data" / "audit.log"
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_vault_logs_all_it_does(store: SecretStore) -> None:
    """Through the door each deed is a line, under the name of the person who opened the vault."""
    vault = audit_log.open_vault(store, "cli")
    vault.make_key("smtp")
    vault.write("smtp", b"secret text")
    vault.read("smtp").wipe()
    rotation.rotate_categories(vault, ("smtp",))
    said = [(it.actor, it.action, it.outcome) for it in audit_log.log_entries(audit_log.log_path(store.instance))][1:]
    assert said == [
        ("cli", "write", "ok"),
        ("cli", "write", "begun"),
        ("cli", "write", "ok"),
        ("cli", "decrypt", "ok"),
        *[("cli", "rotate", "begun"), ("cli", "rotate", "ok")] * 2,
    ]
    assert b"secret" not in audit_log.log_path(store.instance).read_bytes()
    assert audit_log.last_rotations(audit_log.log_path(store.instance)) == {"smtp": store.clock.now()}


def test_the_log_knows_when_a_backup_was_last_whole(store: SecretStore, log: AuditLog) -> None:
    """The latest that was written and opened again counts; one that was only begun does not, and an export is none."""
    clock, path = store.clock, audit_log.log_path(store.instance)
    assert isinstance(clock, ManualClock)
    assert audit_log.last_backup(path) is None
    log.record(SecretAccess(action="backup", category="every category", outcome="begun"))
    log.record(SecretAccess(action="export", category="smtp", outcome="ok"))
    assert audit_log.last_backup(path) is None
    for _ in range(2):
        clock.advance(86_400)
        log.record(SecretAccess(action="backup", category="every category", outcome="ok"))
    assert audit_log.last_backup(path) == clock.now()


def test_a_line_of_an_unknown_category_is_refused() -> None:
    """A search by category offers AUDITED: nothing may be logged that it does not find."""
    for category in AUDITED:
        assert SecretAccess(action="open", category=category, outcome="ok").category == category
    with pytest.raises(ValueError, match="'web'"):
        SecretAccess(action="account", category="web", outcome="ok")


def test_a_whole_log_verifies(store: SecretStore, log: AuditLog) -> None:
    """Its head is kept as an anchor, once; kept anchors are looked at; an absent log is an empty one."""
    head = log.verify()
    assert head == audit_log.log_head(log.path)
    assert head.count == 3
    assert head.text == f"3:{head.hash}"
    log.verify()
    assert audit_log.read_anchors(store.instance) == (head,)
    log.record(access())
    assert audit_log.read_anchors(store.instance) == (head,)
    anchors = (head, log.verify())
    assert audit_log.read_anchors(store.instance) == anchors
    empty = log.path.with_name("none")
    assert audit_log.verify_chain(
        empty, None, anchors=[AuditAnchor(count=0, hash=audit_log.GENESIS)]
    ) == audit_log.log_head(empty)
    assert list(audit_log.log_entries(empty)) == []


def edited(line: bytes, **values: object) -> bytes:
    """A line with other values."""
    return json.dumps({**json.loads(line), **values}, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_f107_an_edited_line_is_found(log: AuditLog, number: int) -> None:
    """Whatever field is edited, in whichever line, and also a byte that changes nothing of what it says."""
    lines = log.path.read_bytes().split(b"\n")
    for name in json.loads(lines[0]):
        changed = list(lines)
        changed[number - 1] = edited(lines[number - 1], **{name: "x"})
        log.path.write_bytes(b"\n".join(changed))
        with pytest.raises(VaultError, match=rf"TB-SEC-096 audit: line {number} of"):
            log.verify()
    for broken in (
        lines[number - 1] + b" ",
        b"",
        b"[]",
        b"x",
        b"\xff",
        b"[" * 200_000,
        lines[number - 1].replace(b",", b", ", 1),
    ):
        changed = list(lines)
        changed[number - 1] = broken
        log.path.write_bytes(b"\n".join(changed))
        assert code_of(log.verify) is VaultErrorCode.AUDIT_BROKEN


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b"[]",
        b'{"seq": 1e999}',
        b'{"seq": "1"}',
        b'{"seq": ' + b"9" * 5000 + b"}",
    ],
    ids=["deep", "list", "infinite", "text", "long"],
)
def test_a_last_line_that_is_none_refuses_the_access_and_the_listing(log: AuditLog, line: bytes) -> None:
    """With the code of a broken log, whatever stands there; nothing is written behind it."""
    log.path.write_bytes(before := log.path.read_bytes() + line + b"\n")
    assert code_of(lambda: log.record(access(category="login"))) is VaultErrorCode.AUDIT_BROKEN
    assert code_of(lambda: list(audit_log.log_entries(log.path))) is VaultErrorCode.AUDIT_BROKEN
    assert log.path.read_bytes() == before


def test_entries_are_read_from_the_end(store: SecretStore, log: AuditLog) -> None:
    """As they are from the begin, also before a place; a half line at the end is none, and a moment is found."""
    assert list(audit_log.entries_back(store.instance.home / "none")) == []
    assert audit_log.place_of(store.instance.home / "none", datetime.now(UTC)) == 0
    entries = list(audit_log.log_entries(log.path))
    size = log.path.stat().st_size
    with log.path.open("ab") as file:
        file.write(b'{"half')
    found = list(audit_log.entries_back(log.path))
    assert [entry for _, entry in reversed(found)] == entries
    assert list(audit_log.entries_back(log.path, found[1][0])) == found[2:]
    assert audit_log.place_of(log.path, entries[0].utc) == 0
    assert audit_log.place_of(log.path, entries[-1].utc + timedelta(days=1)) == size


def test_a_line_that_is_none_is_named_by_its_place(log: AuditLog) -> None:
    """Where entries are read from the end, its number is not known."""
    size = log.path.stat().st_size
    with log.path.open("ab") as file:
        file.write(b"no line\n")
    with pytest.raises(VaultError, match=f"line at byte {size} of"):
        list(audit_log.entries_back(log.path))


@pytest.mark.parametrize(
    "values", [{"category": []}, {"utc": "2026-01-05T00:00:00"}, {"utc": 5}, {"monotonic": "1"}, {"seq": None}]
)
def test_a_line_with_values_of_another_kind_is_none(log: AuditLog, values: dict[str, Any]) -> None:
    """A reader of the unverified log gets the line, too."""
    lines = log.path.read_bytes().split(b"\n")
    log.path.write_bytes(b"\n".join([edited(lines[0], **values), *lines[1:]]))
    with pytest.raises(VaultError, match="TB-SEC-096 audit: line 1 of"):
        list(audit_log.log_entries(log.path))


def test_removed_added_and_moved_lines_are_found(log: AuditLog) -> None:
    """Taken out of the middle or the begin, said twice, or in another order."""
    one, two, three, end = log.path.read_bytes().split(b"\n")
    for lines in ([one, three], [two, three], [one, two, two, three], [one, three, two], [one, two, three, three]):
        log.path.write_bytes(b"\n".join([*lines, end]))
        assert code_of(log.verify) is VaultErrorCode.AUDIT_BROKEN


def test_a_log_cut_at_its_end_is_found_by_an_anchor(store: SecretStore, log: AuditLog) -> None:
    """Without one a shorter chain is whole; with one it is not, nor is a chain that goes on otherwise."""
    anchor = audit_log.log_head(log.path)
    lines = log.path.read_bytes().split(b"\n")
    log.path.write_bytes(b"\n".join([*lines[:2], b""]))
    assert log.verify().count == 2
    audit_log.keep_anchor(store.instance, anchor)
    with pytest.raises(VaultError, match=r"TB-SEC-097 audit: .* ends before line 3"):
        log.verify()
    log.record(access(category="login"))
    with pytest.raises(VaultError, match="TB-SEC-098 audit: line 3"):
        log.verify()


@pytest.mark.parametrize("stored", [1, 2, 3])
@pytest.mark.parametrize("given", [1, 2, 3, 4])
def test_given_anchors_count_beside_stored_ones(store: SecretStore, log: AuditLog, given: int, stored: int) -> None:
    """Each of either is compared, whichever has the higher number, also two of one number: one that differs refuses."""
    lines = log.path.read_bytes().splitlines(keepends=True)
    right, wrong = {}, {count: AuditAnchor(count=count, hash="f" * 64) for count in range(1, 5)}
    for count in range(1, len(lines) + 1):
        log.path.write_bytes(b"".join(lines[:count]))
        right[count] = audit_log.log_head(log.path)
    audit_log.keep_anchor(store.instance, right[stored])
    refusal = VaultErrorCode.AUDIT_CUT if given > len(lines) else VaultErrorCode.AUDIT_ANCHOR
    assert code_of(lambda: log.verify([wrong[given]])) is refusal
    assert code_of(lambda: log.verify([right[3], wrong[given]])) is refusal
    sound = right[min(given, 3)]
    assert log.verify([sound]) == right[3]
    audit_log.keep_anchor(store.instance, wrong[stored])
    assert code_of(lambda: log.verify([sound])) is VaultErrorCode.AUDIT_ANCHOR


@pytest.mark.parametrize("kept", [0, 1, 40, 66])
def test_an_anchor_that_a_crash_left_incomplete_is_replaced(store: SecretStore, log: AuditLog, kept: int) -> None:
    """A cut append refuses no start: the anchors before it count, and the next one takes its place."""
    path, first = audit_log.anchor_path(store.instance), log.verify()
    log.record(access())
    log.verify()
    whole, cut = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole + cut[:kept])
    assert audit_log.read_anchors(store.instance) == (first,)
    head = log.verify()
    assert audit_log.read_anchors(store.instance) == (first, head)
    assert log.verify() == head


def test_anchors_that_are_no_text_are_refused(store: SecretStore) -> None:
    """They have the code of a damaged anchor, as any other line that is none."""
    audit_log.anchor_path(store.instance).write_bytes(b"\xff\n")
    assert code_of(lambda: audit_log.read_anchors(store.instance)) is VaultErrorCode.AUDIT_ANCHOR


@pytest.mark.parametrize("text", ["", "3", "x:" + "0" * 64, "3:00", "9" * 5000 + ":" + "0" * 64])
def test_what_is_no_anchor_is_refused(store: SecretStore, text: str) -> None:
    """A damaged file of anchors proves nothing."""
    audit_log.anchor_path(store.instance).write_text(f"{text}\n")
    assert code_of(lambda: audit_log.read_anchors(store.instance)) is VaultErrorCode.AUDIT_ANCHOR


def test_a_chain_that_was_forged_as_a_whole_is_found_with_the_key(store: SecretStore, log: AuditLog) -> None:
    """Without the key anybody can chain lines; only with it can they be sealed."""
    forger = SecretStore(
        instance=Instance.at(store.instance.home / "else"),
        deployment=DeploymentSettings(),
        clock=store.clock,
        strict=True,
    )
    (store.instance.home / "else" / "storage" / "keys").mkdir(parents=True)
    (store.instance.home / "else" / "storage" / "keys").chmod(0o700)
    audit_log.open_vault(forger, "user").make_key("audit")
    log.path.write_bytes(audit_log.log_path(forger.instance).read_bytes())
    assert audit_log.verify_chain(log.path, None).count == 1
    assert code_of(log.verify) is VaultErrorCode.AUDIT_BROKEN


def test_a_line_that_a_crash_left_unfinished_is_cut_off_and_reported(log: AuditLog) -> None:
    """It was never acknowledged, so no access followed it; the next line says that it was there."""
    with log.path.open("ab") as file:
        file.write(b'{"action":"dec')
    assert code_of(log.verify) is VaultErrorCode.AUDIT_TORN
    log.record(access(category="broker"))
    assert [(it.category, it.outcome) for it in audit_log.log_entries(log.path)][-2:] == [
        ("audit", "TB-SEC-099"),
        ("broker", "ok"),
    ]
    assert log.verify().count == 5


@pytest.mark.parametrize("last", [b"x", b"[]", b"{}", b'{"seq": "x"}'])
def test_a_log_whose_last_line_says_nothing_is_not_gone_on_with(log: AuditLog, last: bytes) -> None:
    """The access is refused, and the log stays as it is, to be examined."""
    log.path.write_bytes(last + b"\n")
    assert code_of(lambda: log.record(access())) is VaultErrorCode.AUDIT_BROKEN
    assert log.path.read_bytes() == last + b"\n"
    assert code_of(lambda: list(audit_log.log_entries(log.path))) is VaultErrorCode.AUDIT_BROKEN


class Failing(FileSystemCalls):
    """A disk on which nothing can be written."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Refuse."""
        raise OSError(self._number, os.strerror(self._number), f"{handle} {len(data)}")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_what_cannot_be_written_down_does_not_happen(store: SecretStore, log: AuditLog, number: int) -> None:
    """The access is refused under its code, and the log is as it was."""
    before = log.path.read_bytes()
    store.system = Failing(number)
    assert code_of(lambda: log.record(access())) is VaultErrorCode.AUDIT_UNWRITABLE
    assert log.path.read_bytes() == before
    assert code_of(lambda: audit_log.open_vault(store, "x").read("smtp")) is VaultErrorCode.AUDIT_UNWRITABLE


def test_a_log_that_is_a_link_or_lies_nowhere_is_refused(log: AuditLog) -> None:
    """A link would let somebody else choose where the lines go; a file in the folder's place is no folder."""
    log.path.rename(log.path.with_name("moved"))
    log.path.symlink_to(log.path.with_name("moved"))
    assert code_of(lambda: log.record(access())) is VaultErrorCode.AUDIT_UNWRITABLE
    log.path.parent.rename(log.path.parent.with_name("gone"))
    log.path.parent.write_bytes(b"")
    assert code_of(lambda: log.record(access())) is VaultErrorCode.AUDIT_UNWRITABLE


def test_without_its_key_nothing_is_written(store: SecretStore, log: AuditLog) -> None:
    """The key is read for each line; where it is gone every access is refused, and so is a verification."""
    (store.instance.home / "storage" / "keys" / "audit.key").unlink()
    assert code_of(lambda: log.record(access())) is VaultErrorCode.KEY_MISSING
    assert code_of(log.verify) is VaultErrorCode.KEY_MISSING


def test_several_writers_make_one_chain(store: SecretStore, log: AuditLog) -> None:
    """Each goes on where the last one stopped."""
    other = AuditLog(store=store, actor="bot")
    for writer in (log, other, log, other, other):
        writer.record(access())
    assert [it.actor for it in audit_log.log_entries(log.path)][3:] == ["user", "bot", "user", "bot", "bot"]
    assert log.verify().count == 8


def test_room_for_many_lines_is_kept(log: AuditLog) -> None:
    """The reserve holds a hundred lines, whose length is bounded by what is known of an access."""
    size = log.path.stat().st_size
    assert size / 3 * 100 < audit_log.RESERVE_BYTES
    assert log.path.stat().st_blocks * 512 >= audit_log.RESERVE_BYTES // 2 or os.uname().sysname != "Linux"


def test_times_are_utc_to_the_microsecond(log: AuditLog) -> None:
    """As ISO 8601, so that they sort as text."""
    line = json.loads(log.path.read_bytes().split(b"\n")[0])
    assert datetime.fromisoformat(line["utc"]).utcoffset() == timedelta(0)
