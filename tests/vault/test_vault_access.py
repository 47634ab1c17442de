"""The vault's door: what is read and written, what is refused and under which code, and what the audit log records."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, VaultError
from tbot_core.system import filesystem
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.testing.canaries import canary
from tbot_core.vault import categories, keys, schemas, token
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode, vault_error
from tbot_core.vault.keys import CategoryKeys, RootKey

if TYPE_CHECKING:
    from pathlib import Path

SECRET = canary("smtp")
KEY = base64.urlsafe_b64encode(bytes(range(32)))


def code_of(deed: Any) -> VaultErrorCode:
    """Under which code a deed is refused."""
    with pytest.raises(VaultError) as refused:
        deed()
    assert refused.value.exit_code == 3
    assert re.match(r"TB-SEC-\d{3} (every category|audit|env|login|broker|smtp): \S", refused.value.message)
    assert not re.search(r"None|XX", str(refused.value))
    assert refused.value.remedy
    return CODE_BY_TEXT[refused.value.code]


def system_fault(number: int) -> OSError:
    """What the system says with that number."""
    return OSError(number, os.strerror(number))


@pytest.fixture
def smtp(bench: Any) -> Any:
    """An instance with the key and the file of smtp."""
    bench.vault().make_key("smtp")
    bench.vault().write("smtp", json.dumps({"user": SECRET, "port": 465}).encode())
    bench.quiet()
    return bench


@pytest.mark.parametrize("category", list(CATEGORIES))
def test_every_category_is_written_and_read(bench: Any, category: str) -> None:
    """Each has a key and a file of its own, 0600, at the path of its settings, and opens to what was written."""
    vault = bench.vault()
    name = vault.make_key(category)
    vault.write(category, b"\x00anything")
    with vault.read(category) as opened:
        assert bytes(opened.view) == b"\x00anything"
        assert (opened.format, opened.key_id, opened.flaws) == (token.FORMAT_WORDS, name, ())
        assert repr(opened) == "Opened(AES-256-GCM (tbot v1))"
    with pytest.raises(ValueError, match="wiped"):
        _ = opened.view
    here = categories.category_paths(category, bench.instance, DeploymentSettings())
    assert [path.stat().st_mode & 0o7777 for path in (here.key, here.file)] == [0o600, 0o600]
    assert len(here.key.read_bytes()) == 44
    assert here.file.read_bytes().startswith(b"tbot1.")
    assert here.file.read_bytes().endswith(b"\n")
    assert bench.notes.words == [
        ("write", category, "ok"),
        ("write", category, "begun"),
        ("write", category, "ok"),
        ("decrypt", category, "ok"),
    ]
    assert {it.key_id for it in bench.notes.said} == {name}


def test_the_places_are_those_of_the_contract(bench: Any) -> None:
    """Keys and files lie where product 3 says, and follow the settings."""
    home = bench.instance.home
    places = {name: categories.category_paths(name, bench.instance, DeploymentSettings()) for name in CATEGORIES}
    shown = {name: (it.shown(it.key), it.shown(it.file)) for name, it in places.items()}
    assert shown["env"] == ("storage/keys/env_enc.key", ".env.enc")
    assert shown["env_bot"] == ("storage/keys/env.key", ".env_bot.enc")
    assert shown["login"] == ("storage/keys/login.key", "storage/secrets/login.json.enc")
    assert shown["broker"] == ("storage/keys/broker.key", "storage/secrets/broker_credentials.json.enc")
    assert shown["screener_api"] == ("storage/keys/screener_api.key", "storage/secrets/screener_api.json.enc")
    assert shown["alert"] == ("storage/keys/alert.key", "storage/secrets/alert_channels.json.enc")
    assert shown["smtp"] == ("storage/keys/smtp.key", "storage/secrets/smtp_credentials.json.enc")
    assert shown["acct_api"] == ("storage/keys/acct_api.key", "storage/secrets/acct_api_credentials.json.enc")
    assert shown["network"] == ("storage/keys/network.key", "storage/secrets/network_config.json.enc")
    assert shown["bot_identity"] == ("storage/keys/bot_identity.key", "storage/secrets/bot_identity.json.enc")
    audit = categories.audit_paths(bench.instance)
    assert (audit.shown(audit.key), audit.shown(audit.file)) == ("storage/keys/audit.key", "data/audit.log")
    assert (audit.category, audit.logical) == ("audit", "audit.log")
    moved = categories.category_paths(
        "smtp", bench.instance, DeploymentSettings(smtp_key_path="/k", smtp_credentials_path="s")
    )
    assert (str(moved.key), moved.file, moved.shown(moved.key)) == ("/k", home / "s", "/k")


def test_the_names_that_tokens_bear_never_change() -> None:
    """Logical names and shapes are constants of the format: a change would lock every file."""
    assert {name: (it.logical, it.shape) for name, it in CATEGORIES.items()} == {
        "env": ("env", "text"),
        "env_bot": ("env_bot", "text"),
        "login": ("login.json", "sections"),
        "broker": ("broker_credentials.json", "sections"),
        "screener_api": ("screener_api.json", "sections"),
        "alert": ("alert_channels.json", "sections"),
        "smtp": ("smtp_credentials.json", "object"),
        "acct_api": ("acct_api_credentials.json", "object"),
        "network": ("network_config.json", "object"),
        "bot_identity": ("bot_identity.json", "object"),
    }


def test_the_variable_names_the_key_of_env_first(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TBOT_ENV_ENC_KEY_PATH counts, since the setting lies inside the file; what is said there must agree."""
    monkeypatch.setenv("TBOT_ENV_ENC_KEY_PATH", "storage/keys/mine.key")
    vault = bench.vault()
    vault.make_key("env")
    vault.make_key("env_bot")
    assert {path.name for path in bench.path("storage/keys").iterdir()} == {"mine.key", "env.key"}
    bench.deployment = DeploymentSettings(env_enc_key_path="storage/keys/other.key")
    assert code_of(bench.vault) is VaultErrorCode.ENV_KEY_DISAGREES
    bench.deployment = DeploymentSettings(env_enc_key_path=str(bench.path("storage/keys/mine.key")))
    bench.vault()
    monkeypatch.delenv("TBOT_ENV_ENC_KEY_PATH")
    assert code_of(bench.vault) is VaultErrorCode.ENV_KEY_DISAGREES
    bench.deployment = DeploymentSettings(env_enc_key_path=str(bench.path("storage/keys/env_enc.key")))
    bench.vault()


