"""`tbot failover`: a drill, what stands where, and what may not be confirmed."""

from __future__ import annotations

import json
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.actions.checks import check_instance
from tbot_core.actions.config import check_config
from tbot_core.cli.commands.failover import drill_outcome
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projections.failover import DrillStep, FailoverDrill
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.model.types import Leg
from tbot_core.system import filesystem
from tbot_core.testing.trades import fill, order

if TYPE_CHECKING:
    from pathlib import Path

TWO = "BROKER_NAME=ALPHA\nFAILOVER_ENABLED=true\nFAILOVER_BROKERS=beta\nDATA_SOURCE=paper\nSTRATEGY_SEQUENCE=open\n"
OPENED = {"date": "2026-03-03", "equity": "100000.00", "symbols": 1, "state": "normal"}


def instance(home: Path, settings: str, *said: tuple[str, dict[str, Any], str | None]) -> Path:
    """An instance with these settings, whose journal says this."""
    filesystem.write_atomic(home / ".env_bot", settings.encode())
    filesystem.make_folder(home / "data")
    now = SystemClock().now()
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=now, cid=cid) for kind, payload, cid in said])
    return home


def broken() -> list[tuple[str, dict[str, Any], str | None]]:
    """A session whose primary is broken: an entry is worked at it, another one at beta, whose lease has moved."""
    since = SystemClock().now().isoformat()
    here, there = order(Leg.ENTRY, "here", symbol="KO"), order(Leg.ENTRY, "there", symbol="SPY")
    return [
        (records.SESSION_OPENED, OPENED, None),
        (records.INTENDED, codec.write(OrderIntended.of(here)), "here"),
        (records.SENDING, {}, "here"),
        (records.CIRCUIT, {"of": "alpha", "state": "open", "since": since}, None),
        (records.FAILOVER, {"of": "alpha", "to": "beta", "phase": "the others only reduce", "why": "IN_FLIGHT"}, None),
        (records.FAILOVER_CONFIRMED, {"of": "alpha", "amount": "6000", "reserved": "5", "actor": "ada"}, None),
        (records.LEASE, {"symbol": "SPY", "from": "alpha", "to": "beta", "epoch": 1, "since": since}, None),
        (records.INTENDED, codec.write(OrderIntended.of(there)) | {"broker": "beta"}, "there"),
        (records.SENDING, {"broker": "beta"}, "there"),
    ]


