"""`tbot alerts test` and `tbot check` with channels that reach their services over real connections."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tbot_alert_email.venue import mail_text
from tbot_alert_pagerduty.venue import accept

from tbot_core import cli
from tbot_core.alerts.service import alerts_beside
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import JournalError
from tbot_core.instance import Instance
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.model.clock import SystemClock
from tbot_core.testing.canaries import MARK, canary
from tbot_core.testing.scripted_mail_server import ScriptedMailServer
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("loopback")

SMTP = {
    "host": "mail.example.com",
    "user": "bot@example.com",
    "password": canary("smtp"),
    "recipients": ["first@example.com", "second@example.com"],
}
KEY = f"{MARK}00{MARK}"  # as long as a key of PagerDuty


@contextmanager
def serving(server: AbstractAsyncContextManager[Any]) -> Iterator[None]:
    """Serve in a thread of its own, since a command has an event loop of its own."""
    loop, entered = asyncio.new_event_loop(), threading.Event()

    def serve() -> None:
        loop.run_until_complete(server.__aenter__())
        entered.set()
        loop.run_forever()
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    entered.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.fixture
def home(tmp_path: Path, paper_instance: Callable[[Path], Path]) -> Path:
    """A paper instance."""
    paper_instance(tmp_path / "x")
    return tmp_path / "x"


def configure(home: Path, **values: str) -> None:
    """Change settings."""
    vault = open_instance_vault(Instance.at(home), DeploymentSettings())
    with vault.read("env_bot") as opened:
        lines = bytes(opened.view).decode().splitlines()
    kept = [one for one in lines if one.partition("=")[0] not in values]
    vault.write("env_bot", "\n".join([*kept, *(f"{name}={value}" for name, value in values.items()), ""]).encode())


def store(home: Path, category: str, values: Mapping[str, object]) -> None:
    """Store secrets."""
    with CliRunner().isolation(json.dumps(values)):
        assert cli.invoke(["secrets", "set", category, "--from-json", "-", "--home", str(home)]) == 0


@pytest.fixture
def mail(home: Path) -> Iterator[ScriptedMailServer]:
    """The server of the critical channel email."""
    server = ScriptedMailServer()
    store(home, "smtp", SMTP)
    with serving(server):
        configure(home, CRITICAL_ALERT_CHANNEL="email", HOST_EMAIL_STARTTLS=f"http://127.0.0.1:{server.port}")
        yield server


def rows(capsys: pytest.CaptureFixture[str], home: Path, *words: str, code: int = 0) -> list[dict[str, Any]]:
    """The rows of `tbot alerts test`."""
    capsys.readouterr()
    assert cli.invoke(["alerts", "test", *words, "--home", str(home), "--json"]) == code
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["channels"]
    return found


def checked(capsys: pytest.CaptureFixture[str], home: Path) -> list[tuple[str, str]]:
    """Level and sentence of the rows of `tbot check` about alerts."""
    capsys.readouterr()
    cli.invoke(["check", "--home", str(home), "--json"])
    found = json.loads(capsys.readouterr().out)["rows"]
    return [(row["level"], f"{row['message']} {row['remedy']}".strip()) for row in found if row["subject"] == "alerts"]


@pytest.mark.slow
def test_one_channel_is_tested_and_its_answer_printed(
    home: Path, mail: ScriptedMailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one gets nothing; a channel that the settings do not name is wrong usage."""
    (row,) = rows(capsys, home, "email")
    assert (row["urgency"], row["channel"], row["taken"], row["fault"]) == ("critical", "email", True, "")
    assert row["answer"] == "accepted by mail.example.com:587 for first@example.com, second@example.com"
    assert len(mail.mails) == 1
    assert "This is a test of critical alerts." in mail.mails[0]
    assert [row["channel"] for row in rows(capsys, home)] == ["email", "console"]
    assert cli.invoke(["alerts", "test", "sms", "--home", str(home)]) == 2
    assert "sms is not a channel of the settings; those are: email, console." in capsys.readouterr().err
    assert len(mail.mails) == 2