def test_a_section_is_handed_over_alone(bench: Any) -> None:
    """A plugin gets its own fields and no others; text as it is, other values as JSON text."""
    vault = bench.vault()
    vault.make_key("broker")
    text = {"alpaca": {"key": "grün", "paper": True, "ports": [1, 2], "n": 1.5}, "ibkr": {"user": "x"}}
    vault.write("broker", json.dumps(text).encode())
    fields = vault.read_section("broker", "alpaca")
    assert {name: secret.reveal() for name, secret in fields.items()} == {
        "key": "grün",
        "paper": "true",
        "ports": "[1, 2]",
        "n": "1.5",
    }
    assert "grün" not in repr(fields)
    assert code_of(lambda: vault.read_section("broker", "tradier")) is VaultErrorCode.CONTENT_ABSENT
    assert bench.notes.words[-1] == ("deny", "broker", "TB-SEC-074")
    for category, plugin in (("broker", None), ("env", None), ("smtp", "x")):
        with pytest.raises(ValueError, match="is a category of"):
            vault.read_section(category, plugin)


def test_an_object_is_handed_over_whole(smtp: Any) -> None:
    """A category that is one object has no sections."""
    fields = smtp.vault().read_section("smtp")
    assert {name: secret.reveal() for name, secret in fields.items()} == {"user": SECRET, "port": "465"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff", VaultErrorCode.CONTENT_UTF8),
        (b"{", VaultErrorCode.CONTENT_JSON),
        (b"[" * 100_000, VaultErrorCode.CONTENT_JSON),
        (b"[]", VaultErrorCode.CONTENT_OBJECT),
        (b'{"a": {}, "a": {}}', VaultErrorCode.CONTENT_REPEATED),
        (b'{"a": {"b": "1", "b": "2"}}', VaultErrorCode.CONTENT_REPEATED),
        (b"{}", VaultErrorCode.CONTENT_ABSENT),
        (b'{"a": 1}', VaultErrorCode.CONTENT_SECTION),
        (b'{"a": {"b": ""}}', VaultErrorCode.CONTENT_EMPTY),
        (b'{"a": {"b": null}}', VaultErrorCode.CONTENT_EMPTY),
    ],
)
def test_content_that_is_not_what_it_should_be_is_refused(data: bytes, code: VaultErrorCode) -> None:
    """Each fault of the content has its code, and names the section or field that it is about, never a value."""
    assert code_of(lambda: schemas.content_fields(memoryview(data), "broker", "f", "a")) is code
    if code is not VaultErrorCode.CONTENT_ABSENT:
        assert code_of(lambda: schemas.check_shape(memoryview(data), "broker", "f", "sections")) is code


