"""A live session that is not armed enters nothing; what arms and disarms it is written down first."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.session.arming import UNMATCHED, ArmingGuard, LiveContext
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.execution.reconciliation import ReconciliationStatus
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.execution.trading_state import recall_states as causes
from tbot_core.journal import records
from tbot_core.journal.projections.approvals import MOST_RESTARTS, ArmingTerms, recall_arming
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, RiskState, SignalId, atoms_of
from tbot_core.testing.trades import proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


TERMS = ArmingTerms(mode="live", account="U1", settings="a1", plugins="b2")
NOON = session().open + dt.timedelta(hours=2)


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


class Bench:
    """A live session on a desk of its own, after whatever its journal holds."""

    def __init__(
        self, journal: Journal, terms: ArmingTerms = TERMS, *, restarted: bool = False, latched: bool = False
    ) -> None:
        self.journal = journal
        self.desk = DecisionEngine(rules(), session(), atoms_of(Decimal(100_000)), name)
        self.desk.exposure.daily_loss = latched
        recorder = JournalRecorder(journal=journal, clock=ManualClock(NOON))
        past = tuple(journal.events())
        self.conditions = TradingStateController(recorder, self._impose, causes(past))
        live = LiveContext(terms=terms, calendar=ExchangeCalendar(), events=past)
        self.safety = ArmingGuard(live, session().date, recorder, self.conditions, self.desk.exposure)
        further = {ControlVerb.ARM: self.safety.arm, ControlVerb.DISARM: self.safety.disarm}
        self.requests = RequestHandler(recorder, self.conditions, past, further)
        self.safety.restore(restarted=restarted)

    def _impose(self, state: RiskState) -> None:
        self.desk.exposure.imposed_state = state

    def ask(self, verb: ControlVerb, made: dt.datetime = NOON, **arguments: str) -> None:
        """Somebody asks."""
        self.requests.execute(
            ControlRequest(name=f"{verb}-1.json", verb=verb, actor="ann", made=made, arguments=arguments)
        )

    @property
    def reason(self) -> Reason:
        """What becomes of a signal that nothing else speaks against."""
        return self.desk.decide([proposal()])[0].reason

    @property
    def words(self) -> list[str]:
        """Why requests were refused."""
        return [event.payload["words"] for event in self.journal.events(kind=records.REQUEST_REFUSED)]

    @property
    def why(self) -> str:
        """What the journal says of arming in this session."""
        return recall_arming(self.journal.events()).denial_reason(TERMS, session().date)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as opened:
        yield opened


def test_a_session_that_is_not_armed_denies_with_its_own_reason(journal: Journal) -> None:
    """Exits-only with its cause, and NOT_ARMED for the signal; the terms are written down once."""
    bench = Bench(journal)
    assert bench.conditions.causes == (StateCause.NOT_ARMED,)
    assert bench.desk.exposure.current_state is RiskState.EXIT_ONLY
    assert bench.reason is Reason.NOT_ARMED
    Bench(journal)
    assert len(list(journal.events(kind=records.LIVE_TERMS))) == 1


def test_arming_lets_enter_and_says_who_asked(journal: Journal) -> None:
    """The request, the arming and the end of the cause stand in the journal, in this order."""
    bench = Bench(journal)
    bench.ask(ControlVerb.ARM, sessions="2")
    kinds = [event.kind for event in journal.events()]
    assert kinds[-3:] == [records.REQUEST, records.ARMED, records.STATE]
    armed = recall_arming(journal.events()).armed
    assert armed is not None
    assert (armed.actor, [day.day for day in armed.sessions]) == ("ann", [5, 6])
    assert (bench.conditions.causes, bench.reason) == ((), Reason.ALLOWED)


def test_disarming_takes_it_back(journal: Journal) -> None:
    """From then on nothing is entered, and the journal says who asked."""
    bench = Bench(journal)
    bench.ask(ControlVerb.ARM)
    bench.ask(ControlVerb.DISARM)
    assert (bench.conditions.causes, bench.reason) == ((StateCause.NOT_ARMED,), Reason.NOT_ARMED)
    assert bench.why == "requested by ann"


@pytest.mark.parametrize(
    ("made", "arguments", "words"),
    [
        (NOON, {"sessions": "6"}, "6 sessions cannot be armed: allowed are 1 to 5."),
        (NOON, {"sessions": "all"}, "'all' is not a number of sessions."),
        (NOON, {"settings": "zz"}, "It was made under other terms than those of the running bot: the settings have"),
        (NOON, {"plugins": "zz"}, "It was made under other terms than those of the running bot: the plugins have"),
        (NOON, {"mode": "zz"}, "It was made under other terms than those of the running bot: the mode has changed."),
        (NOON, {"account": "U9"}, "It was made under other terms than those of the running bot: the account is"),
        (
            NOON - dt.timedelta(days=3),
            {},
            "It was made for 2026-01-02 to 2026-01-02; this is the session of 2026-01-05.",
        ),
        (
            dt.datetime(2061, 1, 1, tzinfo=dt.UTC),
            {},
            "It was made at 2061-01-01T00:00:00+00:00, a date without sessions",
        ),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), {}, "It was made at 0001-01-01T00:00:00+00:00, a date without sessions"),
    ],
)
def test_what_does_not_fit_is_refused(
    journal: Journal, made: dt.datetime, arguments: dict[str, str], words: str
) -> None:
    """Too many sessions, no number, other terms, an old request: refused in words, and nothing is armed."""
    bench = Bench(journal)
    bench.ask(ControlVerb.ARM, made, **arguments)
    assert bench.words[0].startswith(words)
    assert bench.reason is Reason.NOT_ARMED


def test_a_loss_latch_disarms_once(journal: Journal) -> None:
    """What is armed after it stays armed, for the sessions to come."""
    bench = Bench(journal)
    bench.ask(ControlVerb.ARM, sessions="2")
    bench.desk.exposure.daily_loss = True
    bench.safety.update(ReconciliationStatus.MATCHED)
    assert (bench.why, bench.conditions.causes) == ("a loss latch is set", (StateCause.NOT_ARMED,))
    bench.ask(ControlVerb.ARM, sessions="2")
    bench.safety.update(ReconciliationStatus.MATCHED)
    assert bench.why == ""
    again = Bench(journal, restarted=True, latched=True)
    again.safety.update(ReconciliationStatus.MATCHED)
    assert (again.why, again.conditions.causes) == ("", ())


@pytest.mark.parametrize("field", ["settings", "plugins", "mode", "account"])
def test_a_start_under_other_terms_disarms(journal: Journal, field: str) -> None:
    """It is written down, so that going back to what was does not arm again."""
    Bench(journal).ask(ControlVerb.ARM)
    changed = Bench(journal, attrs.evolve(TERMS, **{field: "other"}))
    assert changed.reason is Reason.NOT_ARMED
    assert Bench(journal).reason is Reason.NOT_ARMED
    assert "changed" in recall_arming(journal.events()).why or field == "account"


def test_a_restart_waits_until_the_account_is_found_matched(journal: Journal) -> None:
    """Until then it is not armed, and says so; what is unsettled decides nothing yet."""
    Bench(journal).ask(ControlVerb.ARM)
    bench = Bench(journal, restarted=True)
    told = [event.payload["words"] for event in journal.events(kind=records.STATE)]
    assert (told[-1], bench.reason) == (UNMATCHED, Reason.NOT_ARMED)
    for verdict in (None, ReconciliationStatus.UNSETTLED):
        bench.safety.update(verdict)
        assert bench.reason is Reason.NOT_ARMED
    bench.safety.update(ReconciliationStatus.MATCHED)
    bench.safety.update(ReconciliationStatus.MATCHED)
    assert (bench.reason, len(list(journal.events(kind=records.ARMING_KEPT)))) == (Reason.ALLOWED, 1)


def test_a_restart_that_finds_something_else_disarms(journal: Journal) -> None:
    """A person has to look before anything is entered again."""
    Bench(journal).ask(ControlVerb.ARM)
    bench = Bench(journal, restarted=True)
    bench.safety.update(ReconciliationStatus.ADOPTED)
    bench.safety.update(ReconciliationStatus.MATCHED)
    assert bench.reason is Reason.NOT_ARMED
    assert bench.why.startswith("it was restarted, and the account differed from the journal")


def test_too_many_restarts_of_a_session_disarm(journal: Journal) -> None:
    """Three are survived; a bot that goes on dying is not let on."""
    Bench(journal).ask(ControlVerb.ARM)
    for _ in range(MOST_RESTARTS):
        bench = Bench(journal, restarted=True)
        bench.safety.update(ReconciliationStatus.MATCHED)
        assert bench.conditions.causes == ()
    bench = Bench(journal, restarted=True)
    bench.safety.update(ReconciliationStatus.MATCHED)
    assert bench.why == "the session was restarted more than 3 times"
    assert bench.reason is Reason.NOT_ARMED


def test_arming_after_a_restart_needs_no_waiting(journal: Journal) -> None:
    """Whoever arms has looked; the gate still waits for the account to be read."""
    Bench(journal).ask(ControlVerb.ARM)
    bench = Bench(journal, restarted=True)
    bench.ask(ControlVerb.ARM)
    assert bench.conditions.causes == ()


def put(folder: Path, verb: ControlVerb, name: str, order: int, made: dt.datetime = NOON) -> Path:
    """A request in the control folder; its file."""
    control.put_request(folder, ControlRequest(name=name, verb=verb, actor="ann", made=made, order=order))
    return folder / name


def pipe(path: Path) -> None:
    """A pipe in place of the file."""
    path.unlink()
    os.mkfifo(path, 0o600)


def subfolder(path: Path) -> None:
    """A folder in place of the file."""
    path.unlink()
    path.mkdir()


ATTACKS: dict[str, Callable[[Path], object]] = {
    "group may write": lambda path: path.chmod(0o620),
    "second name": lambda path: os.link(path, path.parent.with_name("second")),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "empty": lambda path: path.write_bytes(b""),
    "two documents": lambda path: path.write_bytes(path.read_bytes() * 2),
    "link": lambda path: path.symlink_to(path.rename(path.parent.with_name("target"))),
    "pipe": pipe,
    "folder": subfolder,
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_file_that_no_command_wrote_arms_nothing(journal: Journal, tmp_path: Path, attack: str) -> None:
    """It is refused once, and a request beside it is executed."""
    bench, folder = Bench(journal), tmp_path / "control"
    ATTACKS[attack](put(folder, ControlVerb.ARM, "arm-x.json", 1))
    for _ in range(2):
        bench.requests.poll(folder)
    assert (bench.reason, len(bench.words)) == (Reason.NOT_ARMED, 1)
    put(folder, ControlVerb.ARM, "arm-y.json", 2)
    bench.requests.poll(folder)
    assert bench.reason is Reason.ALLOWED


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("name", ["arm-x.json", "arm-y.json"])
def test_a_copy_of_an_old_request_arms_nothing(journal: Journal, tmp_path: Path, name: str, *, restarted: bool) -> None:
    """Under its own name or another one, after a restart too: what was disarmed since stays so."""
    bench, folder = Bench(journal), tmp_path / "control"
    old = put(folder, ControlVerb.ARM, "arm-x.json", 1).read_bytes()
    bench.requests.poll(folder)
    put(folder, ControlVerb.DISARM, "disarm-x.json", 2)
    bench.requests.poll(folder)
    bench = Bench(journal, restarted=True) if restarted else bench
    (folder / name).write_bytes(old)
    (folder / name).chmod(0o600)
    bench.requests.poll(folder)
    assert (bench.reason, [*folder.iterdir()]) == (Reason.NOT_ARMED, [])


@pytest.mark.parametrize("back", [dt.timedelta(), dt.timedelta(days=1)], ids=str)
@pytest.mark.parametrize("last", [ControlVerb.ARM, ControlVerb.DISARM])
@pytest.mark.parametrize("polled", [False, True], ids=["at once", "one by one"])
def test_of_an_arm_and_a_disarm_the_later_one_counts(
    journal: Journal, tmp_path: Path, last: ControlVerb, back: dt.timedelta, *, polled: bool
) -> None:
    """Whether the bot finds them together or not, also where the disarm has the clock of a day before."""
    bench, folder = Bench(journal), tmp_path / "control"
    verbs = [ControlVerb.ARM, ControlVerb.DISARM]
    for order, verb in enumerate(verbs if last is ControlVerb.DISARM else verbs[::-1], start=1):
        put(folder, verb, f"{verb}-x.json", order, NOON - (back if verb is ControlVerb.DISARM else dt.timedelta()))
        if polled:
            bench.requests.poll(folder)
    bench.requests.poll(folder)
    assert bench.reason is (Reason.ALLOWED if last is ControlVerb.ARM else Reason.NOT_ARMED)


def test_a_kill_neither_arms_nor_disarms(journal: Journal) -> None:
    """What is armed before or during a kill enters nothing until it is cleared, and is armed then."""
    bench = Bench(journal)
    for verb, blocked_by in (
        (ControlVerb.ARM, []),
        (ControlVerb.KILL, [StateCause.KILL_COMMAND]),
        (ControlVerb.ARM, [StateCause.KILL_COMMAND]),
        (ControlVerb.KILL_CLEAR, []),
        (ControlVerb.KILL, [StateCause.KILL_COMMAND]),
        (ControlVerb.DISARM, [StateCause.KILL_COMMAND, StateCause.NOT_ARMED]),
        (ControlVerb.KILL_CLEAR, [StateCause.NOT_ARMED]),
    ):
        bench.ask(verb)
        assert [*bench.conditions.causes] == blocked_by
