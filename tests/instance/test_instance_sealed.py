"""Settings from encrypted files: opened in memory alone, and no other file in their place."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from cryptography.fernet import Fernet

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, SettingsError, VaultError
from tbot_core.instance import (
    Instance,
    examine_settings,
    is_sealed,
    load_settings,
    raw_settings,
    read_settings_files,
    secrets,
)
from tbot_core.instance.report import examined_report
from tbot_core.instance.sources import deployment_of, keep_opened_settings
from tbot_core.system import terminal
from tbot_core.testing.canaries import canary
from tbot_core.vault import audit_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.instance.findings import Mode

BOT = "STRATEGY_SEQUENCE=open\nBROKER_NAME=PAPER\nSEED=7\n"


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    # No provider of keys outlives its test.
    secrets.forget_passphrases()
    yield
    secrets.forget_passphrases()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with both settings files encrypted and nothing in plaintext."""
    vault = secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    secrets.encrypt_category(vault, "env", f"EXTENSIONS=none\nCONTROL_DIR=control\n# {canary('env')}\n".encode())
    secrets.encrypt_category(vault, "env_bot", f"{BOT}# {canary('env_bot')}\n".encode())
    return tmp_path


def faults(home: Path, mode: str = "replay") -> list[str]:
    """What keeps the settings from being loaded."""
    return [str(it) for it in examine_settings(home, mode=mode).findings if it.level == "fail"]  # type: ignore[arg-type]  # a mode