def test_content_is_judged_by_its_categorys_shape() -> None:
    """Settings may be any text; an object has fields, sections have objects of fields."""
    schemas.check_shape(memoryview(b"A=1"), "env", "f", "text")
    schemas.check_shape(memoryview(b'{"a": "b"}'), "smtp", "f", "object")
    schemas.check_shape(memoryview(b'{"a": {"b": "c"}}'), "broker", "f", "sections")
    assert code_of(lambda: schemas.check_shape(memoryview(b"\xff"), "env", "f", "text")) is VaultErrorCode.CONTENT_UTF8
    assert (
        code_of(lambda: schemas.check_shape(memoryview(b'{"a": "b"}'), "broker", "f", "sections"))
        is VaultErrorCode.CONTENT_SECTION
    )
    with pytest.raises(VaultError, match="field x of its file f is empty"):
        schemas.check_shape(memoryview(b'{"x": ""}'), "smtp", "f", "object")


def put_key(bench: Any, data: bytes, mode: int = 0o600) -> None:
    """Write smtp's key file by hand."""
    path = bench.path("storage/keys/smtp.key")
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xef\xbb\xbf" + KEY, VaultErrorCode.KEY_BOM),
        (KEY + b"\r\n", VaultErrorCode.KEY_CRLF),
        (KEY[:-1], VaultErrorCode.KEY_LENGTH),
        (KEY + b"\n\n", VaultErrorCode.KEY_LENGTH),
        (b"", VaultErrorCode.KEY_LENGTH),
        (KEY[:10] + b"+" + KEY[11:], VaultErrorCode.KEY_ALPHABET),
        (KEY[:-1] + b"A", VaultErrorCode.KEY_ALPHABET),
        (KEY[:-2] + b"+=", VaultErrorCode.KEY_ALPHABET),
        (KEY[:-2] + b"9=", VaultErrorCode.KEY_CANONICAL),
        (KEY[:-2] + b"-=", VaultErrorCode.KEY_CANONICAL),
        (b"A" * 43 + b"=", VaultErrorCode.KEY_CONSTANT),
        (b"_" * 42 + b"8=", VaultErrorCode.KEY_CONSTANT),
        (KEY * 2, VaultErrorCode.KEY_TOO_LARGE),
        (bytes(100_000_000), VaultErrorCode.KEY_TOO_LARGE),
    ],
)
def test_a_key_file_that_is_none_is_refused(smtp: Any, data: bytes, code: VaultErrorCode) -> None:
    """Each way in which a key file goes wrong has its sentence; the audit log records it."""
    put_key(smtp, data)
    assert code_of(lambda: smtp.vault(live=False).read("smtp")) is code
    assert smtp.notes.words == [("deny", "smtp", code.text)]


def test_a_key_may_end_in_one_newline(smtp: Any) -> None:
    """As editors leave it; the key is the same that Fernet reads from those 44 characters."""
    put_key(smtp, KEY + b"\n")
    key = smtp.store().key("smtp")
    assert bytes(key.root.view) == bytes(range(32))
    smtp.path("storage/secrets/smtp_credentials.json.enc").write_bytes(Fernet(KEY).encrypt(b'{"a": "b"}'))
    with smtp.vault().read("smtp") as opened:
        assert bytes(opened.view) == b'{"a": "b"}'
        assert opened.format == "Fernet: AES-128-CBC + HMAC-SHA256, 256-bit composite key"


KEY_PATH, FILE_PATH = "storage/keys/smtp.key", "storage/secrets/smtp_credentials.json.enc"


def test_a_missing_key_and_a_missing_file_are_distinguished(smtp: Any) -> None:
    """Each with the sentence of the contract's style; where the folder is missing, the file's says so."""
    smtp.path(KEY_PATH).rename(smtp.path("k"))
    with pytest.raises(VaultError) as refused:
        smtp.vault().read("smtp")
    assert str(refused.value) == (
        "TB-SEC-021 smtp: its key file storage/keys/smtp.key is missing. Restore it from a backup, or run "
        "`tbot secrets rekey smtp` and enter the values again."
    )
    assert code_of(lambda: smtp.vault().write("smtp", b"{}")) is VaultErrorCode.KEY_MISSING
    smtp.path(FILE_PATH).unlink()
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.FILE_MISSING
    smtp.path("storage/secrets").rmdir()
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.FILE_FOLDER_MISSING
    smtp.path("storage/keys").rmdir()
    assert code_of(lambda: smtp.vault().make_key("smtp")) is VaultErrorCode.KEY_FOLDER_MISSING


