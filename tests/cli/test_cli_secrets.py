"""`tbot secrets` and the log of accesses: values go in and never come out, and each fault has its code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, load_settings, secrets
from tbot_core.testing.canaries import canary, shows
from tbot_core.vault import files
from tbot_core.vault.keys import generate_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.vault.vault import Vault

CANARY = canary("broker")


@pytest.fixture
def home(tmp_path: Path, paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance with a broker's credentials."""
    paper_instance(tmp_path / "x")
    given(tmp_path / "x", "broker", {"alpaca": {"api_key": CANARY, "api_secret": "s-123456"}})
    return tmp_path / "x"


def vault(home: Path) -> Vault:
    """The instance's vault."""
    return secrets.open_instance_vault(Instance(home), DeploymentSettings())


def run(home: Path, *args: str, code: int = 0, typed: str = "") -> str:
    """What `tbot secrets` says, on both streams; no word of it may be secret."""
    with CliRunner().isolation(typed) as streams:
        got = cli.invoke(["secrets", *args, "--home", str(home)])
        said = streams[0].getvalue().decode() + streams[1].getvalue().decode()
    assert got == code, said
    assert not shows(said)
    return said


def given(home: Path, category: str, values: object, code: int = 0, deed: str = "set") -> str:
    """What setting values from a document says."""
    return run(home, deed, category, "--from-json", "-", code=code, typed=json.dumps(values))


def scripted(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """An editor that runs this code on `path`."""
    script = folder / "editor.py"
    script.write_text(f"import pathlib, re, sys\npath = pathlib.Path(sys.argv[1])\n{code}\n")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_show_prints_the_state_of_each_category(home: Path) -> None:
    """Presence, key id, date and format in words of every category, and no access is logged for it."""
    rows = {row["category"]: row for row in json.loads(run(home, "show", "--json"))["categories"]}
    assert (rows["broker"]["presence"], rows["smtp"]["presence"]) == ("present", "no file")
    assert rows["broker"]["format"] == files.write_format_text("aes-256-gcm")
    assert rows["broker"]["modified"] is not None
    assert rows["smtp"]["modified"] is None
    assert rows["broker"]["key_id"] == vault(home).store.load("broker").key_id
    assert all(not row["fields"] for row in rows.values())
    (home / "storage/keys/smtp.key").unlink()
    (home / "storage/secrets/broker_credentials.json.enc").chmod(0o644)
    said = run(home, "show")
    assert "smtp          absent" in said
    assert "TB-SEC-059 broker" in said


def test_show_names_fields_and_masks_values(home: Path) -> None:
    """Names alone, for each shape, and the same mask for every value."""
    assert "alpaca.api_key = [redacted]" in run(home, "show", "broker")
    assert "BOT_IDENTITY_STRING = [redacted]" in run(home, "show", "bot_identity")
    assert "STRATEGY_SEQUENCE = [redacted]" in run(home, "show", "env_bot")
    assert "=" not in run(home, "show", "smtp")


def test_verify_opens_every_file(home: Path) -> None:
    """Whole files exit 0; a changed one exits 3 with its code, category and remedy."""
    assert "Every encrypted file opens" in run(home, "verify")
    file = home / "storage/secrets/broker_credentials.json.enc"
    file.write_bytes(file.read_bytes()[:-9] + b"AAAAAAAA\n")
    (fault,) = json.loads(run(home, "verify", "--json", code=3))["faults"]
    assert fault["code"].startswith("TB-SEC-")
    assert "broker" in fault["message"]
    assert "tbot secrets set broker" in fault["remedy"]


def test_every_access_is_in_the_log_and_the_log_is_proven(home: Path) -> None:
    """Lines show action, category and key id; with --verify also the length of the chain and its head."""
    document = json.loads(run(home, "audit", "--verify", "--json"))
    assert ("write", "broker", "ok") in {(it["action"], it["category"], it["outcome"]) for it in document["accesses"]}
    assert document["head"].startswith(f"{len(document['accesses'])}:")
    assert "The chain of" in run(home, "audit", "--verify")
    assert "The chain of" not in run(home, "audit")


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda lines: [lines[0].replace(b'"ok"', b'"OK"'), *lines[1:]], "096"),
        (lambda lines: [*lines[:2], *lines[3:]], "096"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "096"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "096"),
        (lambda lines: [*lines[:-2], b""], "097"),
        (lambda lines: [*lines[:1], b""], "097"),
        (lambda lines: [*lines[:-1], b'{"action":'], "099"),
    ],
    ids=["edited", "removed", "reordered", "repeated", "truncated", "truncated far", "torn"],
)
def test_whatever_happens_to_the_log_is_found(
    home: Path, damage: Callable[[list[bytes]], list[bytes]], code: str
) -> None:
    """A log that was proven once and then edited, or lost or moved a line, exits 3 with its code."""
    run(home, "audit", "--verify")
    log = home / "data/audit.log"
    log.write_bytes(b"\n".join(damage(log.read_bytes().split(b"\n"))))
    assert f"TB-SEC-{code} audit: " in run(home, "audit", "--verify", code=3)
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 1