def test_encrypted_settings_load_as_the_plaintext_does(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same values and the same fingerprint, each value with file and line of the decrypted text."""
    plain = tmp_path_factory.mktemp("plain")
    (plain / ".env_bot").write_text(BOT)
    (plain / ".env").write_text("EXTENSIONS=none\n")
    found, expected = load_settings(home, mode="replay"), load_settings(plain, mode="replay")
    assert found.fingerprint == expected.fingerprint
    assert str(found.values["SEED"].origin) == ".env_bot.enc:3"
    assert not found.warnings
    assert raw_settings(home) == raw_settings(plain) | {"CONTROL_DIR": "control"}


def test_live_reads_encrypted_settings(home: Path) -> None:
    """Live trading refuses plaintext, and takes what is encrypted and for its owner alone."""
    assert load_settings(home, mode="live").simulation.seed == 7


@pytest.mark.parametrize(
    ("cap", "mode", "there"), [("500", "live", True), ("0", "live", False), ("500", "paper", False)]
)
def test_a_live_check_names_the_cap_of_the_first_day(home: Path, cap: str, mode: Mode, *, there: bool) -> None:
    """In dollars; nothing where it is off, and on paper."""
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    secrets.encrypt_category(vault, "env_bot", f"{BOT}FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL={cap}\n".encode())
    found = [str(one) for one in examined_report(examine_settings(home, mode=mode), mode, ())]
    sentence = f"On the first day that an account trades live, an entry is at most {cap}.00."
    assert (sentence in found) is there


def test_each_opening_is_in_the_audit_log(home: Path) -> None:
    """Every decryption is a line that names the category."""
    before = len(list(audit_log.log_entries(home / "data" / "audit.log")))
    load_settings(home, mode="replay")
    lines = list(audit_log.log_entries(home / "data" / "audit.log"))[before:]
    found = [(it.action, it.category, it.outcome) for it in lines]
    assert found == [("decrypt", "env", "ok"), ("decrypt", "env_bot", "ok")]


def test_nothing_decrypted_reaches_the_disk(home: Path) -> None:
    """No file of the instance holds a line of the settings after they were read."""
    load_settings(home, mode="replay")
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"STRATEGY_SEQUENCE" not in held
    assert b"SEED=7" not in held


def test_both_forms_of_a_file_warn_and_live_refuses(home: Path) -> None:
    """The encrypted one counts, and the plaintext beside it is warned of; live trading refuses it."""
    (home / ".env_bot").write_text("SEED=8\n")
    found = load_settings(home, mode="replay")
    assert found.simulation.seed == 7
    sentence = ".env_bot: .env_bot.enc takes precedence; delete the plaintext .env_bot beside it."
    assert [str(it) for it in found.warnings] == [sentence]
    assert faults(home, "live") == [sentence]


def test_a_file_that_reference_libraries_encrypted_opens(tmp_path: Path) -> None:
    """A Fernet file with a key file of 44 characters is read as it is."""
    keys = tmp_path / "storage" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    key = Fernet.generate_key()
    (keys / "env.key").write_bytes(key + b"\n")
    (tmp_path / ".env_bot.enc").write_bytes(Fernet(key).encrypt(BOT.encode()))
    for path in (keys / "env.key", tmp_path / ".env_bot.enc"):
        path.chmod(0o600)
    assert load_settings(tmp_path, mode="replay").simulation.seed == 7


def _symlinked(key: Path) -> None:
    key.rename(key.with_suffix(".real"))
    key.symlink_to(key.with_suffix(".real"))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (Path.unlink, "TB-SEC-021 env_bot: its key file storage/keys/env.key is missing."),
        (lambda key: key.write_bytes(urlsafe_b64encode(bytes(range(32)))), "TB-SEC-010 env_bot: "),
        (_symlinked, "TB-SEC-024 env_bot: its key file storage/keys/env.key is a symbolic link."),
        (lambda key: key.write_bytes(key.read_bytes().strip() + b"\r\n"), "TB-SEC-033 env_bot: "),
        (lambda key: key.write_bytes(b"\xef\xbb\xbf" + key.read_bytes()), "TB-SEC-032 env_bot: "),
    ],
)
def test_a_key_that_is_wrong_is_a_fault_with_its_sentence(
    home: Path, harm: Callable[[Path], None], sentence: str
) -> None:
    """A key missing, foreign, linked or saved by a careless editor: the sentence of the vault, and no settings."""
    harm(home / "storage" / "keys" / "env.key")
    (found,) = faults(home)
    assert found.startswith(f".env_bot.enc: {sentence}")
    with pytest.raises(SettingsError, match="TB-SEC"):
        load_settings(home, mode="replay")
    with pytest.raises(VaultError, match="TB-SEC"):
        raw_settings(home)


def test_loose_modes_are_put_up_with_except_live(home: Path) -> None:
    """A key that others may read is warned of in the log, and live trading refuses it with the chmod."""
    (home / "storage" / "keys" / "env.key").chmod(0o644)
    assert load_settings(home, mode="replay").simulation.seed == 7
    (found,) = faults(home, "live")
    assert found.startswith(".env_bot.enc: TB-SEC-029 env_bot: ")
    assert found.endswith("chmod 600 storage/keys/env.key")


def test_without_the_global_configuration_the_other_is_not_looked_for(home: Path) -> None:
    """One fault says that .env.enc cannot be read; where the trading configuration lies is then unknown."""
    (home / "storage" / "keys" / "env_enc.key").unlink()
    (found,) = faults(home)
    assert found.startswith(".env.enc: TB-SEC-021 env: ")


def test_the_environment_names_the_key_of_the_global_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TBOT_ENV_ENC_KEY_PATH moves the key; a setting inside the file that names another is refused."""
    keys = home / "storage" / "keys"
    (keys / "env_enc.key").rename(keys / "moved.key")
    monkeypatch.setenv("TBOT_ENV_ENC_KEY_PATH", "storage/keys/moved.key")
    assert load_settings(home, mode="replay").simulation.seed == 7
    secrets.encrypt_category(
        secrets.open_instance_vault(Instance(home), DeploymentSettings()),
        "env",
        b"ENV_ENC_KEY_PATH=storage/keys/other.key\n",
    )
    (found,) = faults(home)
    assert found.startswith(".env.enc: TB-SEC-043 env: ")


def test_the_global_configuration_says_where_the_other_lies(tmp_path: Path) -> None:
    """ENV_BOT_PATH and ENV_KEY_PATH of the decrypted .env are followed."""
    texts = b"ENV_BOT_PATH=conf/bot\nENV_KEY_PATH=conf/bot.key\nSESSION_TIMEOUT=never\n"
    secrets.encrypt_category(secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings()), "env", texts)
    moved = deployment_of(read_settings_files(Instance(tmp_path)).env.parsed)
    assert (moved.env_bot_path, moved.session_timeout) == ("conf/bot", 3000)
    secrets.encrypt_category(secrets.open_instance_vault(Instance(tmp_path), moved), "env_bot", BOT.encode())
    assert (tmp_path / "conf" / "bot.enc").is_file()
    assert raw_settings(tmp_path)["SEED"] == "7"