def test_f102_loose_modes_are_refused_live_and_warned_of_else(smtp: Any) -> None:
    """Key, key folder, file and file folder: each with the chmod that fixes it; one live, all of them otherwise."""
    for path, mode in ((KEY_PATH, 0o644), (FILE_PATH, 0o644)):
        smtp.path(path).chmod(mode)
    smtp.path("storage/secrets").chmod(0o777)
    smtp.path("storage/keys").chmod(0o755)
    expected = [
        VaultErrorCode.KEY_FOLDER_MODE,
        VaultErrorCode.KEY_MODE,
        VaultErrorCode.FILE_FOLDER_OPEN,
        VaultErrorCode.FILE_MODE,
    ]
    with smtp.vault(live=False).read("smtp") as opened:
        assert [CODE_BY_TEXT[it.code] for it in opened.flaws] == expected
        assert [it.remedy for it in opened.flaws] == [
            "chmod 700 storage/keys",
            "chmod 600 storage/keys/smtp.key",
            "chmod go-w storage/secrets",
            "chmod 600 storage/secrets/smtp_credentials.json.enc",
        ]
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.FILE_FOLDER_OPEN
    smtp.path("storage/secrets").chmod(0o700)
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.FILE_MODE
    smtp.path(FILE_PATH).chmod(0o600)
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.KEY_FOLDER_MODE
    smtp.path("storage/keys").chmod(0o700)
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.KEY_MODE
    smtp.path(KEY_PATH).chmod(0o400)
    smtp.vault().read("smtp").wipe()


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        (KEY_PATH, (VaultErrorCode.KEY_SYMLINK, VaultErrorCode.KEY_LINKS, VaultErrorCode.KEY_NOT_REGULAR)),
        (FILE_PATH, (VaultErrorCode.FILE_SYMLINK, VaultErrorCode.FILE_LINKS, VaultErrorCode.FILE_NOT_REGULAR)),
    ],
)
def test_links_and_pipes_are_refused_in_every_mode(smtp: Any, path: str, codes: tuple[VaultErrorCode, ...]) -> None:
    """A symbolic link, a second name, a FIFO: never read, and never waited for."""
    here = smtp.path(path)
    kept = smtp.path("kept")
    for live in (True, False):
        here.rename(kept)
        here.symlink_to(kept)
        assert code_of(lambda live=live: smtp.vault(live=live).read("smtp")) is codes[0]
        here.unlink()
        here.hardlink_to(kept)
        assert code_of(lambda live=live: smtp.vault(live=live).read("smtp")) is codes[1]
        here.unlink()
        os.mkfifo(here, 0o600)
        assert code_of(lambda live=live: smtp.vault(live=live).read("smtp")) is codes[2]
        here.unlink()
        kept.rename(here)


def test_a_huge_file_is_refused_before_it_is_read(smtp: Any) -> None:
    """A hundred megabytes are a size, not a content."""
    with smtp.path(FILE_PATH).open("r+b") as file:
        file.truncate(100_000_000)
    assert code_of(lambda: smtp.vault().read("smtp")) is VaultErrorCode.TOKEN_TOO_LONG
    assert "read" not in smtp.disk.calls


def foreign(user: int, kind: str) -> Any:
    """A disk on which what is opened of that kind (folder, file) belongs to another user."""

    class Foreign(type(_system())):  # type: ignore[misc]
        def status(self, handle: int) -> os.stat_result:
            values = list(os.fstat(handle))
            if os.path.isdir(f"/proc/self/fd/{handle}") == (kind == "folder"):  # noqa: PTH112
                values[4] = user
            return os.stat_result(values)

    return Foreign()


def _system() -> Any:
    from tbot_core.system.secure_files import SYSTEM

    return SYSTEM