@pytest.mark.slow
def test_a_test_needs_the_secrets_of_its_channel_alone(
    home: Path, mail: ScriptedMailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not those of another channel, and not those of a filter."""
    configure(home, ROUTINE_ALERT_CHANNEL="slack", ENABLE_FUNNHUB_FUNDAMENTALS_FILTER="true")
    vault = open_instance_vault(Instance.at(home), DeploymentSettings())
    vault.write("screener_api", b'{"finnhub": {"wrong": "x"}}')
    (row,) = rows(capsys, home, "email")
    assert row["taken"]
    assert len(mail.mails) == 1


@pytest.mark.slow
def test_each_channel_of_a_list_is_tested(
    home: Path, mail: ScriptedMailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the settings, each name once; `tbot check` has a row for each."""
    configure(home, CRITICAL_ALERT_CHANNEL="console, Email,email")
    found = rows(capsys, home)
    assert [(row["urgency"], row["channel"]) for row in found] == [
        ("critical", "console"),
        ("critical", "email"),
        ("routine", "console"),
    ]
    assert len(mail.mails) == 1
    assert [sentence.partition(":")[0] for _, sentence in checked(capsys, home)] == [
        "Alert channel console",
        "Alert channel email",
    ]


@pytest.mark.slow
def test_a_refused_recipient_is_a_failed_test(
    home: Path, mail: ScriptedMailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, with the recipient and the words of the server; the other one got it."""
    mail.replies["RCPT TO:<second@example.com>"] = "550 no such user"
    (row,) = rows(capsys, home, "email", code=4)
    assert row["fault"].startswith("Refused for second@example.com (550 no such user); delivered to first@example.com.")
    assert len(mail.mails) == 1


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_check_logs_in_to_the_mail_server_and_sends_nothing(
    home: Path, mail: ScriptedMailServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused login, a hang and a server that is away are warnings with the command to run."""
    (email, console) = checked(capsys, home)
    words = "its secrets are there, and it answers: mail.example.com:587, logged in: 250 fine."
    assert email == ("ok", f"Alert channel email: {words}")
    assert console == ("ok", "Alert channel console: it needs no secrets.")
    assert not mail.mails
    mail.replies["AUTH"] = "535 5.7.8 wrong"
    (level, sentence), _ = checked(capsys, home)
    assert level == "warn"
    assert "it cannot deliver: alert email (starttls): 127.0.0.1: the login was refused: 535 5.7.8 wrong" in sentence
    assert sentence.endswith("some providers demand an app password. `tbot alerts test email` tries it again.")
    mail.replies["GREETING"] = None
    configure(home, API_TIMEOUT="1")
    assert "no reply within 1 s" in checked(capsys, home)[0][1]


@pytest.mark.slow
def test_the_end_of_a_run_is_a_mail(home: Path, mail: ScriptedMailServer) -> None:
    """Alerts stand beside paper trading: why a run ended is sent by the critical channel, with the next command."""

    async def fail() -> None:
        raise JournalError("The journal could not be written: disk full.")

    clock = SystemClock()
    assembly = assemble(home, "paper", clock)
    with alerts_beside(assembly, clock) as with_alerts, pytest.raises(JournalError):
        asyncio.run(assembly.closing(with_alerts(fail())))
    (received,) = mail.mails
    text = mail_text(received)
    assert "The run has ended: The journal could not be written: disk full." in text
    assert text.rstrip().endswith("Next: tbot status")


@pytest.mark.slow
def test_missing_secrets_of_a_channel_are_named_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run would not start: the row of the secrets fails, and the channel has none of its own."""
    configure(home, CRITICAL_ALERT_CHANNEL="email")
    capsys.readouterr()
    assert cli.invoke(["check", "--home", str(home), "--json"]) == 3
    found = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["level"] == "fail"]
    assert [row["subject"] for row in found] == ["secrets"]
    assert "smtp" in found[0]["message"]


@pytest.mark.slow
def test_a_service_without_a_check_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its key can be tried by a message only; a refused key is exit 4 and never shown."""
    server = ScriptedServer(accept)
    store(home, "alert", {"pagerduty": {"routing_key": KEY}})
    with serving(server):
        configure(home, CRITICAL_ALERT_CHANNEL="pagerduty", HOST_PAGERDUTY_EVENTS=server.url)
        (level, sentence), _ = checked(capsys, home)
        assert level == "ok"
        words = "its secrets are there. Its service cannot be tried without a message: `tbot alerts test pagerduty`"
        assert sentence == f"Alert channel pagerduty: {words} sends one."
        assert not server.requests
        (row,) = rows(capsys, home, "pagerduty")
        assert row["answer"] == "trigger: 202 Event processed"
        server._handler = lambda _request: ServerReply(status=400, document={"errors": [f"unknown key {KEY}"]})
        (row,) = rows(capsys, home, "pagerduty", code=4)
    assert "400" in row["fault"]
    assert KEY not in row["fault"]


@pytest.mark.slow
def test_a_wrong_address_is_refused_when_it_is_stored(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plugin's own class judges it; the error does not show it, and the command exits with 3."""
    configure(home, CRITICAL_ALERT_CHANNEL="apprise")
    for urls, code in ((f"nonsense://{KEY}", 3), (f"json://127.0.0.1/{KEY} jsons://example.com", 0)):
        capsys.readouterr()
        words = ["secrets", "set", "alert", "--from-json", "-", "--home", str(home)]
        with CliRunner().isolation(json.dumps({"apprise": {"urls": urls}})):
            assert cli.invoke(words) == code
        shown = capsys.readouterr()
        assert KEY not in shown.out + shown.err
    (level, sentence), _ = checked(capsys, home)
    assert level == "ok"
    assert sentence.endswith("Its service cannot be tried without a message: `tbot alerts test apprise` sends one.")
