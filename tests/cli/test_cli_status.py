"""`tbot status` and `tbot audit verify`: what they show of an instance, changing nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.cli.commands.status import figure_lines, lines
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.instance import Instance
from tbot_core.journal import codec, gauges, records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import ManualClock, both_times, exchange_time
from tbot_core.model.formatting import format_price, money_text
from tbot_core.model.types import RiskState, dollars_of
from tbot_core.status.instance import status_document
from tbot_core.status.live_figures import SessionActivity
from tbot_core.status.runs import run_files, unfinished_sentence
from tbot_core.system import filesystem
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.codec import Payload

MORNING = dt.datetime(2026, 11, 24, 13, 0, tzinfo=dt.UTC)


def status(capsys: pytest.CaptureFixture[str], home: Path, code: int = 0) -> Any:
    """The document of `tbot status`."""
    assert cli.invoke(["status", "--home", str(home), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def stopped_on_paper(home: Path) -> TradingSession:
    """Trade on paper until two are held and one has moved since its fill, then stop."""
    create_demo_instance(home)
    clock = ManualClock(MORNING)
    plan = RunPlan(
        assembly=assemble(home, "paper", clock), request=FeedRequest(kind="live"), wall=clock, once=True, watch_s=1.0
    )

    def minute(session: TradingSession, _index: int) -> None:
        held = session.decision_engine.portfolio.positions.values()
        if len(held) > 1 and any(one.mark * one.units != one.entry_atoms for one in held):
            sessions.append(session)
            plan.stop.set()

    sessions: list[TradingSession] = []
    asyncio.run(run(plan, RunWatcher(on_minute=minute)))
    return sessions[-1]


def test_defense_says_until_when_it_outlasts_its_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot status` and `tbot defense status` name the time, and when the cause ended."""
    create_demo_instance(tmp_path)
    bell = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
    (tmp_path / "data").mkdir(exist_ok=True)
    with closing(open_journal(Instance.at(tmp_path).journal)) as journal:
        for minute, there in ((0, True), (29, False)):
            payload = codec.write(
                StateChanged(cause=StateCause.UNIVERSE_STALE, there=there, state=RiskState.DEFENSE.word, words="")
            )
            journal.append(
                [NewEvent(kind=records.STATE, payload=payload, time=bell + dt.timedelta(minutes=minute), cid=None)]
            )
    lasting = "efense until 10:14:00 New York, as its cause ended at 09:59:00 New York"
    cause = "over 20 % of the universe is stale"
    assert cli.invoke(["defense", "status", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == f"The state is defense: {cause}. D{lasting}: {cause}."
    cli.invoke(["status", "--home", str(tmp_path)])
    assert f"d{lasting}: {cause}" in capsys.readouterr().out


@pytest.mark.slow
def test_status_values_what_is_held_as_the_bot_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equity, P&L and the used share of the loss limit are those of the bot's last marks, not of the fills."""
    session = stopped_on_paper(tmp_path)
    found = status(capsys, tmp_path, code=1)
    pnl, limit = (
        dollars_of(session.decision_engine.exposure.pnl_atoms),
        dollars_of(session.decision_engine.limits.daily_loss),
    )
    assert found["day_pnl"] == money_text(pnl)
    assert found["equity"] == money_text(dollars_of(session.decision_engine.portfolio.equity_atoms))
    assert found["daily_loss_limit"] == money_text(limit)
    assert Decimal(found["daily_loss_used"]) == round(max(-pnl, Decimal(0)) / limit, 4)
    parts = [Decimal(one["pnl"]) for one in found["positions"]]
    assert abs(sum(parts) - pnl) <= len(parts) * Decimal("0.005")
    filesystem.remove(tmp_path / "data" / gauges.FILE)
    fills = status(capsys, tmp_path, code=1)
    assert fills["marks_at"] is None
    assert Decimal(fills["day_pnl"]) != pnl
    assert any("at the last fill prices" in line for line in lines(fills, MORNING))


@pytest.mark.slow
def test_a_halted_session_shows_the_limits_of_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only defense reduces limits; a kill blocks entries, by the bot's figures as by the journal's."""
    session = stopped_on_paper(tmp_path)
    normal = status(capsys, tmp_path, code=1)
    exposure, limits = session.decision_engine.exposure, session.decision_engine.limits
    exposure.imposed_state = RiskState.HALTED
    assert session.decision_engine.limits is limits
    exposure.imposed_state = RiskState.DEFENSE
    assert session.decision_engine.limits.max_trades < limits.max_trades
    path = tmp_path / "data" / "tbot.sqlite"
    killed = codec.write(StateChanged(cause=StateCause.KILL_COMMAND, there=True, state=RiskState.HALTED.word, words=""))
    with closing(open_journal(path)) as journal:
        journal.append([NewEvent(kind=records.STATE, payload=killed, time=MORNING)])
    filesystem.remove(tmp_path / "data" / gauges.FILE)
    found = status(capsys, tmp_path, code=1)
    assert found["state"] == "halted"
    assert [found[name] for name in ("budget", "most_trades")] == [normal[name] for name in ("budget", "most_trades")]


@pytest.mark.slow
def test_status_says_what_the_running_bot_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The moment of the marks, gross, the VIX, the clock, each broker's equity, latency and budget, and candidates."""
    stopped_on_paper(tmp_path)
    known = gauges.read_gauges(tmp_path / "data")
    assert known is not None
    acme = gauges.BrokerGauge(name="acme", equity=Decimal(99_000), latency_s=0.0424, spare=7, per_minute=200)
    host = gauges.HostGauge(name="api.acme.com", left=21, per_minute=150)
    silent = gauges.HostGauge(name="news.acme.com", left=None, per_minute=30)
    full = gauges.HostGauge(name="data.acme.com", left=0, per_minute=60, paused_s=8.0)
    restarted = attrs.evolve(
        known,
        clock_ahead_s=-0.25,
        vix=17.5,
        brokers=(acme,),
        marked_at=known.at - dt.timedelta(seconds=65),
        hosts=(host, full, silent),
        most_trades=2,
        gross=Decimal(98_765),
    )
    gauges.write_gauges(tmp_path / "data", restarted)
    found = status(capsys, tmp_path, code=1)
    assert found["accounts"] == [
        {
            "broker": "acme",
            "equity": "99000.00",
            "latency_s": 0.042,
            "requests_spare": 7,
            "requests_per_minute": 200,
        }
    ]
    assert found["hosts"] == [
        {"host": "api.acme.com", "requests_left": 21, "requests_per_minute": 150, "paused_s": 0.0},
        {"host": "data.acme.com", "requests_left": 0, "requests_per_minute": 60, "paused_s": 8.0},
        {"host": "news.acme.com", "requests_left": None, "requests_per_minute": 30, "paused_s": 0.0},
    ]
    text = "\n".join(lines(found, MORNING))
    for words in (
        "api.acme.com: 150 requests a minute allowed, 21 left",
        "news.acme.com: 30 requests a minute allowed\n",
        "data.acme.com: it asked to wait 8 s, only stops and exits are sent",
        f"at the marks of {exchange_time(known.at - dt.timedelta(seconds=65)):%H:%M:%S} New York",
        "acme: equity 99,000.00, latency 42 ms, 7 requests of 200 per minute left",
        "VIX         17.50 of 2026-11-23 (paper), clock \N{MINUS SIGN}0.2 s against the broker's",
        "/2",
        "gross 98,765.00",
        f"open {found['candidates']['open']}\n",
    ):
        assert words in text
    gauges.write_gauges(tmp_path / "data", attrs.evolve(known, vix=None, marked_at=None))
    text = "\n".join(lines(status(capsys, tmp_path, code=1), MORNING))
    assert "VIX         unknown at the previous close" in text
    assert ", at the last known prices" in text


@pytest.mark.slow
def test_status_says_by_which_vix_a_strategy_decides_today(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With VIX_SOURCE=live that is not the close of the session before."""
    stopped_on_paper(tmp_path)
    assert status(capsys, tmp_path, code=1)["vix_live"] == {}
    journal = open_journal(tmp_path / "data" / "tbot.sqlite")
    said = [NewEvent(kind=records.VIX, payload={"strategy": name, "value": value}, time=MORNING)
            for name, value in (("mid", None), ("close", 18.25))]  # fmt: skip
    journal.append(said)
    journal.close()
    found = status(capsys, tmp_path, code=1)
    assert found["vix_live"] == {"mid": None, "close": 18.25}
    (line,) = [one for one in lines(found, MORNING) if one.startswith("VIX")]
    assert line.endswith(" of 2026-11-23 (paper), close uses 18.25, mid uses unknown")


@pytest.mark.slow
def test_status_has_the_remarks_of_ready_until_the_session_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What will not be traded today, each in its line."""
    stopped_on_paper(tmp_path)
    assert status(capsys, tmp_path, code=1)["remarks"] == []
    ready = {"not_shortable": {"NOT_SHORTABLE": ["KO"], "CASH_LONG_ONLY": ["F"]}}
    with closing(open_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        journal.append([NewEvent(kind=records.READY, payload=ready, time=MORNING)])
    found = status(capsys, tmp_path, code=1)
    assert found["remarks"] == [
        "CASH_LONG_ONLY: no short sales of 1 symbol: F.",
        "NOT_SHORTABLE: no short sales of 1 symbol: KO.",
    ]
    text = [*lines(found, MORNING)]
    assert f"today       {found['remarks'][0]}" in text
    assert f"            {found['remarks'][1]}" in text
    activity = SessionActivity(remarks=found["remarks"])
    activity.apply(NewEvent(kind=records.SESSION_CLOSED, payload={}, time=MORNING))
    assert activity.remarks == []


@pytest.mark.slow
def test_a_stop_is_shown_only_where_it_rests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a position is being closed, or its stop has only been sent, it is UNPROTECTED, and no level is shown."""
    stopped_on_paper(tmp_path)
    found = status(capsys, tmp_path, code=1)
    assert {one["protection"] for one in found["positions"]} == {"resting"}
    words = {
        "resting": ", stop 9.00",
        "cancelling": "UNPROTECTED, the cancel of its stop 9.00 was requested and not confirmed",
        "closing": "being closed",
        "asked": "is not confirmed",
        "none": "no stop at the",
    }
    for protection, said in words.items():
        shown = found | {"positions": [found["positions"][0] | {"protection": protection, "stop": "9"}]}
        assert sum(said in line for line in lines(shown, MORNING)) == 1
    orders = [line for line in lines(found, MORNING) if "stop stop" in line]
    assert orders == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("held", "covered", "said"),
    [
        ("6.5", "6.5", "stop 9.00, P&L"),
        ("6.5", "6", "stop 9.00 for 6, 0.5 simulated at each closed bar, P&L"),
        ("7", "3", "stop 9.00 for 3, 4 UNPROTECTED, P&L"),
    ],
)
def test_what_a_stop_leaves_out_of_a_position_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held: str, covered: str, said: str
) -> None:
    """A fraction of a share that no stop may rest for is watched by the bot; more than that is UNPROTECTED."""
    stopped_on_paper(tmp_path)
    found = status(capsys, tmp_path, code=1)
    assert all(one["covered"] == one["quantity"] for one in found["positions"])
    shown = found["positions"][0] | {"quantity": held, "covered": covered, "stop": "9"}
    assert sum(said in line for line in lines(found | {"positions": [shown]}, MORNING)) == 1


def test_an_empty_journal_hides_no_run(traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The paper journal that `tbot init` makes holds nothing, so the newest run is shown."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    open_journal(home / "data" / "tbot.sqlite").close()
    assert status(capsys, home)["mode"] == "demo"


def test_a_finished_run_is_ready(traded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a run that ended nothing wants attention, nothing is held, and equity is the run's."""
    found = status(capsys, traded)
    assert (found["mode"], found["simulated"], found["running"]) == ("demo", True, False)
    assert (found["positions"], found["orders"], found["attention"]) == ([], [], [])
    assert float(found["equity"]) > 0
    assert set(found["trades"]) == {"open", "mid", "close"}
    assert cli.invoke(["status", "--home", str(traded)]) == 0
    text = capsys.readouterr().out
    assert "not running" in text
    assert "SIMULATED PRICES" in text


def test_a_simulation_goes_by_a_time_of_its_own(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that has ended shows its end, one that runs how far it is; the market's windows are not its own."""
    found = status(capsys, traded)
    assert (found["phase"], found["next_event"]) == (None, None)
    ended = dt.datetime.fromisoformat(found["ran_until"])
    text = list(lines(found, MORNING))
    assert f"ran         until {ended:%Y-%m-%d} {both_times(ended)}; it has finished" in text
    assert not any(line.startswith(("now", "next")) for line in text)
    shutil.copytree(traded, tmp_path / "copy")
    with filesystem.hold_lock(tmp_path / "copy" / "data" / "tbot.lock"):
        running = list(lines(status(capsys, tmp_path / "copy"), MORNING))
    (line,) = [line for line in running if line.startswith("now")]
    assert line.endswith("16:00 New York) in the time of the run")


@pytest.mark.slow
def test_unmanaged_positions_need_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paper that was stopped with positions: exit 1, each position with its stop, its orders, and how to resume."""
    stopped_on_paper(tmp_path)
    found = status(capsys, tmp_path, code=1)
    assert (found["run"], found["mode"], found["in_session"]) == ("paper", "paper", True)
    assert all(float(position["stop"]) > 0 for position in found["positions"])
    assert {order["leg"] for order in found["orders"]} >= {"stop"}
    assert any("`tbot run` resumes it" in sentence for sentence in found["attention"])
    (left,) = [sentence for sentence in found["attention"] if "not managed by any bot" in sentence]
    stops = ", ".join(f"{one['symbol']} {format_price(Decimal(one['stop']))}" for one in found["positions"])
    ended = exchange_time(dt.datetime.fromisoformat(found["last_event"]))
    assert left.endswith(f"Their stops at the broker, as of {ended:%H:%M:%S} New York: {stops}.")
    assert found["trades"]["open"] >= 2
    assert cli.invoke(["status", "--home", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert found["positions"][0]["symbol"] in text
    assert "ATTENTION" in text


LEFT = {"open": ["KO"], "unconfirmed": ""}
RESUMED = (
    records.STATE,
    codec.write(StateChanged(cause=StateCause.UNRECONCILED, there=True, state=RiskState.EXIT_ONLY.word, words="")),
)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ([], "was interrupted in the session of 2026-11-24; `tbot run` resumes it."),
        ([(records.STOPPED, {"open": [], "unconfirmed": ""})], ""),
        (
            [(records.STOPPED, LEFT)],
            "was stopped in the session of 2026-11-24, left open: KO; `tbot run` resumes it.",
        ),
        (
            [(records.STOPPED, {"open": [], "unconfirmed": "503."})],
            "was stopped in the session of 2026-11-24, the account could not be read: 503; `tbot run` resumes it.",
        ),
        ([(records.STOPPED, LEFT), RESUMED], "was interrupted in the session of 2026-11-24; `tbot run` resumes it."),
    ],
)
def test_a_session_that_a_person_stopped_is_not_interrupted(
    tmp_path: Path, after: list[tuple[str, Payload]], words: str
) -> None:
    """After a stop only what is left open needs attention, until the session is resumed."""
    create_demo_instance(tmp_path)
    (tmp_path / "data").mkdir(exist_ok=True)
    opened = (records.SESSION_OPENED, {"date": "2026-11-24", "symbols": 1, "equity": "1000"})
    with closing(open_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=MORNING) for kind, payload in (opened, *after)])
    (file,) = run_files(Instance.at(tmp_path))
    assert unfinished_sentence(file) == (f"Paper trading {words}" if words else "")


@pytest.mark.parametrize(
    ("state", "running", "line"),
    [
        ("normal", True, "now         open: entries"),
        ("halted", True, "now         open: entries, but none are sent: the state is halted"),
        ("normal", False, "now         open: entries, but none are sent: no bot is running"),
    ],
)
def test_the_phase_of_entries_says_why_none_are_sent(tmp_path: Path, state: str, line: str, *, running: bool) -> None:
    """The windows are those of the calendar, whatever the state."""
    create_demo_instance(tmp_path)
    noon = dt.datetime(2026, 11, 24, 14, 55, tzinfo=dt.UTC)
    shown = status_document(tmp_path, noon) | {"state": state, "running": running}
    assert shown["phase"] == "open: entries"
    assert line in list(lines(shown, noon))


@pytest.mark.parametrize(
    ("now", "phase", "event"),
    [
        ("2026-11-24T13:00", "market closed", "opening bell"),
        ("2026-11-24T14:35", "open: analysis", "open: entries"),
        ("2026-11-24T14:55", "open: entries", "open: positions are managed"),
        ("2026-11-24T18:00", "mid: over", "close: analysis"),
        ("2026-11-24T20:58", "flattening", "closing bell"),
        ("2026-11-24T21:00", "market closed", "opening bell"),
        ("2026-11-26T15:00", "market closed", "opening bell"),
    ],
)
def test_the_calendar_says_what_comes_next(tmp_path: Path, now: str, phase: str, event: str) -> None:
    """Before, between, in and after windows the phase and the next event are named, holidays passed over."""
    create_demo_instance(tmp_path)
    moment = dt.datetime.fromisoformat(now).replace(tzinfo=dt.UTC)
    found = status_document(tmp_path, moment)
    assert (found["phase"], found["next_event"]["event"]) == (phase, event)
    assert dt.datetime.fromisoformat(found["next_event"]["time"]) > moment
    assert any(line.startswith("next") for line in lines(found, moment))


def test_settings_without_a_run_are_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing ran yet the figures are unknown, and that is no fault."""
    create_demo_instance(tmp_path)
    found = status(capsys, tmp_path)
    assert (found["run"], found["equity"]) == (None, None)
    assert cli.invoke(["status", "--home", str(tmp_path)]) == 0
    assert "nothing has run here yet" in capsys.readouterr().out


def test_a_bot_that_only_waited_for_the_bell_has_run(traded: Path, tmp_path: Path) -> None:
    """Until when it waited is shown after its end; while it waits, it is shown and not a finished simulation."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    journal = home / "data" / "tbot.sqlite"
    open_journal(journal).close()
    with filesystem.hold_lock(home / "data" / "tbot.lock"):
        shown = status_document(home, MORNING)
        assert shown["run"] == "paper"
        assert "run         waits for its first session" in list(lines(shown, MORNING))
    with closing(open_journal(journal)) as opened:
        opened.append([NewEvent(kind=records.STOPPED, payload={"open": [], "unconfirmed": ""}, time=MORNING)])
    said = "\n".join(lines(status_document(home, MORNING), MORNING))
    assert "no session yet; the bot waited for one until 2026-11-24 13:00 UTC (08:00 New York)" in said


@pytest.mark.slow
def test_settings_that_do_not_hold_hide_nothing_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run goes on without them: what it holds is shown by those it went by, and what is wrong with the new ones."""
    stopped_on_paper(tmp_path)
    before = status(capsys, tmp_path, code=1)
    written = (tmp_path / ".env_bot").read_text()
    (tmp_path / ".env_bot").write_text(f"{written}MAX_TRADES=-1\n")
    after = status(capsys, tmp_path, code=1)
    (more,) = set(after["attention"]) - set(before["attention"])
    assert more.startswith("The settings cannot be used: ")
    assert "MAX_TRADES" in more
    assert "Shown are the settings of the paper run of 2026-11-24 14:00 UTC." in more
    same = ("positions", "most_trades", "daily_loss_limit", "budget", "state")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert cli.invoke(["defense", "status", "--home", str(tmp_path)]) == 0


def test_settings_that_do_not_hold_and_no_run_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else can be shown."""
    (tmp_path / ".env_bot").write_text("MAX_TRADES=-1\n")
    assert cli.invoke(["status", "--home", str(tmp_path)]) == 3
    assert "MAX_TRADES" in capsys.readouterr().err


def test_a_folder_without_an_instance_exits_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No settings and no run: a sentence that names the demo."""
    assert cli.invoke(["status", "--home", str(tmp_path)]) == 3
    assert "tbot run --demo" in capsys.readouterr().err


def test_verify_passes_over_each_journal(traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every journal of the instance is listed with its events and its head; an instance without one passes."""
    assert cli.invoke(["audit", "verify", "--home", str(traded), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified"]
    assert [row["events"] > 100 and len(row["head"]) == 64 for row in found["journals"]] == [True]
    (tmp_path / "data").mkdir(exist_ok=True)
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path)]) == 0
    assert "No journal" in capsys.readouterr().out


def test_verify_names_a_journal_that_was_changed(
    traded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed amount, and a file that is no database, each fail with a sentence and exit 1."""
    home = tmp_path / "copy"
    shutil.copytree(traded, home)
    (file,) = (home / "data" / "runs").glob("*.sqlite")
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("UPDATE events SET payload = payload || ' ' WHERE seq = 40")
    connection.close()
    (home / "data" / "tbot.sqlite").write_bytes(b"no database, but long enough to look at" * 40)
    assert cli.invoke(["audit", "verify", "--home", str(home), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert sorted(row["fault"].split(" ")[0] for row in found["journals"]) == ["The", "The"]
    assert any("event 40 breaks the hash chain" in row["fault"] for row in found["journals"])
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "settled", "words"),
    [
        ({}, True, "10:31 New York); found: nothing new; missed: 12 minutes, 1 signal"),
        ({}, False, "the account has not been read yet"),
        ({"fill": 2, "lost": 1}, True, "found: 2 fills, 1 lost order;"),
    ],
)
def test_a_restart_is_shown_with_what_it_found_and_missed(found: dict[str, int], words: str, *, settled: bool) -> None:
    """What happened while no bot ran, in a line."""
    at = "2026-11-24T15:31:00+00:00"
    restart = {"at": at, "since": at, "found": found, "missed_minutes": 12, "missed_signals": 1, "settled": settled}
    shown: dict[str, Any] = {
        "foreign": [],
        "candidates": {},
        "accounts": [],
        "hosts": [],
        "marks_at": None,
        "restart": restart,
    }
    (line,) = figure_lines(shown)
    assert words in line
