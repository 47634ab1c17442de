"""The user's two sample files, encrypted by the reference library as older installations have them, drive a replay."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from tbot_core import cli
from tbot_core.errors import SettingsError
from tbot_core.instance import load_settings
from tbot_core.vault.error_codes import VaultErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = "2018-02-20"
FILES = {"env": (".env.enc", "env_enc.key", "env.sample"), "env_bot": (".env_bot.enc", "env.key", "env_bot.sample")}


@pytest.fixture
def home(tmp_path: Path, shared: Path) -> Path:
    """An instance of nothing but both samples, to the byte, each encrypted with a key of its own."""
    home = tmp_path / "x"
    keys = home / "storage" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    for file, name, sample in FILES.values():
        key = Fernet.generate_key()
        (keys / name).write_bytes(key)
        (home / file).write_bytes(Fernet(key).encrypt((shared / "reference" / sample).read_bytes()))
        for path in (keys / name, home / file):
            path.chmod(0o600)
    return home


def replay(home: Path) -> int:
    """The exit code of a replay of a recorded day."""
    return cli.invoke(["run", "--replay", f"{DAY}..{DAY}", "--home", str(home), "--json"])


@pytest.mark.slow
def test_the_encrypted_samples_drive_a_replay(home: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They load as the plaintext does, and a recorded day is decided on; nothing of them is left in the clear."""
    for source in ("bars/us300_2018", "vix_daily.parquet"):
        assert cli.invoke(["data", "import", str(shared / "data" / source), "--home", str(home)]) == 0
    plain = home.parent / "plain"
    plain.mkdir()
    for name in ("env", "env_bot"):
        (plain / f".{name}").write_bytes((shared / "reference" / f"{name}.sample").read_bytes())
    capsys.readouterr()
    assert replay(home) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["mode"], document["sessions"]) == ("replay", 1)
    assert document["settings_hash"] == load_settings(plain, mode="replay").fingerprint
    assert sum(document["denials"].values()) > 0
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"STRATEGY_SEQUENCE=" not in held
    assert b"BROKER_KEY_PATH=" not in held
    assert cli.invoke(["secrets", "upgrade", "--home", str(home)]) == 0
    assert (home / ".env_bot.enc").read_bytes().startswith(b"tbot1.")
    assert load_settings(home, mode="replay").fingerprint == document["settings_hash"]


def _symlink(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100_000_000)


@pytest.mark.parametrize("category", FILES)
@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda key: key.write_bytes(Fernet.generate_key()), VaultErrorCode.FERNET_TAG),
        (Path.unlink, VaultErrorCode.KEY_MISSING),
        (_symlink, VaultErrorCode.KEY_SYMLINK),
        (_pipe, VaultErrorCode.KEY_NOT_REGULAR),
        (_huge, VaultErrorCode.KEY_TOO_LARGE),
        (lambda key: key.write_bytes(key.read_bytes() + b"\r\n"), VaultErrorCode.KEY_CRLF),
        (lambda key: key.write_bytes(b"\xef\xbb\xbf" + key.read_bytes()), VaultErrorCode.KEY_BOM),
    ],
    ids=["foreign", "missing", "symlink", "pipe", "huge", "CRLF", "BOM"],
)
def test_a_key_that_cannot_be_used_is_said_in_its_sentence(
    home: Path, category: str, harm: Callable[[Path], object], code: VaultErrorCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, with the code, the category and the file; nothing was traded."""
    file, key, _ = FILES[category]
    harm(home / "storage" / "keys" / key)
    assert replay(home) == 3
    captured = capsys.readouterr()
    named = file if code is VaultErrorCode.FERNET_TAG else f"storage/keys/{key}"
    assert f"{code.text} {category}: " in captured.err
    assert named in captured.err
    assert captured.out == ""
    assert not (home / "data" / "runs").exists()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (_symlink, VaultErrorCode.FILE_SYMLINK),
        (_pipe, VaultErrorCode.FILE_NOT_REGULAR),
        (_huge, VaultErrorCode.TOKEN_TOO_LONG),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_its_sentence(
    home: Path, harm: Callable[[Path], object], code: VaultErrorCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same holds for what is encrypted."""
    harm(home / ".env_bot.enc")
    assert replay(home) == 3
    assert f"{code.text} env_bot: " in capsys.readouterr().err


def test_a_key_that_others_may_read_is_reported_with_its_chmod(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mode 0644 is a row of the check outside live trading, which refuses it."""
    (home / "storage" / "keys" / "env.key").chmod(0o644)
    cli.invoke(["check", "--home", str(home), "--json"])
    rows = {row["message"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    (row,) = (row for message, row in rows.items() if message.startswith(f"{VaultErrorCode.KEY_MODE.text} env_bot: "))
    assert (row["level"], row["remedy"]) == ("warn", "chmod 600 storage/keys/env.key")
    with pytest.raises(SettingsError, match=VaultErrorCode.KEY_MODE.text):
        load_settings(home, mode="live")