@pytest.mark.parametrize("live", [True, False])
def test_what_belongs_to_another_user_is_refused_in_every_mode(smtp: Any, *, live: bool) -> None:
    """File, key, and the folders of either."""
    for kind, file_code, key_code in (
        ("folder", VaultErrorCode.FILE_FOLDER_OWNER, VaultErrorCode.KEY_FOLDER_OWNER),
        ("file", VaultErrorCode.FILE_OWNER, VaultErrorCode.KEY_OWNER),
    ):
        vault = smtp.vault(live=live, system=foreign(os.geteuid() + 1, kind))
        assert code_of(lambda vault=vault: vault.read("smtp")) is file_code
        assert code_of(lambda vault=vault: vault.store.key("smtp")) is key_code


ERRNOS = [
    (errno.EACCES, VaultErrorCode.FILE_DENIED, VaultErrorCode.KEY_DENIED),
    (errno.EIO, VaultErrorCode.FILE_FAULT, VaultErrorCode.KEY_FAULT),
    (errno.ENOSPC, VaultErrorCode.FILE_FULL, VaultErrorCode.KEY_FULL),
    (errno.EROFS, VaultErrorCode.FILE_READ_ONLY, VaultErrorCode.KEY_READ_ONLY),
]


@pytest.mark.parametrize(("number", "file_code", "key_code"), ERRNOS)
def test_every_failing_call_of_a_write_leaves_the_old_file(
    smtp: Any, number: int, file_code: VaultErrorCode, key_code: VaultErrorCode
) -> None:
    """Whatever call fails, with whatever reason: the typed error, and a file that opens to the old or new text."""
    smtp.vault().write("smtp", b"old")
    smtp.quiet()
    smtp.vault().write("smtp", b"old")
    count = len(smtp.disk.calls)
    assert count > 15
    for position in range(count):
        smtp.quiet()
        smtp.disk.fails_at, smtp.disk.fault = position, system_fault(number)
        code = code_of(lambda: smtp.vault().write("smtp", b"new"))
        assert code in {file_code, key_code}
        last = position == count - 1  # the folder's sync: the new file stands, though perhaps not for ever
        smtp.quiet()
        with smtp.vault().read("smtp") as opened:
            assert bytes(opened.view) == (b"new" if last else b"old")
        assert [it.name for it in smtp.path("storage/secrets").iterdir()] == ["smtp_credentials.json.enc"]


@pytest.mark.parametrize(("number", "file_code", "key_code"), ERRNOS)
def test_every_failing_call_of_a_new_key_is_reported(
    bench: Any, number: int, file_code: VaultErrorCode, key_code: VaultErrorCode
) -> None:
    """A key that could not be written is reported with its code; no half key stays, and no leftover."""
    bench.vault().make_key("login")
    count = len(bench.disk.calls)
    assert count > 10
    for position in range(count):
        bench.quiet()
        bench.disk.fails_at, bench.disk.fault = position, system_fault(number)
        assert code_of(lambda: bench.vault().make_key("smtp")) is key_code is not file_code
        bench.quiet()
        last = position == count - 1  # the folder's sync: the whole key stands, though perhaps not for ever
        names = {path.name for path in bench.path("storage/keys").iterdir()} - {".lock"}
        assert names == ({"login.key", "smtp.key"} if last else {"login.key"})
        key = bench.vault().store.key("smtp")
        assert (key is not None) == last
        bench.vault().store.put_key("smtp", "cur", None)


def test_what_is_written_is_opened_before_it_counts(smtp: Any) -> None:
    """A key whose root has turned meanwhile seals what it cannot open: the old file stays."""

    class Turned(SecureBuffer):
        """Gives other bytes the second time."""

        times = 0

        @property
        def view(self) -> memoryview:
            self.times += 1
            shown = super().view
            if self.times == 2:
                shown[0] ^= 1
            return shown

    store = smtp.store()
    key = RootKey(SecureBuffer.of([bytes(range(32))]))
    key.root = turned = Turned.of([bytes(range(32))])
    turned.times = 0  # type: ignore[attr-defined]  # `of` says Buffer
    with pytest.raises(VaultError, match="TB-SEC-064"):
        store.put("smtp", b"new", key)
    plaintext = bytearray(b"new")

    def change(_: int) -> None:
        plaintext[0] = 0

    key = store.key("smtp")
    smtp.disk.before = change
    with pytest.raises(VaultError, match="TB-SEC-064"):
        store.put("smtp", plaintext, key)
    smtp.quiet()
    with smtp.vault().read("smtp") as opened:
        assert bytes(opened.view)[:7] == b'{"user"'


