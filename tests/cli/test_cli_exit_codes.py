"""What can be wrong with keys and encrypted files, as a person meets it: a code, the category, the file, a remedy."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import keyring
import keyring.backends.null
import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets
from tbot_core.testing.canaries import canary, shows
from tbot_core.testing.keyrings import MemoryKeyring
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars
from tbot_core.vault import categories
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.keys import generate_key

if TYPE_CHECKING:
    from tbot_core.vault.vault import Vault

Damage = Callable[[Path], object]

CANARY: Final = canary("broker")
VALUES: Final = {"alpaca": {"api_key": CANARY, "api_secret": CANARY}}
KEY: Final = "storage/keys/broker.key"
FILE: Final = "storage/secrets/broker_credentials.json.enc"
LOG: Final = "data/audit.log"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A paper instance with a broker's credentials; tests take copies of it."""
    home = tmp_path_factory.mktemp("made") / "x"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    secrets.encrypt_category(vault(home), "broker", json.dumps(VALUES).encode())
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """An instance of the test's own."""
    shutil.copytree(made, tmp_path / "x")
    return tmp_path / "x"


def vault(home: Path) -> Vault:
    """The instance's vault."""
    return secrets.open_instance_vault(Instance(home), DeploymentSettings())


def said(home: Path, *args: str, code: int, typed: str = "", of: str = "secrets") -> str:
    """What `tbot secrets`, or another command, says on both streams, in one line; no word of it may be secret."""
    with CliRunner().isolation(typed) as streams:
        got = cli.invoke([of, *args, "--home", str(home)])
        text = b" ".join((streams[0].getvalue() + streams[1].getvalue()).split()).decode()
    assert got == code, text
    assert not shows(text)
    return text


def sentence(code: VaultErrorCode, category: str = "broker", file: str = FILE, section: str = "") -> str:
    """The whole sentence of a code."""
    return str(vault_error(code, category, file, section=section))


def text(path: str, change: Callable[[bytes], bytes]) -> Damage:
    """The file with another text."""
    return lambda home: (home / path).write_bytes(change((home / path).read_bytes()))