def test_the_audit_of_all_chains_covers_secrets(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot audit verify` prints the log's length and head, and exits 1 for a log that was changed."""
    capsys.readouterr()
    assert cli.invoke(["audit", "verify", "--home", str(home), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified"]
    assert found["secrets"]["events"] > 0
    log = home / "data/audit.log"
    log.write_bytes(log.read_bytes().replace(b'"seq":2', b'"seq":3', 1))
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 1
    assert "FAIL  audit.log" in capsys.readouterr().out


def test_an_instance_without_secrets_has_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reading makes nothing, and says that there is nothing."""
    assert "No access is logged yet" in run(tmp_path, "audit", "--verify")
    assert "env           absent" in run(tmp_path, "show")
    assert "Every file is up to date" in run(tmp_path, "upgrade")
    assert "No category has a key" in run(tmp_path, "rotate")
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["secrets"] is None
    assert not (tmp_path / "storage").exists()


def test_set_replaces_what_is_named_alone(home: Path) -> None:
    """Another section, field or variable stays as it was."""
    given(home, "broker", {"tradier": {"access_token": "t-123456"}})
    assert vault(home).read_section("broker", "alpaca")["api_key"].reveal() == CANARY
    given(home, "smtp", {"host": "a", "port": 25, "user": "me@a"})
    given(home, "smtp", {"host": "b"})
    kept = {name: it.reveal() for name, it in vault(home).read_section("smtp").items()}
    assert kept == {"host": "b", "port": "25", "user": "me@a"}
    given(home, "env_bot", {"SEED": 11})
    assert load_settings(home, mode="paper").simulation.seed == 11
    given(home, "env", {"BROKER_CREDENTIALS_PATH": "storage/secrets/b.enc"})
    given(home, "broker", {"alpaca": {"api_key": "k-123456", "api_secret": "s"}})
    assert (home / "storage/secrets/b.enc").is_file()


def test_set_keeps_the_other_fields_of_a_section(home: Path) -> None:
    """A field replaces its own in whatever spelling, and the section as a whole is judged then."""
    given(home, "broker", {"alpaca": {"account_id": "PA999"}})
    given(home, "broker", {"ALPACA": {"APCA_API_SECRET_KEY": "other-123456", "mode": "live"}})
    stored = {name: it.reveal() for name, it in vault(home).read_section("broker", "alpaca").items()}
    assert stored == {
        "api_key": CANARY,
        "APCA_API_SECRET_KEY": "other-123456",
        "account_id": "PA999",
        "mode": "live",
    }
    assert "TB-SEC-079" in given(home, "broker", {"alpaca": {"mode": "both"}}, 3)
    said = run(home, "set", "broker", typed="alpaca\n\n\npaper\n\n\n")
    assert "Plugin (alpaca, ibkr, tradier):" in said
    assert "mode, which of the broker's hosts is used (one of paper, live) [kept]:" in said
    assert "api_key, key of the account (hidden) [kept]:" in said
    assert "base_url, address in place of the usual one, version included [empty]:" in said
    section = vault(home).read_section("broker", "alpaca")
    assert (section["mode"].reveal(), section["account_id"].reveal()) == ("paper", "PA999")


def test_values_are_typed_unseen(home: Path) -> None:
    """Each value by its meaning, secrets without an echo, what is not allowed again; no value exits 2."""
    said = run(home, "set", "smtp", typed=f"\nmail.example\nx\n465\n\nme@example.com\n{CANARY}\n\n\n")
    assert "host, mail server:" in said
    assert "port, its port [empty]:" in said
    assert "a server on this machine (one of starttls, tls, none) [starttls]:" in said
    assert said.count("Allowed:") == 2
    smtp = vault(home).read_section("smtp")
    assert {name: it.reveal() for name, it in smtp.items()} == {
        "host": "mail.example",
        "port": "465",
        "user": "me@example.com",
        "password": CANARY,
    }
    run(home, "set", "smtp", typed="\n\n\n\nother-123456\n\n\n")
    assert vault(home).read_section("smtp")["host"].reveal() == "mail.example"
    assert vault(home).read_section("smtp")["password"].reveal() == "other-123456"
    assert "No field was given" in run(home, "set", "smtp", typed="\n" * 7, code=2)
    run(home, "set", "smtp", typed="?\n<\nother.example\n<\nlast.example\n\n\n\n\n\n\n")
    assert vault(home).read_section("smtp")["host"].reveal() == "last.example"
    run(home, "set", "login", typed="\nroot\nhash-123456\n\n\n\n")
    assert "User (root):" in run(home, "set", "login", typed="root\n\nadmin\n\n\n")
    login = vault(home).read_section("login", "root")
    assert (login["hash"].reveal(), login["role"].reveal()) == ("hash-123456", "admin")
    assert "tbot secrets edit env_bot" in run(home, "set", "env_bot", code=2)


@pytest.mark.parametrize(("name", "near"), [("slak", "slack"), ("slack,sms", "slack"), ("pager", "pagerduty")])
def test_an_unknown_plugin_is_refused_at_its_question(home: Path, name: str, near: str) -> None:
    """Nothing else is asked before a known name is given, so that no secret is pasted where it is shown."""
    said = run(home, "set", "alert", typed=f"{name}\nslack\n", code=1)
    allowed = "apprise, pagerduty, slack, sms"
    assert f"{name} is unknown; allowed: {allowed}; did you mean {near}?" in " ".join(said.split())
    assert said.count(f"Plugin ({allowed}):") == 2
    assert "Field name" not in said
    assert not (home / "storage/secrets/alert_channels.json.enc").exists()


def test_a_stranger_s_plugin_is_known_by_its_declaration(home: Path, acme: object) -> None:  # noqa: ARG001  -- installed
    """Its fields are asked for by their kind, also while it is not enabled."""
    said = run(home, "set", "broker", typed=f"acme\n{CANARY}\n\n\n\n")
    assert "(hidden)" in said
    assert CANARY in {it.reveal() for it in vault(home).read_section("broker", "acme").values()}


def test_a_long_name_is_not_quoted(home: Path) -> None:
    """It may be a secret that was pasted at the wrong question."""
    said = run(home, "set", "alert", typed=f"{'x' * 40}\n", code=1)
    assert "This name is unknown; allowed: apprise, pagerduty, slack, sms." in said


def test_fields_that_are_not_known_are_not_asked_for(home: Path) -> None:
    """The paper broker has no secrets: the question says so, and names the way for values as they are."""
    said = run(home, "set", "broker", typed="paper\n", code=1)
    assert "The fields of paper are not known" in said
    assert "--from-json" in said


def test_a_section_that_no_plugin_reads_is_a_warning(home: Path) -> None:
    """It is stored, and the command says that no known plugin reads it; a known plugin's section is stored silently."""
    said = given(home, "screener_api", {"zzz": {"api_key": CANARY}})
    assert "No known plugin reads the section zzz of screener_api; it was stored." in said
    known = {"alpaca": {"api_key": CANARY, "api_secret": "s-123456"}}
    assert "No known plugin" not in given(home, "broker", known)
    assert "No known plugin" not in given(home, "smtp", {"host": "mail.example", "sender": "me@a", "port": 25})


@pytest.mark.parametrize("deed", ["set", "rekey"])
def test_a_misspelt_section_of_a_document_is_refused(home: Path, deed: str) -> None:
    """With the name that is meant; one that was stored before can be removed."""
    before = (home / "storage/secrets/broker_credentials.json.enc").read_bytes()
    said = given(home, "broker", {"Alpacca": {"key": CANARY}}, 3, deed)
    assert "The section alpacca of broker is unknown; allowed: alpaca, ibkr, tradier; did you mean alpaca?" in said
    assert (home / "storage/secrets/broker_credentials.json.enc").read_bytes() == before
    assert "did you mean finnhub?" in given(home, "screener_api", {"finhub": {"api_key": CANARY}}, 3, deed)
    vault(home).write("broker", json.dumps({"alpacca": {"key": CANARY}}).encode())
    given(home, "broker", {"alpacca": {"key": None}})
    with vault(home).read("broker") as opened:
        assert json.loads(bytes(opened.view)) == {}


def test_a_section_may_be_spelt_as_in_broker_name(home: Path) -> None:
    """It is stored under the plugin's name, also in place of one that was stored in another spelling."""
    given(home, "broker", {"ALPACA": {"api_key": "one-123456", "api_secret": "s"}})
    assert vault(home).read_section("broker", "alpaca")["api_key"].reveal() == "one-123456"
    stored = json.dumps({"ALPACA": {"api_key": "old-123456"}}).encode()
    vault(home).write("broker", stored)
    given(home, "broker", {"Alpaca": {"api_key": "two-123456", "api_secret": "s"}})
    with vault(home).read("broker") as opened:
        assert json.loads(bytes(opened.view)) == {"alpaca": {"api_key": "two-123456", "api_secret": "s"}}


def test_two_sections_of_one_plugin_in_a_stored_file_are_named(home: Path) -> None:
    """A file from before is not rewritten by `set`: which of the two counts is a person's decision."""
    vault(home).write("broker", json.dumps({"ALPACA": {"x": CANARY}, "alpaca": {"x": CANARY}}).encode())
    before = {path: path.read_bytes() for path in home.rglob("*.enc")}
    said = given(home, "broker", {"tradier": {"access_token": "t-123456"}}, 3)
    assert "ALPACA and alpaca" in said
    assert "tbot secrets edit broker" in said
    assert "TB-SEC-069" in run(home, "verify", code=3)
    assert before == {path: path.read_bytes() for path in home.rglob("*.enc")}


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("category", "values", "sentence", "code"),
    [
        ("smtp", {"port": 25}, "Correct the input; nothing was stored.", 3),
        ("broker", [], "must be a JSON object of values", 2),
        ("broker", {"ALPACA": {"x": CANARY}, "alpaca": {"x": CANARY}}, "in other spelling: ALPACA and alpaca.", 3),
        ("alert", {"Slack": {"x": CANARY}, "slack": {"x": CANARY}}, "Correct the input; nothing was stored.", 3),
        ("broker", {"alpaca": CANARY}, "TB-SEC-075 broker", 3),
        ("smtp", {"host": ""}, "TB-SEC-076 smtp", 3),
        ("smtp", {"host": "a", "port": CANARY}, "TB-SEC-079 smtp", 3),
        ("smtp", {"port": 25}, "lacks the field host: a host's name or address", 3),
        ("smtp", {"host": "a"}, "lacks the field sender: an address as in bot@example.com", 3),
        ("smtp", {"host": "a", "sender": "a@b", "recipients": "a@b;c@d"}, "recipients", 3),
        ("alert", {"slack": {"bot_token": "xoxb-1"}}, "lacks the field slack.channel", 3),
        ("screener_api", {"finnhub": {"api_key": CANARY, "base_url": "https://a.example"}}, "HOST_FINNHUB_API", 3),
        ("broker", {"ibkr": {"password": CANARY}}, "has an unknown field ibkr.password; known: host, port", 3),
        ("login", {"ann": {"role": "owner", "hash": CANARY}}, "field ann.role", 3),
        ("alert", {"sms": {"token": CANARY}}, "lacks the field sms.account_sid", 3),
        ("bot_identity", {"BOT_IDENTITY_STRING": "acme"}, "is not ENTITY_JURISDICTION_BROKER_BOTID", 3),
        ("env_bot", {"SEED": "x"}, "SEED=x", 3),
        ("env_bot", {"SEED": "1\n2"}, "line break", 2),
    ],
)
def test_what_does_not_hold_is_not_written(home: Path, category: str, values: object, sentence: str, code: int) -> None:
    """Each fault is reported, quotes no secret, and leaves every file as it was."""
    before = {path: path.read_bytes() for path in home.rglob("*.enc")}
    assert sentence in given(home, category, values, code)
    assert before == {path: path.read_bytes() for path in home.rglob("*.enc")}


def test_a_damaged_file_is_written_anew_and_one_of_another_key_is_spared(home: Path) -> None:
    """`set` repairs a torn file; where another key is needed nothing is overwritten, and `rekey` starts afresh."""
    file = home / "storage/secrets/broker_credentials.json.enc"
    file.write_bytes(b"tbot1.AAAA")
    given(home, "broker", {"alpaca": {"api_key": "new-123456", "api_secret": "s"}})
    assert vault(home).read_section("broker", "alpaca")["api_key"].reveal() == "new-123456"
    (home / "storage/keys/broker.key").write_bytes((home / "storage/keys/smtp.key").read_bytes())
    before = file.read_bytes()
    assert "TB-SEC-010 broker" in given(home, "broker", {"alpaca": {"api_key": "x-123456", "api_secret": "s"}}, 3)
    assert file.read_bytes() == before
    assert "broker has the key" in given(
        home, "broker", {"alpaca": {"api_key": "y-123456", "api_secret": "s"}}, deed="rekey"
    )
    assert vault(home).read_section("broker", "alpaca")["api_key"].reveal() == "y-123456"
    assert "Every encrypted file opens" in run(home, "verify")


def test_settings_that_cannot_be_opened_are_rekeyed(home: Path) -> None:
    """With the key of `.env.enc` lost, other categories are refused, `verify` names it, and `rekey env` fixes it."""
    (home / "storage/keys/env_enc.key").unlink()
    assert "TB-SEC-021 env" in given(home, "smtp", {"host": "a"}, 3)
    assert "TB-SEC-021 env" in run(home, "verify", code=3)
    given(home, "env", {"TIMEZONE": "America/New_York"}, deed="rekey")
    assert "Every encrypted file opens" in run(home, "verify")


def test_an_edit_is_judged_and_stays_in_memory(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed text is written; one that is no JSON is refused; the same text changes nothing."""
    scripted(tmp_path, monkeypatch, "path.write_text(re.sub('Serinus[^\"]*', 'other-1234', path.read_text()))")
    assert "A change takes effect" in run(home, "edit", "broker")
    assert vault(home).read_section("broker", "alpaca")["api_key"].reveal() == "other-1234"
    assert "Nothing was changed" in run(home, "edit", "broker")
    scripted(tmp_path, monkeypatch, "path.write_text('{')")
    assert "TB-SEC-071 broker" in run(home, "edit", "broker", code=3)
    assert vault(home).read_section("broker", "alpaca")["api_key"].reveal() == "other-1234"


def test_an_edit_of_what_was_stored_meanwhile_saves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has written while the editor was open: its values stay."""
    other = f"secrets.put_values(pathlib.Path({str(home)!r}), 'broker', {{'older': {{'key': 'k-123456'}}}})"
    code = f"from tbot_core.actions import secrets\n{other}\n"
    scripted(tmp_path, monkeypatch, code + "path.write_text(re.sub('Serinus[^\"]*', 'other-1234', path.read_text()))")
    assert "was changed meanwhile" in run(home, "edit", "broker", code=2)
    assert vault(home).read_section("broker", "older")["key"].reveal() == "k-123456"


def test_an_edit_repairs_settings_that_are_no_text(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env.enc` whose content is not UTF-8 is reported by `verify`, and `edit env` fixes it as its remedy says."""
    vault(home).write("env", b"\xff")
    assert "tbot secrets edit env" in run(home, "verify", code=3)
    scripted(tmp_path, monkeypatch, "path.write_text('TIMEZONE=America/New_York\\n')")
    assert "A change takes effect" in run(home, "edit", "env")
    assert "Every encrypted file opens" in run(home, "verify")


def test_an_edit_of_encrypted_settings_speaks_of_no_plaintext_where_there_is_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No warning asks to delete a file that does not exist."""
    scripted(tmp_path, monkeypatch, "path.write_text(path.read_text() + 'SESSION_TIMEOUT=600\\n')")
    assert cli.invoke(["secrets", "edit", "env", "--home", str(home)]) == 0
    captured = capsys.readouterr()
    assert "A change takes effect" in captured.out
    assert "takes precedence" not in captured.err


def test_upgrade_rewrites_older_formats(home: Path) -> None:
    """A Fernet file is named by --dry-run, which writes nothing, and is tbot's afterwards."""
    file = home / "storage/secrets/broker_credentials.json.enc"
    older = secrets.open_instance_vault(Instance(home), DeploymentSettings(secrets_write_format="fernet"))
    with older.read("broker") as opened:
        older.write("broker", opened.view)
    before = file.read_bytes()
    assert json.loads(run(home, "upgrade", "--dry-run", "--json"))["upgraded"][0]["category"] == "broker"
    assert file.read_bytes() == before
    assert "broker was rewritten as AES-256-GCM" in run(home, "upgrade")
    assert file.read_bytes().startswith(b"tbot1.")


def test_rotation_is_begun_finished_and_withdrawn(home: Path) -> None:
    """A new key for what is named; one begun before is refused until --resume or --abort, which exclude each other."""
    before = vault(home).store.load("broker").key_id
    assert "broker has the key" in run(home, "rotate", "broker")
    rotated = vault(home).store.load("broker").key_id
    assert rotated != before
    assert "No rotation was in progress" in run(home, "rotate", "--abort")
    vault(home).store.put_key("smtp", "next", generate_key())
    assert "TB-SEC-091 smtp" in run(home, "rotate", code=3)
    assert "smtp keeps its key" in run(home, "rotate", "--abort")
    vault(home).store.put_key("smtp", "next", generate_key())
    assert "smtp has the key" in run(home, "rotate", "--resume")
    assert "exclude each other" in run(home, "rotate", "--resume", "--abort", code=2)
    assert "Every encrypted file opens" in run(home, "verify")


def test_no_value_is_an_argument(home: Path) -> None:
    """A value after the category is wrong usage."""
    assert "unexpected extra argument" in run(home, "set", "smtp", "x-123456", code=2)


@pytest.mark.parametrize("command", ["set", "rekey"])
def test_no_secret_is_written_outside_an_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A folder without settings is refused with exit 3, and nothing is made in it."""
    document = tmp_path / "in.json"
    document.write_text('{"acme": {"api_key": "k"}}')
    home = tmp_path / "other"
    home.mkdir()
    assert cli.invoke(["secrets", command, "broker", "--from-json", str(document), "--home", str(home)]) == 3
    assert "other is not an instance." in capsys.readouterr().err
    assert not list(home.iterdir())


def test_a_file_that_is_no_key_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path of .env that names another file is refused, and the remedy says that it is one."""
    notes, document = tmp_path / "notes.txt", tmp_path / "in.json"
    notes.write_text("my notes " * 20)
    document.write_text('{"acme": {"api_key": "k"}}')
    home = tmp_path / "x"
    home.mkdir()
    (home / ".env").write_text(f"BROKER_KEY_PATH={notes}\n")
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=\n")
    assert cli.invoke(["secrets", "rekey", "broker", "--from-json", str(document), "--home", str(home)]) == 3
    assert "It is another file" in capsys.readouterr().err
    assert notes.read_text() == "my notes " * 20
