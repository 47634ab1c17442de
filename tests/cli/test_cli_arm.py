"""`tbot arm` and `tbot disarm`: what they refuse, what they say will be armed, and what has come of it."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.actions.control_requests import RequestResult
from tbot_core.actions.operator_requests import arming_code, arming_sentence, arming_summary, live_settings
from tbot_core.cli.commands.run import create_demo_instance, resolve_mode
from tbot_core.cli.commands.status import lines
from tbot_core.cli.run_options import RunOptions, hold_instance_lock
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.arming import armed_event
from tbot_core.errors import SettingsError
from tbot_core.instance import Instance, load_settings, read_settings_files
from tbot_core.instance.secrets import account_mode
from tbot_core.journal import codec, records
from tbot_core.journal.projections.approvals import ArmingGrant, ArmingTerms, next_sessions
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.lock import lock_fingerprint
from tbot_core.status.instance import status_document
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MONDAY = dt.date(2026, 11, 23)
MORNING = dt.datetime(2026, 11, 23, 13, 0, tzinfo=dt.UTC)
TERMS = ArmingTerms(mode="live", account="U1", settings="a1", plugins="b2")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings, which trades on paper."""
    create_demo_instance(tmp_path)
    return tmp_path


def written(home: Path, *entries: tuple[str, dict[str, Any]]) -> None:
    """A journal of live trading that holds these events."""
    (home / "data").mkdir(exist_ok=True)
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=MORNING) for kind, payload in entries])


def test_paper_trading_is_not_armed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3 with what live trading needs, and no request is left behind."""
    assert cli.invoke(["arm", "--home", str(home)]) == 3
    said = capsys.readouterr().err
    assert "trades on paper" in said
    assert "mode=live" in said
    assert control.read_folder(home / "control").requests == ()


def test_without_an_instance_nothing_is_armed(tmp_path: Path) -> None:
    """The folder is named."""
    with pytest.raises(SettingsError, match="is not an instance"):
        live_settings(tmp_path)


@pytest.mark.parametrize("count", ["0", "6", "x"])
def test_one_to_five_sessions_can_be_armed(home: Path, count: str) -> None:
    """Anything else is wrong usage."""
    assert cli.invoke(["arm", "--sessions", count, "--home", str(home)]) == 2


@pytest.mark.slow
def test_the_mode_stands_in_the_brokers_section(tmp_path: Path, paper_instance: Callable[[Path], Path]) -> None:
    """Paper where nothing is said, live where it is, in any case of letters."""
    home = tmp_path / "x"
    paper_instance(home)
    settings = load_settings(home, mode="replay")
    modes = [account_mode(settings)]
    for said in ("LIVE", "paper"):
        with CliRunner().isolation(json.dumps({settings.trading.broker_name: {"mode": said}})):
            assert cli.invoke(["secrets", "set", "broker", "--from-json", "-", "--home", str(home)]) == 0
        modes.append(account_mode(settings))
    assert modes == ["paper", "live", "paper"]


def test_a_disarming_waits_for_the_next_start(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs neither settings nor keys, where the last run was live."""
    written(home, (records.RUN_STARTED, {"mode": "live", "equity": "1000"}))
    assert cli.invoke(["disarm", "--home", str(home)]) == 0
    assert "disarmed at the next start" in capsys.readouterr().out
    assert [one.verb for one in control.read_folder(home / "control").requests] == [ControlVerb.DISARM]