def test_whether_settings_are_encrypted_is_known_without_opening_them(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Either file may be the encrypted one; no line of the audit log is needed to see it."""
    log = home / "data" / "audit.log"
    before = log.read_bytes()
    assert is_sealed(Instance(home))
    (home / ".env.enc").unlink()
    assert is_sealed(Instance(home))
    (home / ".env_bot.enc").rename(home / "bot.enc")
    (home / ".env").write_text("ENV_BOT_PATH=bot\n")
    assert is_sealed(Instance(home))
    assert log.read_bytes() == before
    assert not is_sealed(Instance(tmp_path_factory.mktemp("empty")))


def test_an_audit_log_without_its_key_refuses(home: Path) -> None:
    """A key of the audit log is never made where a log stands that it would not fit."""
    (home / "storage" / "keys" / "audit.key").unlink()
    (found,) = faults(home)
    assert "TB-SEC-021 audit: " in found


def test_keys_from_a_passphrase_ask_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With TBOT_KEY_PROVIDER=passphrase no key file is made, and the passphrase is read once from standard input."""
    import io
    import sys

    from tbot_core.vault.key_providers import PassphraseKeyProvider

    monkeypatch.setenv("TBOT_KEY_PROVIDER", "passphrase")
    monkeypatch.setattr(sys, "stdin", io.StringIO("one long phrase\nnot read\n"))
    (tmp_path / "storage" / "keys").mkdir(parents=True, mode=0o700)
    vault = secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    assert isinstance(vault.provider, PassphraseKeyProvider)
    vault.provider.create()
    secrets.encrypt_category(vault, "env_bot", BOT.encode())
    assert load_settings(tmp_path, mode="replay").simulation.seed == 7
    assert not list((tmp_path / "storage" / "keys").glob("*.key"))
    assert sys.stdin.readline() == "not read\n"
    assert "phrase" not in capsys.readouterr().out


def test_nothing_entered_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty standard input gives no passphrase."""
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(AccessError, match="the input was empty"):
        terminal.read_hidden("Passphrase of the keys")


def test_each_file_says_how_it_is_edited_and_what_is_in_it(tmp_path: Path) -> None:
    """Plaintext in an editor, an encrypted one with its command; a finding without a file is in neither."""
    (tmp_path / ".env_bot").write_text("SEED=x\n")
    files = read_settings_files(Instance(tmp_path))
    assert (files.bot.edit_words, files.env.edit_words) == ("Edit .env_bot.", "Edit .env.")
    (finding,) = examine_settings(tmp_path, mode="replay", sources=files).findings[-1:]
    assert files.file_of(finding) is files.bot
    assert files.file_of(attrs.evolve(finding, where="")) is None
    sealed = [attrs.evolve(one, sealed=True).edit_words for one in files.both]
    assert sealed == ["`tbot secrets edit env` edits it.", "`tbot config edit` edits it."]


def opened(home: Path) -> int:
    """How often a file was decrypted, by the access log."""
    return sum(one.action == "decrypt" for one in audit_log.log_entries(audit_log.log_path(Instance(home))))


def test_kept_settings_are_opened_again_only_when_they_change(home: Path) -> None:
    """Each file is a line of the access log once; a new content and a new key are seen at once; later ones are read."""
    vault, before = secrets.open_instance_vault(Instance(home), DeploymentSettings()), opened(home)
    with keep_opened_settings():
        assert {read_settings_files(Instance(home)).texts()["SEED"] for _ in range(5)} == {"7"}
        assert opened(home) == before + 2
        assert read_settings_files(Instance(home), live=True).texts()["SEED"] == "7"  # with its stricter checks
        assert opened(home) == before + 4
        secrets.encrypt_category(vault, "env_bot", BOT.replace("7", "1234").encode())
        assert read_settings_files(Instance(home)).texts()["SEED"] == "1234"
        assert opened(home) == before + 5
        key = vault.store.place("env_bot").key
        key.write_text("no key", encoding="utf-8")
        assert "TB-SEC" in str(read_settings_files(Instance(home)).bot.fault)
        assert "TB-SEC" in str(read_settings_files(Instance(home)).bot.fault)
        key.unlink()
        assert read_settings_files(Instance(home)).bot.fault is not None
    assert read_settings_files(Instance(home)).env.fault is None
    assert opened(home) > before + 5