def test_a_key_that_does_not_read_back_is_no_key(bench: Any) -> None:
    """A disk that writes other bytes than it was given is found out before the key is used."""

    class Lying(type(_system())):  # type: ignore[misc]
        def write(self, handle: int, data: memoryview) -> int:
            return os.write(handle, bytes(data)[::-1])

    assert code_of(lambda: bench.vault(system=Lying()).make_key("smtp")) is VaultErrorCode.KEY_UNPROVEN
    assert list(bench.path("storage/keys").iterdir()) == []


def test_no_access_happens_that_cannot_be_written_down(smtp: Any) -> None:
    """When the audit log refuses, nothing is handed over and nothing is written."""
    smtp.notes.fault = vault_error(VaultErrorCode.AUDIT_UNWRITABLE, "audit", "data/audit.log")
    before = smtp.path(FILE_PATH).read_bytes()
    vault = smtp.vault()
    for deed in (
        lambda: vault.read("smtp"),
        lambda: vault.read_section("smtp"),
        lambda: vault.write("smtp", b"{}"),
        lambda: vault.make_key("login"),
        lambda: vault.read("login"),
    ):
        assert code_of(deed) is VaultErrorCode.AUDIT_UNWRITABLE
    assert smtp.path(FILE_PATH).read_bytes() == before


def test_a_key_is_never_overwritten(smtp: Any) -> None:
    """Making it again is refused."""
    before = smtp.path(KEY_PATH).read_bytes()
    assert code_of(lambda: smtp.vault().make_key("smtp")) is VaultErrorCode.KEY_EXISTS
    assert smtp.path(KEY_PATH).read_bytes() == before