@pytest.mark.parametrize("ran", [(), ((records.RUN_STARTED, {"mode": "paper", "equity": "1000"}),)])
def test_paper_trading_needs_no_disarming(
    home: Path, ran: tuple[tuple[str, dict[str, Any]], ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no live run is recorded the command says so, exits 0 and writes no request."""
    written(home, *ran)
    assert cli.invoke(["disarm", "--home", str(home)]) == 0
    assert "paper trading needs no arming" in capsys.readouterr().out
    assert control.read_folder(home / "control").requests == ()


def test_an_arming_that_waits_or_may_be_hidden_is_disarmed(home: Path) -> None:
    """A request is written where `tbot arm` waits for the next start, and where the journal cannot be read."""
    control.write_request(home / "control", ControlVerb.ARM, actor="ann", now=MORNING)
    assert cli.invoke(["disarm", "--home", str(home)]) == 0
    assert [one.verb for one in control.read_folder(home / "control").requests][-1] is ControlVerb.DISARM
    for path in (home / "control").iterdir():
        path.unlink()
    (home / "data").mkdir(exist_ok=True)
    (home / "data" / "tbot.sqlite").write_bytes(b"nonsense " * 1000)
    cli.invoke(["disarm", "--home", str(home)])
    assert [one.verb for one in control.read_folder(home / "control").requests] == [ControlVerb.DISARM]


def test_what_will_be_armed_is_said_before(home: Path) -> None:
    """Mode, broker, account as the last live session knew it, the days, and the planned worst day as `check` has it."""
    settings = load_settings(home, mode="replay")
    first = arming_summary(settings, MORNING, 1)
    assert "an account that has not traded live here yet" in first.line
    assert "for the session of 2026-11-23" in first.line
    written(home, (records.LIVE_TERMS, attrs.asdict(TERMS)))
    subject = arming_summary(settings, MORNING, 4)
    assert "account U1, for the 4 sessions 2026-11-23 to 2026-11-27" in subject.line
    assert subject.document()["sessions"] == ["2026-11-23", "2026-11-24", "2026-11-25", "2026-11-27"]
    assert subject.settings == settings.fingerprint
    named = {"mode": "live", "account": "U1", "settings": subject.settings, "plugins": lock_fingerprint(home)}
    assert subject.arguments == {"sessions": "4"} | named
    assert f"planned worst day {subject.worst_day}." in subject.line


UNARMED = RequestResult(
    verb=ControlVerb.ARM, process=7, taken=True, state="exit-only", causes=(StateCause.NOT_ARMED.value,)
)


@pytest.mark.parametrize(
    ("answer", "words", "exits"),
    [
        (UNARMED, "The request was accepted, but the bot is not armed yet: the state is exit-only: not armed.", 5),
        (attrs.evolve(UNARMED, state="normal", causes=()), "Armed; the state is normal.", 0),
        (attrs.evolve(UNARMED, taken=False, refused="It was too late."), "It was too late.", 5),
        (attrs.evolve(UNARMED, taken=False), "has not recorded the request", 1),
        (attrs.evolve(UNARMED, taken=False, between=True), "No session is under way; the next one begins armed.", 0),
        (attrs.evolve(UNARMED, taken=False, between=True, verb=ControlVerb.DISARM), "begins disarmed.", 0),
        (attrs.evolve(UNARMED, taken=False, between=True, refused="It was too late."), "It was too late.", 5),
        (attrs.evolve(UNARMED, taken=False, process=None), "it is armed at the next start.", 0),
        (attrs.evolve(UNARMED, verb=ControlVerb.DISARM), "Disarmed; the state is exit-only: not armed.", 0),
        (attrs.evolve(UNARMED, verb=ControlVerb.DISARM, causes=(), state="normal"), "Nothing needs arming here;", 0),
    ],
)
def test_what_came_of_a_request_is_said(answer: RequestResult, words: str, exits: int) -> None:
    """Exit 5 where the bot is not armed after `tbot arm`."""
    assert words in arming_sentence(answer)
    assert arming_code(answer) == exits


def test_status_exits_with_five_while_live_trading_is_not_armed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever else there is to say; with the reason and the command."""
    written(home, (records.LIVE_TERMS, attrs.asdict(TERMS)))
    assert cli.invoke(["status", "--home", str(home)]) == 5
    assert "armed       no: it has not been armed; `tbot arm` arms it" in capsys.readouterr().out


ARMED, UNARMED_YET, WAITS = "armed", "not armed", "an arming waits"
STATUS_CODES = [
    # mode, arming, a loss latch, control/kill exists: exit code
    ("paper", UNARMED_YET, False, False, 0),
    ("paper", UNARMED_YET, False, True, 1),
    ("paper", UNARMED_YET, True, False, 1),
    ("paper", UNARMED_YET, True, True, 1),
    ("live", ARMED, False, False, 0),
    ("live", ARMED, False, True, 1),
    ("live", ARMED, True, False, 5),
    ("live", ARMED, True, True, 5),
    ("live", UNARMED_YET, False, False, 5),
    ("live", UNARMED_YET, False, True, 5),
    ("live", UNARMED_YET, True, False, 5),
    ("live", UNARMED_YET, True, True, 5),
    ("live", WAITS, False, False, 0),
    ("live", WAITS, False, True, 1),
    ("live", WAITS, True, False, 5),
    ("live", WAITS, True, True, 5),
]


@pytest.mark.parametrize(("mode", "arming", "latched", "killed", "code"), STATUS_CODES)
def test_status_exits_with_five_before_it_exits_with_one(
    home: Path, mode: str, arming: str, latched: bool, killed: bool, code: int
) -> None:
    """Live and not armed, or latched, counts more than anything that needs attention; ready is 0."""
    now = SystemClock().now()
    calendar = ExchangeCalendar()
    days = next_sessions(calendar, now, 2)
    entries: list[tuple[str, dict[str, Any]]] = [(records.RUN_STARTED, {"mode": mode, "equity": "1000", "source": "x"})]
    if mode == "live":
        entries.append((records.LIVE_TERMS, attrs.asdict(TERMS)))
    if arming == ARMED:
        entries.append((records.ARMED, codec.write(armed_event(ArmingGrant(terms=TERMS, sessions=days, actor="ann")))))
    if arming == WAITS:
        asked = {"sessions": "2", "settings": TERMS.settings}
        control.write_request(home / "control", ControlVerb.ARM, actor="ann", now=now, arguments=asked)
    (session,) = calendar.sessions(days[0], days[0])
    hours = {"open": session.open.isoformat(), "close": session.close.isoformat(), "minutes": session.minutes}
    account = {"symbols": 1, "equity": "1000", "primary": "paper", "account": "U1", "accounts": {}}
    entries.append((records.SESSION_OPENED, {"date": session.date.isoformat(), **hours, **account}))
    if latched:
        entries.append((records.RISK, {"what": "daily loss latch", "cause": "the daily loss limit"}))
    written(home, *entries)
    if killed:
        control.prepare_folder(home / "control")
        (home / "control" / "kill").touch()
    with hold_instance_lock(home):
        assert cli.invoke(["status", "--home", str(home)]) == code


def test_status_says_until_when_it_is_armed(home: Path) -> None:
    """To the end of a session; after that it is not armed any more."""
    armed = ArmingGrant(terms=TERMS, sessions=(MONDAY, MONDAY + dt.timedelta(days=1)), actor="ann")
    written(home, (records.LIVE_TERMS, attrs.asdict(TERMS)), (records.ARMED, codec.write(armed_event(armed))))
    shown = status_document(home, MORNING)
    assert (shown["armed_until"], shown["entries_blocked"]) == ("2026-11-24", False)
    assert "armed       to the end of the session of 2026-11-24" in list(lines(shown, MORNING))
    later = status_document(home, MORNING + dt.timedelta(days=2))
    assert (later["entries_blocked"], later["not_armed"]) == (True, "it was armed until 2026-11-24")


@pytest.mark.parametrize("earlier", [(), ((records.RUN_STARTED, {"mode": "paper", "equity": "1", "source": "x"}),)])
def test_a_live_start_is_shown_as_live_before_its_first_session(
    home: Path, earlier: tuple[tuple[str, dict[str, Any]], ...]
) -> None:
    """Its mode, and that it is not armed, after paper trading too; not the market of the earlier run."""
    written(home, *earlier, (records.LIVE_TERMS, attrs.asdict(attrs.evolve(TERMS, account=""))))
    shown = status_document(home, MORNING)
    assert (shown["mode"], shown["source"], shown["entries_blocked"]) == ("live", None, True)
    said = list(lines(shown, MORNING))
    assert any(line.startswith("run         live, no session yet") for line in said)
    assert "armed       no: it has not been armed; `tbot arm` arms it" in said


@pytest.mark.parametrize(
    ("verbs", "settings", "sessions", "line"),
    [
        ((ControlVerb.ARM,), "a1", 1, "waits for the session of 2026-11-23 (`tbot arm` was given)"),
        (
            (ControlVerb.DISARM, ControlVerb.ARM),
            "a1",
            2,
            "waits for the session of 2026-11-23, then to the end of that of 2026-11-24 (`tbot arm` was given)",
        ),
        ((ControlVerb.ARM, ControlVerb.DISARM), "a1", 2, ""),
        ((ControlVerb.ARM,), "other", 2, ""),
        ((ControlVerb.DISARM,), "a1", 2, ""),
    ],
)
def test_an_arming_that_waits_for_the_session_is_shown(
    home: Path, verbs: tuple[ControlVerb, ...], settings: str, sessions: int, line: str
) -> None:
    """`tbot arm` is not named again, and status does not exit with 5; one that would be refused does not count."""
    written(home, (records.LIVE_TERMS, attrs.asdict(TERMS)))
    for number, verb in enumerate(verbs):
        made = MORNING + dt.timedelta(seconds=number)
        control.write_request(
            home / "control", verb, actor="ann", now=made, arguments={"sessions": str(sessions), "settings": settings}
        )
    shown = status_document(home, MORNING + dt.timedelta(minutes=1))
    assert (shown["arming_waits"], shown["armed_until"]) == (f"2026-11-{22 + sessions}" if line else None, None)
    assert shown["entries_blocked"] is not bool(line)
    said = [one for one in lines(shown, MORNING) if one.startswith("armed")]
    assert said == [f"armed       {line or 'no: it has not been armed; `tbot arm` arms it'}"]


@pytest.mark.parametrize("count", ["x", "9"])
def test_an_arming_that_will_be_refused_does_not_wait(home: Path, count: str) -> None:
    """Neither one of an invalid number of sessions, nor one for sessions that are over."""
    written(home, (records.LIVE_TERMS, attrs.asdict(TERMS)))
    old = MORNING - dt.timedelta(days=10)
    control.write_request(home / "control", ControlVerb.ARM, actor="ann", now=MORNING, arguments={"sessions": count})
    control.write_request(home / "control", ControlVerb.ARM, actor="ann", now=old)
    assert status_document(home, MORNING)["arming_waits"] is None


def test_a_run_is_in_the_mode_of_its_account(tmp_path: Path, paper_instance: Callable[[Path], Path]) -> None:
    """A broker with a market of its own is traded live where its section says so, the simulated one never.

    A live run that is renewed with other settings reads it anew, as a start does.
    """
    home = tmp_path / "x"
    paper_instance(home)
    given = RunOptions(mode="paper", home=home)
    was_live = attrs.evolve(given, mode="live")
    for options in (given, was_live):
        assert resolve_mode(options, read_settings_files(Instance.at(home))) == given
    with CliRunner().isolation(json.dumps({"alpaca": {"mode": "live", "api_key": "k" * 20, "api_secret": "s" * 40}})):
        assert cli.invoke(["secrets", "set", "broker", "--from-json", "-", "--home", str(home)]) == 0
    (home / ".env_bot").write_text("BROKER_NAME=ALPACA\n")
    (home / ".env_bot.enc").unlink()
    for options in (given, was_live):
        assert resolve_mode(options, read_settings_files(Instance.at(home))) == was_live
    assert resolve_mode(attrs.evolve(given, mode="replay"), read_settings_files(Instance.at(home))).mode == "replay"
    with CliRunner().isolation(json.dumps({"alpaca": {"mode": "paper"}})):
        assert cli.invoke(["secrets", "set", "broker", "--from-json", "-", "--home", str(home)]) == 0
    assert resolve_mode(was_live, read_settings_files(Instance.at(home))) == given