def binary(change: Callable[[bytes], bytes]) -> Damage:
    """The token of other bytes, written well."""

    def changed(token: bytes) -> bytes:
        body = token.strip().removeprefix(b"tbot1.")
        data = change(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
        return b"tbot1." + base64.urlsafe_b64encode(data).rstrip(b"=")

    return text(FILE, changed)


def fernet(change: Callable[[bytes], bytes]) -> Damage:
    """A Fernet file under the category's key, then changed."""
    return lambda home: (home / FILE).write_bytes(change(Fernet((home / KEY).read_bytes()).encrypt(b'{"a": {}}' * 3)))


def content(data: bytes) -> Damage:
    """A sound token that holds this."""
    return lambda home: vault(home).write("broker", data)


def placed(path: str, put: Callable[[Path, Path], object]) -> Damage:
    """Something else in the place of a file, which lies beside it under another name."""

    def damage(home: Path) -> None:
        kept = (home / path).rename(home / path.replace("broker", "kept"))
        put(home / path, kept)

    return damage


def mode(path: str, bits: int) -> Damage:
    """Other permissions."""
    return lambda home: (home / path).chmod(bits)


def huge(path: str) -> Damage:
    """A hundred megabytes, of which nothing is on the disk."""
    return lambda home: os.truncate(home / path, 100_000_000)


def rekeyed(home: Path) -> None:
    """A key file with another key."""
    (home / KEY).write_bytes(base64.urlsafe_b64encode(os.urandom(32)))


FOUND: Final[dict[VaultErrorCode, tuple[str, Damage]]] = {
    VaultErrorCode.FILE_EMPTY: (FILE, text(FILE, lambda _: b"")),
    VaultErrorCode.FORMAT_UNKNOWN: (FILE, text(FILE, lambda token: b" " + token)),
    VaultErrorCode.TOKEN_TOO_LONG: (FILE, huge(FILE)),
    VaultErrorCode.TOKEN_ALPHABET: (FILE, text(FILE, lambda token: token + b"\n")),
    VaultErrorCode.TOKEN_CANONICAL: (FILE, text(FILE, lambda _: b"tbot1.A")),
    VaultErrorCode.TOKEN_SHORT: (FILE, binary(lambda data: data[:77])),
    VaultErrorCode.TOKEN_MAGIC: (FILE, binary(lambda data: b"X" + data[1:])),
    VaultErrorCode.TOKEN_VERSION: (FILE, binary(lambda data: data[:7] + b"\x02" + data[8:])),
    VaultErrorCode.TOKEN_ALGORITHM: (FILE, binary(lambda data: data[:8] + b"\x02" + data[9:])),
    VaultErrorCode.TOKEN_KEY_ID: (FILE, rekeyed),
    VaultErrorCode.TOKEN_TAG: (FILE, binary(lambda data: data[:-1] + bytes([data[-1] ^ 1]))),
    VaultErrorCode.FERNET_ALPHABET: (FILE, fernet(lambda token: token + b" ")),
    VaultErrorCode.FERNET_CANONICAL: (FILE, fernet(lambda token: token.rstrip(b"=")[:-1])),
    VaultErrorCode.FERNET_SHORT: (FILE, fernet(lambda token: token[:40])),
    VaultErrorCode.FERNET_BLOCKS: (FILE, fernet(lambda token: token[:-4] if token[-1:] != b"=" else token[:-8])),
    VaultErrorCode.FERNET_TAG: (FILE, fernet(lambda token: token[:12] + b"AAAA" + token[16:])),
    VaultErrorCode.KEY_MISSING: (KEY, lambda home: (home / KEY).unlink()),
    VaultErrorCode.KEY_SYMLINK: (KEY, placed(KEY, Path.symlink_to)),
    VaultErrorCode.KEY_NOT_REGULAR: (KEY, placed(KEY, lambda path, _: os.mkfifo(path, 0o600))),
    VaultErrorCode.KEY_LINKS: (KEY, placed(KEY, Path.hardlink_to)),
    VaultErrorCode.KEY_TOO_LARGE: (KEY, huge(KEY)),
    VaultErrorCode.KEY_MODE: (KEY, mode(KEY, 0o644)),
    VaultErrorCode.KEY_FOLDER_MODE: (KEY, mode("storage/keys", 0o755)),
    VaultErrorCode.KEY_BOM: (KEY, text(KEY, lambda key: b"\xef\xbb\xbf" + key)),
    VaultErrorCode.KEY_CRLF: (KEY, text(KEY, lambda key: key + b"\r\n")),
    VaultErrorCode.KEY_LENGTH: (KEY, text(KEY, lambda key: key[:-1])),
    VaultErrorCode.KEY_ALPHABET: (KEY, text(KEY, lambda key: b"+" + key[1:])),
    VaultErrorCode.KEY_CANONICAL: (KEY, text(KEY, lambda key: key[:-2] + b"9=")),
    VaultErrorCode.KEY_CONSTANT: (KEY, text(KEY, lambda _: b"A" * 43 + b"=")),
    VaultErrorCode.FILE_SYMLINK: (FILE, placed(FILE, Path.symlink_to)),
    VaultErrorCode.FILE_NOT_REGULAR: (FILE, placed(FILE, lambda path, _: path.mkdir())),
    VaultErrorCode.FILE_LINKS: (FILE, placed(FILE, Path.hardlink_to)),
    VaultErrorCode.FILE_MODE: (FILE, mode(FILE, 0o640)),
    VaultErrorCode.FILE_FOLDER_OPEN: (FILE, mode("storage/secrets", 0o777)),
    VaultErrorCode.CONTENT_UTF8: (FILE, content(b"\xff")),
    VaultErrorCode.CONTENT_JSON: (FILE, content(b"{")),
    VaultErrorCode.CONTENT_OBJECT: (FILE, content(b"[]")),
    VaultErrorCode.CONTENT_REPEATED: (FILE, content(b'{"alpaca": {}, "alpaca": {}}')),
}
"""What `tbot secrets verify` says once so much has happened to an instance, and of which file."""


@pytest.mark.first(1)
@pytest.mark.parametrize("code", FOUND, ids=lambda code: code.name)
def test_verify_says_what_is_wrong_and_what_repairs_it(home: Path, code: VaultErrorCode) -> None:
    """The whole sentence: code, category, file, remedy; nothing that the file holds; exit 3."""
    file, damage = FOUND[code]
    damage(home)
    assert sentence(code, file=file) in said(home, "verify", code=3)


def begun(home: Path) -> None:
    """A rotation that was begun: a next key is there."""
    vault(home).store.put_key("broker", "next", generate_key())


def orphaned(home: Path) -> None:
    """A next key that opens nothing, and no current one."""
    begun(home)
    vault(home).store.put_key("broker", "cur", None)


def given(values: Any = VALUES) -> tuple[tuple[str, ...], str]:
    """Setting the broker's credentials from a document."""
    return ("set", "broker", "--from-json", "-"), json.dumps(values)


LONG: Final = {f"acme{number}": {"token": "x" * 1000} for number in range(1000)}
MET: Final[list[tuple[VaultErrorCode, str, Damage, tuple[tuple[str, ...], str]]]] = [
    (VaultErrorCode.PLAINTEXT_LONG, FILE, lambda home: home, given(LONG)),
    (VaultErrorCode.FILE_MISSING, FILE, lambda home: (home / FILE).unlink(), (("edit", "broker"), "")),
    (
        VaultErrorCode.FILE_FOLDER_MISSING,
        FILE,
        lambda home: shutil.rmtree(home / "storage/secrets"),
        (("edit", "broker"), ""),
    ),
    (VaultErrorCode.ROTATION_BEGUN, KEY, begun, (("rotate", "broker"), "")),
    (VaultErrorCode.ROTATION_BEGUN, KEY, begun, given()),
    (VaultErrorCode.ROTATION_UNPROVEN, FILE, orphaned, (("rotate", "broker", "--resume"), "")),
]
"""What other commands say."""


@pytest.mark.parametrize(("code", "file", "damage", "command"), MET, ids=lambda it: getattr(it, "name", ""))
def test_other_commands_say_it_alike(
    home: Path, code: VaultErrorCode, file: str, damage: Damage, command: tuple[tuple[str, ...], str]
) -> None:
    """Whatever is asked of an instance, what is wrong is reported in the same words."""
    damage(home)
    args, typed = command
    assert sentence(code, file=file) in said(home, *args, code=3, typed=typed)


def test_a_content_of_another_shape_is_named_by_its_section(home: Path) -> None:
    """A section that is none, and an empty field, are named; what they hold is not."""
    content(json.dumps({"alpaca": CANARY}).encode())(home)
    assert sentence(VaultErrorCode.CONTENT_SECTION, section="alpaca") in said(home, "verify", code=3)
    assert "TB-SEC-076 broker: field " in said(
        home, *given({"alpaca": {"api_key": ""}})[0], code=3, typed='{"a": {"b": ""}}'
    )


def test_a_key_of_two_categories_is_found(home: Path) -> None:
    """The later of the two is asked to have its own; --allow-shared-key lets an old instance pass with a warning."""
    shutil.copy(home / "storage/keys/login.key", home / "storage/keys/smtp.key")
    shared = sentence(VaultErrorCode.KEY_SHARED, "smtp", "storage/keys/smtp.key")
    assert shared in said(home, "verify", code=3)
    assert f"fail secrets {shared}" in said(home, code=3, of="check")
    assert f"warn secrets {shared}" in said(home, "--allow-shared-key", code=0, of="check")
    StoreFixture(folder=home / "data").put(rising_bars("ACME", exchange_sessions("2026-01-06", "2026-01-06")))
    replay = ("--replay", "2026-01-06..2026-01-06", "--json")
    assert f"tbot: {shared}" in said(home, *replay, code=0, of="run")
    assert "TB-SEC" not in said(home, *replay, "--allow-shared-key", code=0, of="run")


def test_two_names_of_the_first_key_must_agree(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment and `.env` may not name different key files of `.env.enc`: no start would find the other."""
    used, other = (home / f"storage/keys/{name}.key" for name in ("env_enc", "other"))
    refusal = sentence(VaultErrorCode.ENV_KEY_DISAGREES, "env", "storage/keys/env_enc.key")
    moved = ("set", "env", "--from-json", "-"), json.dumps({"ENV_ENC_KEY_PATH": "storage/keys/other.key"})
    assert refusal in said(home, *moved[0], code=3, typed=moved[1])
    assert not other.exists()
    monkeypatch.setenv("TBOT_ENV_ENC_KEY_PATH", "storage/keys/other.key")
    shutil.copy(used, other)
    said(home, *moved[0], code=0, typed=moved[1])
    said(home, "verify", code=0)
    monkeypatch.delenv("TBOT_ENV_ENC_KEY_PATH")
    for command in ("verify", "upgrade", "rotate", "backup"):
        assert refusal in said(home, command, code=3, typed="correct horse battery\n")
    checked = said(home, code=3, of="check")
    assert f"fail secrets {refusal}" in checked
    assert checked.count("TBOT_ENV_ENC_KEY_PATH") == 1


def test_one_command_writes_at_a_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another writes, a write waits and is refused then, and a look is not."""
    monkeypatch.setattr(secrets, "WRITE_WAIT_S", 0.05)
    with vault(home).store.holding("broker"):
        assert sentence(VaultErrorCode.VAULT_BUSY) in said(home, *given()[0], code=3, typed=given()[1])
        said(home, "show", "broker", code=0)


def test_no_access_without_a_line_in_the_log(home: Path) -> None:
    """Where the log cannot be written, nothing is opened, and the sentence says why."""
    (home / LOG).rename(home / "kept")
    (home / LOG).symlink_to(home / "kept")
    assert sentence(VaultErrorCode.AUDIT_UNWRITABLE, "audit", LOG) in said(home, "show", "broker", code=3)


def test_an_anchor_that_the_log_contradicts_is_found(home: Path) -> None:
    """A kept head that is another, and one that is none."""
    (home / "data/audit.anchors").write_text(f"2:{'0' * 64}\n")
    assert sentence(VaultErrorCode.AUDIT_ANCHOR, "audit", "audit.log", "2") in said(home, "audit", "--verify", code=3)
    (home / "data/audit.anchors").write_text("2\n")
    assert "TB-SEC-098 audit: " in said(home, "audit", "--verify", code=3)


PROVIDED: Final = [
    ("Files", VaultErrorCode.PROVIDER_UNKNOWN, "TBOT_KEY_PROVIDER=Files is not a known key provider"),
    ("plugin", VaultErrorCode.PROVIDER_ABSENT, "no plugin provides the key"),
    ("passphrase", VaultErrorCode.PASSPHRASE_HEADER, "storage/keys/passphrase.json of the passphrase is missing"),
    ("keyring", VaultErrorCode.KEYRING_BACKEND, "stores nothing"),
]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets keys come from elsewhere for one test, by name; the system's keyring is one that stores nothing."""
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.null.Keyring)

    def choose(name: str) -> None:
        monkeypatch.setenv("TBOT_KEY_PROVIDER", name)
        secrets.forget_passphrases()

    yield choose
    secrets.forget_passphrases()


@pytest.mark.parametrize(("name", "code", "words"), PROVIDED, ids=lambda it: getattr(it, "name", None))
def test_a_provider_that_cannot_serve_is_reported(
    home: Path, provider: Any, name: str, code: VaultErrorCode, words: str
) -> None:
    """Key files are there, and none steps in."""
    provider(name)
    text = said(home, "show", "broker", code=3, typed="a passphrase\n")
    assert f"{code.text} " in text
    assert words in text


@pytest.mark.slow
def test_a_passphrase_serves_and_a_wrong_one_is_reported(tmp_path: Path, provider: Any) -> None:
    """`tbot init` under a passphrase leaves no key file; the same opens what it closed, another opens nothing."""
    home, right = tmp_path / "x", "correct horse battery\n"
    provider("passphrase")
    with CliRunner().isolation(right):
        assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    assert [it.name for it in (home / "storage/keys").iterdir()] == ["passphrase.json"]
    provider("passphrase")
    assert "BOT_IDENTITY_STRING = [redacted]" in said(home, "show", "bot_identity", code=0, typed=right)
    assert "TB-SEC-082 env: " in said(home, "rotate", "env", code=3, typed=right)
    provider("passphrase")
    assert "TB-SEC-084 every category: " in said(home, "show", "bot_identity", code=3, typed="wrong horse\n")


def test_a_keyring_serves(tmp_path: Path, provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tbot init` with the system's keyring leaves no key file; what it closed opens, and is rotated like any other."""
    home, ring = tmp_path / "x", MemoryKeyring()
    provider("keyring")
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    assert not list((home / "storage/keys").iterdir())
    assert {service for service, _ in ring.held} == {f"tbot {home}"}
    assert "env has the key" in said(home, "rotate", "env", code=0)
    assert "Every encrypted file opens" in said(home, "verify", code=0)


@pytest.mark.slow
def test_no_category_takes_the_place_of_another(home: Path) -> None:
    """Each file in each other's place, each key in each other's, and both at once: all refused."""
    opened, names = vault(home), list(CATEGORIES)
    for name in names:
        if not opened.store.has_file(name):
            secrets.encrypt_category(opened, name, b"{}")
    places = {name: categories.category_paths(name, Instance(home), DeploymentSettings()) for name in names}
    files = {name: it.file.read_bytes() for name, it in places.items()}
    keys = {name: it.key.read_bytes() for name, it in places.items()}
    for shift in range(1, len(names)):
        other = dict(zip(names, names[shift:] + names[:shift], strict=True))
        for moved_file, moved_key, code in (
            (True, False, VaultErrorCode.TOKEN_KEY_ID),
            (False, True, VaultErrorCode.TOKEN_KEY_ID),
            (True, True, VaultErrorCode.TOKEN_TAG),
        ):
            for name, it in places.items():
                it.file.write_bytes(files[other[name] if moved_file else name])
                it.key.write_bytes(keys[other[name] if moved_key else name])
            text = said(home, "verify", code=3)
            for name, it in places.items():
                assert sentence(code, name, it.shown(it.file)) in text
