"""`tbot alerts`, alerts beside paper trading, and what `tbot status` says of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.alerts.service import alert_delivery, alerts_beside
from tbot_core.alerts.store import FILE_NAME, Delivery, MessagePart, Notice, alerts_file, open_store
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import Alert, Urgency
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import SettingsError, Undelivered
from tbot_core.instance import Instance
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.journal.store import open_journal
from tbot_core.model.clock import ManualClock, SystemClock, exchange_time
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings, in which nothing has run."""
    create_demo_instance(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def alerted(home: Path) -> Path:
    """An instance with two incidents and a routine alert; the second incident is over."""
    store = open_store(home / "data" / FILE_NAME)
    for key, urgency in (("a", Urgency.CRITICAL), ("b", Urgency.CRITICAL)):
        store.open_incident(Notice(key=key, urgency=urgency, what=f"Incident {key}.", command="tbot check"), NOW)
    store.clear_incident("b", NOW)
    store.add_notices([Notice(key="c", urgency=Urgency.ROUTINE, what="Bought 10 ACME at 20.06, open.")], NOW)
    store.mark_sent(store.unsent(Urgency.ROUTINE), "tbot-3", Delivery(reached=("console",)), NOW)
    store.close()
    return home


def alerts(capsys: pytest.CaptureFixture[str], home: Path, *words: str, code: int = 0) -> Any:
    """The document of a command."""
    assert cli.invoke(["alerts", *words, "--home", str(home), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_log_shows_what_became_of_each_alert(alerted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oldest first, with number, time, urgency, way and next command; --open leaves the incidents that stand."""
    rows = alerts(capsys, alerted, "log")["alerts"]
    assert [(row["id"], row["open"], row["via"]) for row in rows] == [
        (1, True, None),
        (2, False, None),
        (3, False, "console"),
    ]
    assert [row["what"] for row in alerts(capsys, alerted, "log", "--open")["alerts"]] == ["Incident a."]
    assert [row["id"] for row in alerts(capsys, alerted, "log", "--last", "1")["alerts"]] == [3]
    assert cli.invoke(["alerts", "log", "--home", str(alerted)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "     1  2026-11-24T15:00:00Z  critical  Incident a."
    assert lines[1] == "        open, not sent yet; next: tbot check"
    assert lines[5] == "        sent by console; next: tbot status"


def test_an_alert_that_a_limit_holds_back_says_until_when(alerted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not lost: the hour after the merged message has an end."""
    now = SystemClock().now()
    store = open_store(alerted / "data" / FILE_NAME)
    store.mark_sent(store.unsent(Urgency.CRITICAL), "tbot-9", Delivery(reached=("console",)), now)
    store.open_incident(Notice(key="d", urgency=Urgency.CRITICAL, what="Incident d.", command="tbot check"), now)
    store.close()
    until = exchange_time(now + dt.timedelta(hours=1))
    assert cli.invoke(["alerts", "log", "--last", "1", "--home", str(alerted)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert f"open, not sent yet: waits for the hourly limit until {until:%H:%M} New York; next" in line


def test_the_log_says_which_channel_failed_and_with_what(alerted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another one took over; when the first has delivered it after all, it no longer counts as failed."""
    store = open_store(alerted / "data" / FILE_NAME)
    store.pending.note("pagerduty", "PagerDuty: 404 no such service", NOW)
    delivery = Delivery(reached=("email",), missing=("pagerduty",))
    store.mark_sent(store.unsent(Urgency.CRITICAL), "tbot-9", delivery, NOW)
    assert cli.invoke(["alerts", "log", "--home", str(alerted)]) == 0
    words = "open, sent by email; pagerduty failed: PagerDuty: 404 no such service; next: tbot check"
    assert capsys.readouterr().out.splitlines()[1].strip() == words
    store.pending.add_reached("tbot-9", "pagerduty")
    store.close()
    assert [row["failed"] for row in alerts(capsys, alerted, "log")["alerts"]] == [{}, {}, {}]


def test_an_instance_without_alerts_has_an_empty_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made by looking; nothing can be acknowledged that is not there."""
    assert alerts(capsys, home, "log") == {"alerts": []}
    assert cli.invoke(["alerts", "log", "--home", str(home)]) == 0
    assert capsys.readouterr().out == "No alerts.\n"
    assert alerts(capsys, home, "ack", "--all") == {"acknowledged": []}
    assert cli.invoke(["alerts", "ack", "1", "--home", str(home)]) == 2
    assert not (home / "data" / FILE_NAME).exists()


def test_the_log_in_a_rehearsal_is_that_of_its_run(
    alerted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has a journal; acknowledging one and the status are for the same file, by the clock of the rehearsal."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    assert len(alerts(capsys, alerted, "log")["alerts"]) == 3
    rehearsed = Instance(alerted, rehearsal="rehearsal-20260303T030000")
    filesystem.make_folder(rehearsed.runs)
    open_journal(rehearsed.journal).close()
    assert alerts(capsys, alerted, "log") == {"alerts": []}
    store = open_store(alerts_file(rehearsed))
    store.open_incident(Notice(key="d", urgency=Urgency.CRITICAL, what="Incident d.", command="tbot check"), NOW)
    store.close()
    assert cli.invoke(["status", "--home", str(alerted), "--json"]) == 1
    assert "Alert 1: Incident d. " in json.loads(capsys.readouterr().out)["attention"][-1]
    assert alerts(capsys, alerted, "ack", "1") == {"acknowledged": [1]}
    assert cli.invoke(["alerts", "log", "--home", str(alerted)]) == 0
    out, err = capsys.readouterr()
    assert "Incident d." in out
    assert err == "These are the alerts of rehearsal-20260303T030000.\n"


def test_status_asks_for_attention_until_somebody_has_seen_it(
    alerted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A critical incident that stands is exit 1 with its command; acknowledged by number, it is not named again."""
    assert cli.invoke(["status", "--home", str(alerted), "--json"]) == 1
    attention = json.loads(capsys.readouterr().out)["attention"]
    assert attention == ["Alert 1: Incident a. `tbot check`; acknowledge: `tbot alerts ack 1`."]
    assert alerts(capsys, alerted, "ack", "1") == {"acknowledged": [1]}
    assert alerts(capsys, alerted, "ack", "--all") == {"acknowledged": [2, 3]}
    assert alerts(capsys, alerted, "log")["alerts"][0]["acked_by"]
    assert cli.invoke(["status", "--home", str(alerted)]) == 0
    assert "seen by" not in capsys.readouterr().out


def test_status_shows_how_each_channel_fares(alerted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last delivery, a failure since then with the command that tries it, and what waits."""

    def shown() -> tuple[Any, list[str]]:
        code = cli.invoke(["status", "--home", str(alerted), "--json"])
        (one,) = json.loads(capsys.readouterr().out)["alert_channels"]
        assert cli.invoke(["status", "--home", str(alerted)]) == code
        out = capsys.readouterr().out.splitlines()
        return one, [line.split(maxsplit=1)[1] for line in out if line.startswith("alerts")]

    nothing, (line,) = shown()
    assert nothing == {
        "name": "console",
        "urgencies": ["critical", "routine"],
        "silent": False,
        "delivered": None,
        "failed": None,
        "reason": "",
        "failing": False,
        "waiting": 2,
        "state": "not tested",
        "lacks": "",
    }
    untried = "console  critical and routine: not tested: nothing was sent yet; 2 messages waiting; "
    assert line == f"{untried}`tbot alerts test console`"
    store = open_store(alerted / "data" / FILE_NAME)
    store.pending.note("console", "", NOW)
    store.pending.note("console", "No route.", NOW + dt.timedelta(minutes=1))
    store.pending.add("tbot-3", MessagePart.ALERT, ["console"], NOW)
    failing, (line,) = shown()
    assert (failing["failing"], failing["waiting"]) == (True, 3)
    assert line == (
        "console  critical and routine: FAILED 2026-11-24 10:01 New York: No route; "
        "delivered 2026-11-24 10:00 New York; 3 messages waiting; `tbot alerts test console`"
    )
    store.pending.note("console", "", NOW + dt.timedelta(minutes=2))
    found, (line,) = shown()
    assert (found["failing"], found["reason"]) == (False, "No route.")
    assert line == "console  critical and routine: ok, delivered 2026-11-24 10:02 New York; 3 messages waiting"
    store._connection.execute("DROP TABLE channels")
    store.close()
    assert shown()[0] == {**nothing, "waiting": 0}


@pytest.mark.parametrize(("words", "sentence"), [
    ((), "Give the numbers of the alerts, or --all."),
    (("1", "--all"), "Give the numbers of the alerts, or --all."),
    (("1", "9"), "Unknown alert 9."),
    (("x",), "'x' is not a valid whole number."),
])  # fmt: skip
def test_what_cannot_be_acknowledged_is_said(
    alerted: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    """Wrong usage is exit 2, and nothing is acknowledged."""
    assert cli.invoke(["alerts", "ack", *words, "--home", str(alerted)]) == 2
    assert sentence in capsys.readouterr().err
    assert all(row["acked"] is None for row in alerts(capsys, alerted, "log")["alerts"])


def test_a_damaged_file_is_said_by_status_and_begun_anew_by_a_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alerts are never why a run does not start: what they held can be derived again."""
    path = home / "data" / FILE_NAME
    path.write_bytes(b"nonsense " * 1000)
    assert cli.invoke(["status", "--home", str(home), "--json"]) == 1
    (sentence,) = json.loads(capsys.readouterr().out)["attention"]
    assert "cannot be used" in sentence
    open_store(path).close()
    assert alerts(capsys, home, "log") == {"alerts": []}


@pytest.mark.slow
def test_the_channels_can_be_tried(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each urgency is sent by its own channel and reported; the console's alerts are written to standard error."""
    found = alerts(capsys, home, "test")["channels"]
    assert [(row["urgency"], row["channel"], row["taken"]) for row in found] == [
        ("critical", "console", True),
        ("routine", "console", True),
    ]
    assert cli.invoke(["alerts", "test", "--home", str(home)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "ok    critical  console"
    for urgency in ("critical", "routine"):
        assert f"This is a test of {urgency} alerts." in said.err
    assert cli.invoke(["status", "--home", str(home)]) == 0
    assert "console  critical and routine: ok, delivered" in capsys.readouterr().out
    (home / "data" / FILE_NAME).write_bytes(b"nonsense " * 1000)
    assert cli.invoke(["alerts", "test", "--home", str(home)]) == 0


def test_a_channel_without_its_secrets_is_not_set_up(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is never ok: neither before the first message nor where nothing can be sent."""
    with (home / ".env_bot").open("a", encoding="utf-8") as file:
        file.write("CRITICAL_ALERT_CHANNEL=email\n")
    cli.invoke(["status", "--home", str(home), "--json"])
    one = json.loads(capsys.readouterr().out)["alert_channels"][0]
    assert (one["name"], one["state"], one["lacks"]) == ("email", "not set up", "smtp")
    cli.invoke(["status", "--home", str(home)])
    assert "email    critical: not set up: no secrets smtp are stored" in capsys.readouterr().out
    assert not (home / "logs" / "tbot.log").exists()


def test_a_channel_that_takes_nothing_is_exit_4(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why stands beside it; the other channel does not cover it up."""
    import tbot_alert_console

    async def send(_self: object, _alert: Alert) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(tbot_alert_console.Console, "send", send)
    found = alerts(capsys, home, "test", code=4)["channels"]
    assert [row["fault"] for row in found] == ["ConnectionError: no route"] * 2


def test_a_failure_is_in_the_table_and_not_logged_beside_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of a channel is logged with its traceback."""
    import tbot_alert_console

    async def send(_self: object, _alert: Alert) -> None:
        raise Undelivered("The service is closed.", "Try later.")

    monkeypatch.setattr(tbot_alert_console.Console, "send", send)
    assert cli.invoke(["alerts", "test", "--home", str(home)]) == 4
    said = capsys.readouterr()
    assert "The service is closed." in said.out
    assert "alert.undelivered" not in said.err


def test_a_channel_that_is_not_installed_is_refused(home: Path) -> None:
    """Paper trading without the channel that its settings name does not begin, and says which."""
    with (home / ".env_bot").open("a") as file:
        file.write("CRITICAL_ALERT_CHANNEL=pigeon,console\n")
    with pytest.raises(SettingsError, match="=pigeon,console: no alert channel pigeon is installed"):
        alert_delivery(assemble(home, "paper", ManualClock(NOW)))


def test_alerts_stand_beside_paper_trading_and_not_beside_a_demo(home: Path) -> None:
    """Paper trading has alerts and a watchdog; a simulation has neither."""

    async def work() -> str:
        return "done"

    clock = ManualClock(NOW)
    demo = assemble(home, "demo", clock)
    with alerts_beside(demo, clock) as attended:
        assert asyncio.run(attended(work())) == "done"
    assert not (home / "data" / FILE_NAME).exists()
    with alerts_beside(assemble(home, "paper", clock), clock) as attended:
        assert asyncio.run(attended(work())) == "done"
    store = open_store(home / "data" / FILE_NAME)
    assert (store.journal_position, store.rows(10)) == (0, [])
    store.close()


def test_an_observer_that_is_switched_off_is_a_routine_alert(home: Path) -> None:
    """It is in no journal, since a simulation's must repeat."""
    clock = ManualClock(NOW)
    assembly = assemble(home, "paper", clock)
    failure = PluginFailure(
        kind="extension", name="metrics", dist="d", version="1", phase="observe", error="KeyError: 'x'"
    )

    async def work() -> None:
        assembly.call_guard.report_observer(failure)

    with alerts_beside(assembly, clock) as attended:
        asyncio.run(attended(work()))
    store = open_store(home / "data" / FILE_NAME)
    (row,) = store.rows(10)
    store.close()
    assert (row.urgency, row.command) == (Urgency.ROUTINE, "tbot plugins list")
    assert row.what.endswith("KeyError: 'x'. It is switched off as an observer for the rest of the run.")