@pytest.mark.slow
@pytest.mark.first(0)  # a drill's steps are tested in test_rehearsal_failover
def test_a_drill_on_paper_rehearses_every_way_of_breaking_and_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """f60, f61, f64, f65, f66, f67: each is a step; passed is exit 0, and the journal has the settings' hash."""
    home = instance(tmp_path, "BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\n")
    assert cli.invoke(["failover", "drill", "--home", str(home), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["brokers"], len(document["steps"])) == (True, ["paper"], 5)
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        (event,) = journal.events(kind=records.DRILL)
    assert event.payload["settings"] == document["settings"]
    assert cli.invoke(["failover", "status", "--home", str(home)]) == 0
    assert "Failover is off: no broker takes over from a simulated venue." in capsys.readouterr().out


def test_status_says_what_stands_where_and_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each broker with its way, orders and worst case, the leases that moved, and exit 1 while one is broken."""
    foreign = {"symbol": "ZZZ", "quantity": "-5", "price": "12.50"}
    home = instance(tmp_path, TWO, *broken(), (records.FOREIGN_HOLDING, foreign, None))
    assert cli.invoke(["failover", "status", "--home", str(home), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    alpha, beta = document["places"]
    assert (alpha["name"], alpha["circuit"], alpha["orders"], alpha["confirmed"]) == ("alpha", "open", 1, "6000")
    assert (beta["name"], beta["circuit"], beta["orders"], beta["confirmed"]) == ("beta", "closed", 1, "")
    assert Decimal(alpha["reserved"]) - Decimal(beta["reserved"]) == Decimal("62.50")  # with what is not tbot's there
    assert document["leases"] == {"SPY": "beta"}
    assert document["why"] == "orders there may still be working"
    assert document["next"] == "tbot failover drill"
    assert cli.invoke(["failover", "status", "--home", str(home)]) == 1
    shown_lines = capsys.readouterr().out
    assert "confirmed 6,000.00" in shown_lines
    assert "entries in SPY go to beta" in shown_lines
    assert (
        "The primary broker does not respond: the others only reduce (orders there may still be working)."
        in shown_lines
    )


def test_the_status_names_the_broker_of_each_order_and_position(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With several brokers each line says where; a machine always reads it."""
    accounts = {name: {"account": name, "equity": "100000.00"} for name in ("alpha", "beta")}
    carried = codec.write(
        CarriedPosition(signal=order(symbol="F").signal, **fill_facts(fill(order(symbol="F"), "10")))
    ) | {"broker": "beta"}
    stuck = carried | {"side": "long", "words": "it is halted", "attempts": {}}
    hours = {"open": "2026-03-03T14:30:00+00:00", "close": "2026-03-03T21:00:00+00:00"}
    opened = OPENED | hours | {"primary": "alpha", "accounts": accounts, "carried": [carried]}
    said = [one if one[0] != records.SESSION_OPENED else (one[0], opened, None) for one in broken()]
    ran = {"run_id": "paper", "mode": "paper", "equity": "100000", "source": "alpha", "simulated": False}
    home = instance(tmp_path, TWO, (records.RUN_STARTED, ran, None), (records.STUCK, stuck, None), *said)
    assert cli.invoke(["status", "--home", str(home), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["brokers"] == ["alpha", "beta"]
    assert [(one["symbol"], one["broker"]) for one in document["positions"]] == [("F", "beta")]
    assert [(one["symbol"], one["broker"]) for one in document["orders"]] == [("KO", "alpha"), ("SPY", "beta")]
    assert any("not managed by any bot: F at beta." in sentence for sentence in document["attention"])
    assert "STUCK: long F at beta could not be closed, it is halted." in document["attention"]
    assert cli.invoke(["status", "--home", str(home)]) == 1
    text = capsys.readouterr().out
    for line in ("beta   long 100 F at ", "alpha  entry market KO 100: sending", "beta   entry market SPY 100:"):
        assert f"           {line}" in text


def test_the_status_names_what_was_left_at_a_broker_that_the_last_session_did_not_trade(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown until a session trades that account again."""
    hours = {"open": "2026-03-03T14:30:00+00:00", "close": "2026-03-03T21:00:00+00:00"}
    before = OPENED | hours | {"primary": "alpha", "account": "A", "accounts": {"beta": {"account": "B"}}}
    carried = codec.write(CarriedPosition(signal=order(symbol="F").signal, **fill_facts(fill(order(symbol="F"), "10"))))
    stuck = carried | {"side": "long", "words": "it is halted", "attempts": {}, "broker": "beta"}
    closed = {"date": "2026-03-03", "equity": "100000.00", "cash": "100000.00", "open": [], "account": "A"}
    said: list[tuple[str, dict[str, Any], str | None]] = [
        (records.RUN_STARTED, {"mode": "paper", "equity": "100000", "source": "alpha", "simulated": False}, None),
        (records.SESSION_OPENED, before, None),
        (records.STUCK, stuck, None),
        (records.SESSION_CLOSED, closed, None),
    ]
    alone = (records.SESSION_OPENED, OPENED | hours | {"primary": "alpha", "account": "A"}, None)
    for number, days in enumerate((said, [*said, alone, said[-1]])):
        folder = tmp_path / str(number)
        filesystem.make_folder(folder)
        home = instance(folder, TWO, *days)
        assert cli.invoke(["status", "--home", str(home), "--json"]) == number
        document = json.loads(capsys.readouterr().out)["attention"]
        words = "LEFT BEHIND: 100 F at beta, account B: not managed"
        assert any(words in sentence for sentence in document) == bool(number)


def test_with_a_drill_passed_the_next_command_is_the_confirmation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all that is missing is a person's word."""
    now = SystemClock().now()
    held = FailoverDrill(brokers=("alpha", "beta"), settings="x", time=now, steps=(DrillStep(what="all", passed=True),))
    home = instance(tmp_path, TWO, (records.DRILL, codec.write(held.event), None), *broken())
    assert cli.invoke(["failover", "status", "--home", str(home)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2:] == [f"Drill: passed on {now:%Y-%m-%d}.", "Next: tbot failover confirm --amount USD"]


def test_a_healthy_instance_needs_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No broker is broken, no lease has moved: exit 0, and `tbot status` holds the same document."""
    now = SystemClock().now()
    held = FailoverDrill(brokers=("alpha", "beta"), settings="x", time=now, steps=(DrillStep(what="all", passed=True),))
    home = instance(tmp_path, TWO, (records.DRILL, codec.write(held.event), None))
    assert cli.invoke(["failover", "status", "--home", str(home), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["broken"], shown["next"], shown["leases"]) == (False, "tbot status", {})
    cli.invoke(["status", "--home", str(home), "--json"])
    assert json.loads(capsys.readouterr().out)["failover"] == shown


def test_nothing_is_confirmed_while_no_bot_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would lie there and count for another break."""
    home = instance(tmp_path, TWO)
    assert cli.invoke(["failover", "confirm", "--amount", "5", "--home", str(home)]) == 5
    assert "No bot is running" in capsys.readouterr().err
    assert not filesystem.is_present(home / "control")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "level", "words"),
    [
        (TWO, "fail", ".env_bot:3: FAILOVER_BROKERS=beta: no broker beta is installed"),
        (TWO, "warn", "Failover is not available: no failover drill was run with these brokers."),
        (TWO.replace("ALPHA", "beta"), "fail", "list each broker once"),
        (TWO.replace("=beta", "=paper"), "fail", "paper is a simulator and cannot take over from a broker."),
        (TWO.replace("DATA_SOURCE=paper", "DATA_SOURCE="), "warn", "The bars come from alpha too"),
        (TWO.replace("ALPHA", "PAPER"), "warn", "paper never fails"),
    ],
)
def test_check_judges_the_settings_of_failover(tmp_path: Path, settings: str, level: str, words: str) -> None:
    """An unknown broker, one named twice, a simulation, a feed that breaks with its broker, and a missing drill.

    `tbot config check` has the same findings, except that about the drill.
    """
    home = instance(tmp_path, settings)
    found = [(row.level, str(row)) for row in check_instance(home) if words in str(row)]
    assert [one[0] for one in found] == [level]
    of_settings = [(one.level, str(one)) for one in check_config(home, "paper") if words in str(one)]
    assert of_settings == ([] if "drill" in words else found)


def test_check_says_that_a_drill_was_passed(tmp_path: Path) -> None:
    """With the brokers that it was passed with."""
    held = FailoverDrill(
        brokers=("alpha", "beta"), settings="x", time=SystemClock().now(), steps=(DrillStep(what="all", passed=True),)
    )
    home = instance(tmp_path, TWO, (records.DRILL, codec.write(held.event), None))
    assert ("ok", "Failover drill passed: alpha, beta.") in [(row.level, str(row)) for row in check_instance(home)]


@pytest.mark.parametrize("amount", ["-5", "abc", "nan", "inf", "1e999999", "1e-999999"])
def test_what_is_no_amount_is_refused_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], amount: str
) -> None:
    """Exit 2 with the value and how to write it; nothing is dropped."""
    home = instance(tmp_path, TWO)
    assert cli.invoke(["failover", "confirm", "--amount", amount, "--home", str(home)]) == 2
    assert f"--amount {amount}: invalid amount" in capsys.readouterr().err
    assert not (home / "control").exists()


@pytest.mark.parametrize(
    ("brokers", "passed", "words"),
    [
        (("alpha", "beta"), False, "Drill failed: no entry goes to another broker (alpha, beta)."),
        (("alpha", "beta"), True, "Drill passed for alpha, beta; it is valid for 30 days."),
        (("alpha",), True, "is off: FAILOVER_ENABLED and FAILOVER_BROKERS switch it on."),
        (("paper",), True, "is off: no broker takes over from a simulated venue."),
    ],
)
def test_the_outcome_of_a_drill_is_a_sentence(brokers: tuple[str, ...], passed: bool, words: str) -> None:
    """Failed, passed, or passed where failover is off, with what would switch it on."""
    step = DrillStep(what="all", passed=passed)
    drill = FailoverDrill(brokers=brokers, settings="x", time=SystemClock().now(), steps=(step,))
    assert drill_outcome(drill).endswith(words)
