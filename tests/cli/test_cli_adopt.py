"""`tbot init --adopt`: the settings and secrets of an older installation become an instance."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from tbot_core import cli
from tbot_core.actions.adoption import adopt as finish_adoption
from tbot_core.actions.adoption import read_adoption
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import UsageError
from tbot_core.instance import load_settings, secrets
from tbot_core.instance.folder import Instance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

BOT = "BROKER_NAME=ALPACA\nSTRATEGY_SEQUENCE=open\nCRITICAL_ALERT_CHANNEL=pagerduty\nSEED=7\n"
ENV = "KEEP_PREV_DAYS=9\n"
CANARY = "canary-4711-secret"
OLDER: dict[str, tuple[str, str, object]] = {
    "broker": ("broker.json.enc", "broker.key", {"APCA_API_KEY_ID": f"{CANARY}-a", "secret_key": f"{CANARY}-b"}),
    "screener_api": ("screener_api.json.enc", "screener_api.key", {"FINNHUB_API_KEY": f"{CANARY}-c"}),
    "smtp": ("smtp.json.enc", "smtp.key", {"smtp_host": "mail.example.com", "password": f"{CANARY}-d"}),
    "alert": ("alert_channels.json.enc", "alert.key", {"routing_key": f"{CANARY}-e", "slack_webhook_url": CANARY}),
    "network": (".network_config.enc", "network.key", {"host": "127.0.0.1"}),
    "bot_identity": (".bot_identity.enc", "bot_identity.key", {"BOT_IDENTITY_STRING": "ACME_US_ALPACA_B01"}),
}
"""Files of tbot_bot/support, keys of tbot_bot/storage/keys, and what they hold."""


def older(folder: Path, env: str | None = ENV, bot: str = BOT) -> Path:
    """An installation of the older layout: everything encrypted by the reference library."""
    support, keys = folder / "tbot_bot" / "support", folder / "tbot_bot" / "storage" / "keys"
    for path in (support, keys):
        path.mkdir(parents=True)
    texts = {name: (file, key, json.dumps(content)) for name, (file, key, content) in OLDER.items()}
    texts["env_bot"] = (".env_bot.enc", "env.key", bot)
    if env is not None:
        texts["env"] = (".env.enc", "env_enc.key", env)
    for file, name, text in texts.values():
        key = Fernet.generate_key()
        (keys / name).write_bytes(key)
        (support / file).write_bytes(Fernet(key).encrypt(text.encode()))
    return folder


def plain(folder: Path, env: str = ENV, bot: str = BOT) -> Path:
    """A folder with both settings files in plaintext."""
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(env)
    (folder / ".env_bot").write_text(bot)
    return folder


def adopt(home: Path, *options: str) -> int:
    """The exit code of an adoption without a terminal."""
    return cli.invoke(["init", "--adopt", *options, "--home", str(home)])


def content(home: Path, category: str) -> Any:
    """The decrypted content of a category: JSON, or the bytes of settings."""
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    with vault.read(category) as opened:
        data = bytes(opened.view)
    return data if category in {"env", "env_bot"} else json.loads(data)


def files(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_samples_become_an_instance_to_the_byte(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str], *, elsewhere: bool
) -> None:
    """Both files are encrypted as they are; in place their plaintext is gone, under --from it stays."""
    samples = [(shared / "reference" / f"{name}.sample").read_bytes() for name in ("env", "env_bot")]
    source = tmp_path / "source"
    source.mkdir()
    home = tmp_path / "bot" if elsewhere else source
    for name, data in zip((".env", ".env_bot"), samples, strict=True):
        (source / name).write_bytes(data)
    assert adopt(home, *(("--from", str(source)) if elsewhere else ())) == 3  # the plugins of later releases
    assert [content(home, name) for name in ("env", "env_bot")] == samples
    assert (source / ".env_bot").exists() is elsewhere
    assert not (home / ".env_bot").exists()
    assert not any(b"STRATEGY_SEQUENCE" in data for data in files(home).values())
    said = capsys.readouterr().out
    for plugin in ("broker (alpaca): api_key, api_secret", "smtp (email): host", "alert (pagerduty): routing_key"):
        assert f"Still to be set: {plugin}" in said


def test_a_check_of_the_samples_names_each_absent_distribution_once(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five failures, one for each plugin that the samples enable; web and optimizer are warnings; none comes twice."""
    for name in ("env", "env_bot"):
        (tmp_path / f".{name}").write_bytes((shared / "reference" / f"{name}.sample").read_bytes())
    adopt(tmp_path)
    capsys.readouterr()
    cli.invoke(["check", "--home", str(tmp_path), "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    absent = {"broker-alpaca", "filter-finnhub", "filter-black-scholes", "alert-pagerduty", "alert-email"}
    missing = {name for name in absent if not any(f"Install tbot-{name}." in str(row) for row in rows)}
    fails = [row["message"] for row in rows if row["level"] == "fail" and row["subject"] == "settings"]
    assert len(fails) == len(absent - missing)
    assert all(sum(f"tbot-{name}." in one for one in fails) == 1 for name in absent - missing)
    warnings = [row["message"] for row in rows if row["level"] == "warn"]
    assert len(set(warnings)) == len(warnings)
    if ("extension", "web") not in installed():
        assert sum("Install tbot-extension-web." in one for one in warnings) == 1


def installed() -> set[tuple[str, str]]:
    """The (kind, name) of every installed plugin."""
    from tbot_core.plugins.discovery import installed_plugins

    return {(it.entry.kind, it.entry.name) for it in installed_plugins()}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_older_installation_arrives_whole_and_never_in_the_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, elsewhere: bool
) -> None:
    """Every value has its section and the vendor's prefix is gone; new keys, new format; the older files stay."""
    source = older(tmp_path / "old")
    home = tmp_path / "bot" if elsewhere else source
    before = files(source)
    adopt(home, *(("--from", str(source)) if elsewhere else ()))
    assert {path: files(source)[path] for path in before} == before
    assert content(home, "env") == ENV.encode()
    assert content(home, "env_bot") == BOT.encode()
    assert content(home, "broker") == {"alpaca": {"api_key": f"{CANARY}-a", "api_secret": f"{CANARY}-b"}}
    assert content(home, "screener_api") == {"finnhub": {"api_key": f"{CANARY}-c"}}
    assert content(home, "smtp") == OLDER["smtp"][2]
    alert = {"pagerduty": {"routing_key": f"{CANARY}-e"}, "slack": {"webhook_url": CANARY}}
    assert content(home, "alert") == alert
    assert content(home, "bot_identity") == OLDER["bot_identity"][2]
    assert not [path for path, data in files(tmp_path).items() if CANARY.encode() in data]
    for path in (home / "storage" / "secrets").iterdir():
        assert path.read_bytes().startswith(b"tbot1.")
    assert load_settings(home, mode="replay").simulation.seed == 7
    captured = capsys.readouterr()
    assert CANARY not in captured.out + captured.err
    assert "Still to be set" not in captured.out
    assert adopt(home) == 2  # nothing is left to adopt


def test_the_ignore_files_cover_the_older_folder(tmp_path: Path) -> None:
    """Its keys and encrypted files stay after an adoption in place, and never get into a repository together."""
    home = older(tmp_path)
    adopt(home)
    for name in (".gitignore", ".scpignore"):
        assert "tbot_bot/" in (home / name).read_text().splitlines()


def test_fields_with_the_prefix_of_another_broker_get_its_section(tmp_path: Path) -> None:
    """A flat file with values of two brokers loses none, and mixes none."""
    home = older(tmp_path)
    put(home, "broker", {"ALPACA_API_KEY": "k", "secret": "s", "TRADIER_TOKEN": "t"})
    adopt(home)
    assert content(home, "broker") == {"alpaca": {"api_key": "k", "api_secret": "s"}, "tradier": {"access_token": "t"}}


def test_paths_of_env_come_before_the_older_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file where .env says is read, and the one of the older folder is named as not read."""
    home = older(tmp_path)
    key = Fernet.generate_key()
    (tmp_path / "storage" / "keys").mkdir(parents=True, mode=0o700)
    (tmp_path / "storage" / "secrets").mkdir(parents=True)
    (tmp_path / "storage" / "keys" / "smtp.key").write_bytes(key)
    (tmp_path / "storage" / "keys" / "smtp.key").chmod(0o600)
    newer = tmp_path / "storage" / "secrets" / "smtp_credentials.json.enc"
    newer.write_bytes(Fernet(key).encrypt(b'{"host": "newer.example.com"}'))
    adopt(home)
    assert content(home, "smtp") == {"host": "newer.example.com"}
    assert f"Not read: {home / 'tbot_bot/support/smtp.json.enc'}" in capsys.readouterr().out


def test_each_key_of_a_category_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newer key that does not open the older file is passed over; a damaged file is refused at the first key."""
    home = older(tmp_path / "old")
    (home / "storage" / "keys").mkdir(parents=True, mode=0o700)
    (home / "storage" / "keys" / "smtp.key").write_bytes(Fernet.generate_key())
    adopt(tmp_path / "bot", "--from", str(home))
    assert content(tmp_path / "bot", "smtp") == OLDER["smtp"][2]
    (home / "tbot_bot" / "support" / "smtp.json.enc").write_bytes(b"gAAAA!")
    assert adopt(tmp_path / "other", "--from", str(home)) == 3
    assert "TB-SEC-012 smtp" in capsys.readouterr().err


def test_settings_without_env_get_the_defaults(tmp_path: Path) -> None:
    """Only the trading configuration is needed; its path and its name are those of the defaults."""
    home = older(tmp_path, env=None)
    adopt(home)
    assert b"KEEP_PREV_DAYS=30" in content(home, "env")
    assert content(home, "env_bot") == BOT.encode()


def test_sections_keep_their_values_in_lower_case(tmp_path: Path) -> None:
    """A file with sections is not changed but for the names of the sections, which are those of plugins."""
    home = older(tmp_path)
    put(home, "broker", {"ALPACA": {"api_key": "k", "api_secret": "s"}, "tradier": {"access_token": "t"}})
    put(home, "screener_api", {})
    adopt(home)
    broker = {"alpaca": {"api_key": "k", "api_secret": "s"}, "tradier": {"access_token": "t"}}
    assert content(home, "broker") == broker
    assert content(home, "screener_api") == {}


def put(home: Path, category: str, value: object) -> None:
    """Replace an older file's content."""
    file, key, _ = OLDER[category]
    cipher = Fernet((home / "tbot_bot" / "storage" / "keys" / key).read_bytes())
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    (home / "tbot_bot" / "support" / file).write_bytes(cipher.encrypt(data))


def absent_key(home: Path) -> None:
    """The key of the broker's file is missing."""
    (home / "tbot_bot" / "storage" / "keys" / "broker.key").unlink()


def foreign_key(home: Path) -> None:
    """The key of the broker's file is another one."""
    (home / "tbot_bot" / "storage" / "keys" / "broker.key").write_bytes(Fernet.generate_key())


def second_form(home: Path) -> None:
    """A plaintext that differs from its encrypted form."""
    (home / ".env_bot").write_text("SEED=8\n")


def linked(home: Path) -> None:
    """The plaintext is a symbolic link."""
    (home / "real").write_text(BOT)
    (home / ".env_bot").symlink_to(home / "real")


BAD: list[tuple[Callable[[Path], object], str]] = [
    (absent_key, "TB-SEC-021 broker: its key file storage/keys/broker.key is missing."),
    (foreign_key, "TB-SEC-016 broker: its Fernet file tbot_bot/support/broker.json.enc was changed"),
    (linked, ".env_bot is a symbolic link. Put the file itself in its place."),
    (lambda home: (home / ".env").write_text(" \n"), ".env is empty."),
    (second_form, "env_bot: .env_bot and tbot_bot/support/.env_bot.enc differ; remove the outdated one."),
    (lambda home: put(home, "smtp", b"host=x"), "is not JSON"),
    (lambda home: put(home, "smtp", [1]), "is not a JSON object"),
    (lambda home: put(home, "broker", {"ALPACA": {}, "alpaca": {}}), "has more than one section alpaca"),
    (
        lambda home: put(home, "broker", {"alpaca": {"api_key": "k"}, "mode": "paper"}),
        "TB-SEC-075 broker: section mode",
    ),
    (lambda home: put(home, "alert", {"colour": "red"}), "the field colour has no section"),
    (lambda home: put(home, "alert", {"url": "x"}), "it could be fields of apprise, slack"),
    (lambda home: (home / "tbot_bot/support/.env_bot.enc").unlink(), "There is no trading configuration in"),
    (lambda home: (home / "tbot_bot/support/.env.enc").write_bytes(b"x"), "TB-SEC-002 env: its file"),
    (lambda home: (home / ".env").write_bytes(b"\xff"), "env: .env and tbot_bot/support/.env.enc differ"),
]


@pytest.mark.parametrize(("harm", "sentence"), BAD)
def test_an_installation_with_a_fault_is_refused_whole(
    tmp_path: Path, harm: Callable[[Path], object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault is named with its file, nothing is written, and no secret is shown."""
    source, home = older(tmp_path / "old"), tmp_path / "bot"
    harm(source)
    before = files(tmp_path)
    assert adopt(home, "--from", str(source)) == 3
    captured = capsys.readouterr().err
    assert sentence in captured
    assert "Nothing was created." in captured
    assert CANARY not in captured
    assert files(tmp_path) == before
    assert not home.exists()


@pytest.mark.parametrize("name", [".env", ".env_bot"])
def test_a_plaintext_that_was_edited_meanwhile_is_kept_and_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was encrypted is no longer what is there: nothing of the edit is lost, and a second call says it again."""
    instance = Instance(plain(tmp_path / "bot", bot="STRATEGY_SEQUENCE=open\nBROKER_NAME=PAPER\n"))
    read = read_adoption(instance, None)
    file = instance.home / name
    edited = file.read_bytes() + b"# edited meanwhile\n"
    file.write_bytes(edited)
    with pytest.raises(UsageError, match=rf"{name} and {name}.enc differ"):
        finish_adoption(instance, read, {})
    assert file.read_bytes() == edited
    assert content(instance.home, name.removeprefix(".")) == edited.removesuffix(b"# edited meanwhile\n")
    assert adopt(instance.home) == 3
    assert f"{name} and {name}.enc differ" in capsys.readouterr().err
    assert file.read_bytes() == edited
    file.write_bytes(edited.removesuffix(b"# edited meanwhile\n"))
    assert adopt(instance.home) == 0
    assert not (instance.home / ".env").exists()
    assert not (instance.home / ".env_bot").exists()


def test_settings_of_other_names_are_named_with_the_names_that_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was read, keys, folders and files of other things are not among them."""
    source, home = tmp_path / "old", tmp_path / "bot"
    for name in ("env.sample", "env_bot.sample", "env.key", "environment.yml", "notes.txt"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(BOT)
    (source / "env").mkdir()
    assert adopt(home, "--from", str(source)) == 3
    words = "If its files have other names: copy env.sample to .env, copy env_bot.sample to .env_bot.\n"
    assert words in capsys.readouterr().err
    (source / ".env").write_text(ENV)
    assert adopt(home, "--from", str(source)) == 3
    assert "other names: copy env_bot.sample to .env_bot.\n" in capsys.readouterr().err


def test_a_category_can_be_left_out(tmp_path: Path) -> None:
    """--without leaves a file that cannot be adopted to be set by hand."""
    home = older(tmp_path)
    put(home, "alert", {"colour": "red"})
    adopt(home, "--without", "alert")
    assert not (home / "storage" / "secrets" / "alert_channels.json.enc").exists()
    assert content(home, "broker")["alpaca"]["api_key"] == f"{CANARY}-a"


class Keyboard(io.BytesIO):
    """What a person types; it says that it is a terminal."""

    def isatty(self) -> bool:
        """As a terminal does."""
        return True


def typed(home: Path, *lines: str, end: str = "\n") -> Result:
    """The result of an adoption whose questions are answered by these lines."""
    keys = Keyboard(("\n".join(lines) + end).encode())
    return CliRunner().invoke(cli.group, ["init", "--adopt", "--home", str(home)], input=keys, standalone_mode=False)


def test_a_person_is_asked_for_the_secrets_that_are_missing(tmp_path: Path) -> None:
    """A wrong value is asked again, hidden ones are not shown, and what is left for later is listed."""
    home = plain(tmp_path)
    done = typed(home, CANARY, f"{CANARY}-s", "papr", "paper", "", "", "", "acme", "ACME_US_ALPACA_B01")
    assert content(home, "broker") == {"alpaca": {"api_key": CANARY, "api_secret": f"{CANARY}-s", "mode": "paper"}}
    assert content(home, "bot_identity") == {"BOT_IDENTITY_STRING": "ACME_US_ALPACA_B01"}
    assert "Allowed: one of paper, live" in done.output
    assert CANARY not in done.output
    assert "Still to be set: alert (pagerduty): routing_key." in done.output
    assert "Still to be set: broker" not in done.output


def test_a_person_who_ends_the_questions_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Ctrl-D at a question: nothing was created, and the plaintext is there."""
    home = plain(tmp_path)
    done = typed(home, CANARY, end="")
    assert done.return_value == 130
    assert "Nothing was created." in done.output
    assert sorted(path.name for path in home.iterdir()) == [".env", ".env_bot"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--from", "{tmp}/none"), "is not a folder."),
        (("--from", "{home}"), "--from is the instance itself"),
        (("--paper",), "--paper and --adopt exclude each other."),
        (("--without", "env"), "--without env: no such category of secrets."),
        (("--without", "brokers"), "--without brokers: no such category of secrets."),
    ],
)
def test_wrong_options_of_an_adoption_exit_with_2(
    tmp_path: Path, options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is named with what is allowed; the files stay."""
    home = plain(tmp_path / "x")
    before = files(tmp_path)
    assert adopt(home, *(one.format(tmp=tmp_path, home=home) for one in options)) == 2
    assert sentence in capsys.readouterr().err
    assert files(tmp_path) == before


def test_from_needs_adopt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--from without --adopt is wrong usage: no other way to make an instance reads a folder."""
    assert cli.invoke(["init", "--from", str(tmp_path), "--home", str(tmp_path / "x")]) == 2
    assert "--from and --without belong to --adopt." in capsys.readouterr().err


def test_plaintext_with_invalid_settings_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fault is named while the file can still be edited; nothing was created."""
    home = plain(tmp_path, bot=f"{BOT}MAX_TRADES=many\nWEIGHTS=2\n")
    assert adopt(home) == 3
    captured = capsys.readouterr().err
    assert "MAX_TRADES=many" in captured
    assert "WEIGHTS=2" in captured
    assert sorted(path.name for path in home.iterdir()) == [".env", ".env_bot"]


def test_encrypted_settings_with_faults_are_adopted_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They can be edited only afterwards; the check names the faults."""
    home = older(tmp_path, bot=f"{BOT}MAX_TRADES=many\n")
    assert adopt(home) == 3
    assert "MAX_TRADES=many: allowed is" in capsys.readouterr().out
    assert b"MAX_TRADES=many" in content(home, "env_bot")


def test_the_folder_of_from_is_never_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path of .env in that folder is refused, since new keys and files would replace those there."""
    source, home = tmp_path / "old", tmp_path / "bot"
    plain(source, env=f"SMTP_KEY_PATH={source}/keys/smtp.key\n")
    assert adopt(home, "--from", str(source)) == 2
    assert f"smtp: .env names {source}/keys/smtp.key" in capsys.readouterr().err
    assert not home.exists()


def test_another_instance_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An instance that is there already refuses files from elsewhere."""
    source, home = plain(tmp_path / "old"), tmp_path / "bot"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    before = files(home)
    assert adopt(home, "--from", str(source)) == 2
    assert "is an instance already" in capsys.readouterr().err
    assert {path: data for path, data in files(home).items() if path in before} == before


STRIDE = 16
"""Each case kills at every sixteenth change; together they kill at each."""

CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.truncate"})


def killed(home: Path, step: int) -> bool:
    """Adopt in a process that is killed before its change of a file of this number; whether it was."""
    process = os.fork()
    if not process:
        count = 0

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event in CHANGES or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
                count += 1
                if count > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        code = 70
        try:
            code = adopt(home)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(
    "first", [0, 7, *(pytest.param(n, marks=pytest.mark.full) for n in range(STRIDE) if n not in {0, 7})]
)
def test_an_adoption_that_is_killed_leaves_nothing_half_made(tmp_path: Path, first: int) -> None:
    """At every change of a file: the plaintext is untouched or its encrypted form opens; the same command completes."""
    step, done = first, False
    while not done:
        home = plain(tmp_path / str(step))
        done = not killed(home, step)
        if (home / ".tbot-init").exists():
            assert [(home / name).read_text() for name in (".env", ".env_bot")] == [ENV, BOT], step
        else:
            assert load_settings(home, mode="replay").simulation.seed == 7, step
        if not done:
            adopt(home)
        assert sorted(path.name for path in home.glob(".env*")) == [".env.enc", ".env_bot.enc"], step
        assert [content(home, "env"), content(home, "env_bot")] == [ENV.encode(), BOT.encode()], step
        step += STRIDE