def test_one_process_writes_at_a_time(smtp: Any) -> None:
    """A second writer is refused at once; readers are not."""
    with smtp.store().holding("smtp"):
        assert code_of(lambda: smtp.vault().write("smtp", b"{}")) is VaultErrorCode.VAULT_BUSY
        smtp.vault().read("smtp").wipe()
    smtp.vault().write("smtp", b"{}")
    lock = smtp.path("data/vault.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(AccessError, match=r"vault\.lock"):
        smtp.vault().write("smtp", b"{}")


def test_a_replacement_is_of_the_file_that_was_read(smtp: Any) -> None:
    """After another write, of whatever content, nothing is replaced; an absent file is an edition too."""
    vault = smtp.vault()
    before = vault.store.edition("smtp")
    assert vault.write("smtp", b'{"a": "b"}', before)
    now = vault.store.edition("smtp")
    assert now not in {"", before}
    assert not vault.write("smtp", b'{"a": "c"}', before)
    vault.write("smtp", b'{"a": "b"}')
    assert not vault.write("smtp", b'{"a": "c"}', now)
    with vault.read("smtp") as opened:
        assert bytes(opened.view) == b'{"a": "b"}'
    smtp.path(FILE_PATH).unlink()
    assert vault.store.edition("smtp") == ""
    assert vault.write("smtp", b'{"a": "c"}', "")


def test_a_write_waits_for_a_rotation_to_be_ended(smtp: Any) -> None:
    """While a next key is there nothing is written under the current one; a refused write is in the audit log."""
    with keys.generate_key().root as root:
        smtp.store().put_key("smtp", "next", RootKey(SecureBuffer.of([root.view])))
    assert code_of(lambda: smtp.vault().write("smtp", b"{}")) is VaultErrorCode.ROTATION_BEGUN
    smtp.store().put_key("smtp", "next", None)
    smtp.quiet()
    assert code_of(lambda: smtp.vault().write("smtp", b"")) is VaultErrorCode.PLAINTEXT_EMPTY
    assert smtp.notes.words == [("write", "smtp", "begun"), ("deny", "smtp", VaultErrorCode.PLAINTEXT_EMPTY.text)]


def test_fernet_is_written_when_it_is_asked_for_and_upgraded_when_not(smtp: Any) -> None:
    """SECRETS_WRITE_FORMAT=fernet writes what older installations read; upgrade says what it would do, then does it."""
    key = smtp.path(KEY_PATH).read_bytes()
    smtp.fernet()
    smtp.vault().write("smtp", b'{"a": "b"}')
    text = smtp.path(FILE_PATH).read_bytes()
    assert Fernet(key).decrypt(text.strip()) == b'{"a": "b"}'
    assert Fernet(key).extract_timestamp(text.strip()) == int(datetime(2026, 11, 24, 14, 30, tzinfo=UTC).timestamp())
    assert smtp.vault().upgrade(dry_run=False) == ()
    smtp.deployment = DeploymentSettings()
    (step,) = smtp.vault().upgrade(dry_run=True)
    assert (step.category, step.before, step.after) == (
        "smtp",
        "Fernet: AES-128-CBC + HMAC-SHA256, 256-bit composite key",
        "AES-256-GCM (tbot v1)",
    )
    assert smtp.path(FILE_PATH).read_bytes() == text
    assert smtp.vault().upgrade(dry_run=False) == (step,)
    assert smtp.path(FILE_PATH).read_bytes().startswith(b"tbot1.")
    assert smtp.vault().upgrade(dry_run=False) == ()
    with smtp.store().holding("smtp"):
        assert smtp.vault().upgrade(dry_run=True) == ()
        assert code_of(lambda: smtp.vault().upgrade(dry_run=False)) is VaultErrorCode.VAULT_BUSY


def test_an_upgrade_is_of_all_files(bench: Any) -> None:
    """Each that is there is written anew, and reported in the order of the categories."""
    bench.fernet()
    vault = bench.vault()
    for category in ("smtp", "login"):
        vault.make_key(category)
        vault.write(category, b"x")
    bench.deployment = DeploymentSettings()
    assert [step.category for step in bench.vault().upgrade(dry_run=False)] == ["login", "smtp"]


def test_a_fernet_file_is_upgraded_by_any_write(smtp: Any) -> None:
    """Written by the library, read, and after a write a token."""
    key = smtp.path(KEY_PATH).read_bytes()
    smtp.path(FILE_PATH).write_bytes(Fernet(key).encrypt(b"{}"))
    with smtp.vault().read("smtp") as opened:
        smtp.vault().write("smtp", opened.view)
    assert smtp.path(FILE_PATH).read_bytes().startswith(b"tbot1.")
    with smtp.vault().read("smtp") as opened:
        assert bytes(opened.view) == b"{}"


def test_an_upgrade_moves_files_to_the_current_key(smtp: Any) -> None:
    """A file still under the previous key is sealed anew."""
    store = smtp.store()
    store.put_key("smtp", "prev", store.key("smtp"))
    store.put_key("smtp", "cur", keys.generate_key())
    (step,) = smtp.vault().upgrade(dry_run=False)
    assert step.before == step.after
    store.put_key("smtp", "prev", None)
    smtp.vault().read("smtp").wipe()


def test_status_shows_the_state_of_each_category(smtp: Any) -> None:
    """Present or missing, key id, format in words, mode, and what is wrong; nothing is decrypted or raised."""
    status_by_category = {it.category: it for it in smtp.vault().status()}
    assert list(status_by_category) == list(CATEGORIES)
    it = status_by_category["smtp"]
    assert (it.key, it.file, it.missing, it.format, it.mode) == (KEY_PATH, FILE_PATH, (), token.FORMAT_WORDS, 0o600)
    assert (it.key_id, it.faults) == (smtp.store().key("smtp").name, ())
    absent = status_by_category["login"]
    assert (absent.missing, absent.key_id, absent.format, absent.mode) == (("key", "file"), None, None, None)
    smtp.path(FILE_PATH).chmod(0o640)
    smtp.path(KEY_PATH).chmod(0o640)
    loose = {it.category: it for it in smtp.vault(live=False).status()}["smtp"]
    assert ([it.code for it in loose.faults], loose.mode) == (
        [VaultErrorCode.KEY_MODE.text, VaultErrorCode.FILE_MODE.text],
        0o640,
    )
    put_key(smtp, b"x")
    smtp.path(FILE_PATH).rename(smtp.path("f"))
    smtp.path(FILE_PATH).symlink_to(smtp.path("f"))
    bad = {it.category: it for it in smtp.vault().status()}["smtp"]
    assert ([it.code for it in bad.faults], bad.key_id, bad.missing) == (
        [VaultErrorCode.KEY_LENGTH.text, VaultErrorCode.FILE_SYMLINK.text],
        None,
        (),
    )
    assert smtp.notes.said == []


def test_verify_opens_and_judges_every_file(smtp: Any) -> None:
    """A sound instance has no faults; each fault is returned, and the audit log records each opening."""
    assert smtp.vault().verify() == ()
    assert smtp.notes.words == [("decrypt", "smtp", "ok")]
    smtp.vault().write("smtp", b"[]")
    smtp.path(FILE_PATH).chmod(0o644)
    assert [it.code for it in smtp.vault(live=False).verify()] == [
        VaultErrorCode.FILE_MODE.text,
        VaultErrorCode.CONTENT_OBJECT.text,
    ]
    assert [it.code for it in smtp.vault().verify()] == [VaultErrorCode.FILE_MODE.text]


def test_a_key_that_two_categories_share_is_found(smtp: Any) -> None:
    """The same content in two key files is a fault of each but the first; a damaged key is for others to say."""
    vault = smtp.vault()
    vault.make_key("login")
    assert vault.shared_keys() == ()
    store = smtp.store()
    for category in ("audit", "network", "broker"):
        store.put_key(category, "cur", store.key("smtp"))
    smtp.path("storage/keys/login.key").write_bytes(b"x")
    found = vault.shared_keys()
    assert [it.message.split(":")[0] for it in found] == [
        "TB-SEC-038 broker",
        "TB-SEC-038 smtp",
        "TB-SEC-038 network",
    ]
    assert [it.code for it in vault.verify()] == [VaultErrorCode.KEY_SHARED.text] * 3


def test_the_key_of_the_audit_log_is_restored_not_renewed() -> None:
    """No command renews it, so none is named; a category's key has one."""
    for code in (VaultErrorCode.KEY_MISSING, VaultErrorCode.KEY_LENGTH):
        audit, other = (vault_error(code, category, "k").remedy for category in ("audit", "smtp"))
        assert "`" not in audit
        assert "data/audit.*" in audit
        assert "`tbot secrets rekey smtp`" in other


def test_a_key_in_place_of_a_path_is_not_shown(bench: Any) -> None:
    """Neither in a message about the file nor in its remedy."""
    key = "u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U"
    bench.deployment = DeploymentSettings(smtp_key_path=f"{key}=", smtp_credentials_path=key)
    with pytest.raises(VaultError) as refused:
        bench.vault().read("smtp")
    assert key not in str(refused.value)
    assert "[redacted]" in str(refused.value)


def test_a_write_removes_what_killed_writers_left(smtp: Any) -> None:
    """Beside every key and file, those of other categories too; what cannot be removed stops no write."""
    left = [smtp.path(name) for name in ("storage/keys/.smtp.prev.key.new", "storage/secrets/.login.json.enc.new")]
    for path in left:
        path.touch()
    stuck = smtp.path("storage/keys/.login.key.new")
    stuck.mkdir()
    smtp.vault().write("smtp", b"{}")
    assert [path.exists() for path in (*left, stuck)] == [False, False, True]


def test_the_codes_are_stable_distinct_and_complete() -> None:
    """At least forty, each with a number of its own, a sentence that names the file, and a remedy."""
    assert len(VaultErrorCode) >= 40
    assert len(CODE_BY_TEXT) == len(VaultErrorCode)
    for code in VaultErrorCode:
        error = vault_error(code, "smtp", "a/b.enc", section="x")
        assert error.message.startswith(f"{code.text} smtp: ")
        assert "a/b.enc" in error.message
        assert error.remedy.strip()
        assert "{" not in str(error)
    assert vault_error(VaultErrorCode.KEY_FOLDER_MODE, "smtp", "b.key").remedy == "chmod 700 ."
    assert VaultErrorCode.KEY_MISSING.text == "TB-SEC-021"


@pytest.mark.slow
def test_each_code_has_a_test(root: Path) -> None:
    """Some test expects it, and not because it made the error itself."""
    text = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    met = {*re.findall(r"(?<!fault\()Code\.(\w+)", text), *re.findall(r"TB-SEC-\d+", text)}
    unmet = [code for code in VaultErrorCode if not {code.name, code.text} & met]
    assert unmet == []


def test_a_ring_knows_its_keys() -> None:
    """By id, the current one first; wiped together."""
    cur, prev = keys.generate_key(), keys.generate_key()
    with CategoryKeys(cur=cur, prev=prev) as ring:
        assert list(ring.members()) == [cur, prev]
        assert (ring.find(prev.id), ring.find(bytes(8))) == (prev, None)
    assert not cur.root.is_held
    assert not prev.root.is_held


def test_a_link_that_leads_nowhere_is_there(bench: Any) -> None:
    """What bears the name counts, not what it leads to."""
    assert not filesystem.is_present(bench.path("link"))
    bench.path("link").symlink_to(bench.path("nowhere"))
    assert filesystem.is_present(bench.path("link"))
