"""A run at a broker's own market, from its settings to its outcome."""

from __future__ import annotations

import shutil
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.cli.commands.run import exit_code
from tbot_core.cli.run_options import RunOptions
from tbot_core.contracts import AccountSnapshot, Feed, FeedLabel, FeedRequest, FeedSession, PositionReport, Urgency
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.journal_guard import JournalGuard
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.engine.session.arming import armed_event, live_context, record_terms
from tbot_core.errors import DataError, SettingsError, Unavailable
from tbot_core.instance import Instance, Mode
from tbot_core.instance.journal_chain import accept_head, note_head, open_instance_journal
from tbot_core.instance.report import planned_worst_day
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import records
from tbot_core.journal.projections.approvals import ArmingGrant, recall_arming
from tbot_core.journal.store import Event, JournalRecorder, NewEvent, open_journal, read_journal
from tbot_core.model.types import Account, Leg, SignalId
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.system import filesystem
from tbot_core.testing.trades import order
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from tbot_core.engine.assembly import Assembly

SETTINGS = "BROKER_NAME=PAPER\nCRITICAL_ALERT_CHANNEL=console\nROUTINE_ALERT_CHANNEL=console\n"


class Market:
    """A client of a simulated venue that also serves the running session's bars."""

    label = FeedLabel(name="world", simulated=True, quotes=False)

    def __init__(self, world: World) -> None:
        self._client = world.client(world.names[0])
        self._world = world
        self.empty = False
        self.capabilities = attrs.evolve(self._client.capabilities, feed=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def feed(self, request: FeedRequest) -> Feed:
        """Itself: it has one session."""
        assert request.kind == "live"
        return cast("Feed", self)

    async def sessions(self) -> AsyncIterator[FeedSession]:
        """The world's session, or none."""
        if not self.empty:
            yield self._world.feed()


@attrs.define(eq=False)
class House:
    """An instance beside a world without faults."""

    world: World
    home: Path

    def run(self, broker: Market | None = None, mode: Mode = "paper") -> RunOutcome:
        """One run to its end; a live one is put together like a paper one, which no file approves."""
        market, assembly = broker or Market(self.world), assemble(self.home, "paper", self.world.clock)
        loaded = tuple(
            attrs.evolve(one, plugin=attrs.evolve(one.plugin, create=lambda _config, _context: market))
            if one.entry.kind == "broker"
            else one
            for one in assembly.loaded
        )
        settings = attrs.evolve(assembly.settings, mode=mode)
        matching = self.world.ways[0].exchange.matching
        matching.character = attrs.evolve(matching.character, live=mode == "live")
        plan = RunPlan(
            assembly=attrs.evolve(assembly, calendar=self.world.calendar, loaded=loaded, settings=settings),
            request=FeedRequest(kind="live"),
            wall=self.world.clock,
            once=True,
            watch_s=1.0,
            journal_guard=JournalGuard(instance=Instance(self.home)),
        )
        return self.world.run(lambda: run(plan, RunWatcher()))

    def events(self, kind: str) -> list[Event]:
        """What the journal holds of a kind."""
        journal = read_journal(self.home / "data" / "tbot.sqlite")
        try:
            return list(journal.events(kind=kind))
        finally:
            journal.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Paper settings, console alerts."""
    filesystem.write_atomic(tmp_path / ".env_bot", SETTINGS.encode())
    return House(World(5, (), rates={}, minutes=25), tmp_path)


@pytest.mark.slow
def test_a_day_at_a_brokers_market_ends_with_its_summary_and_report(house: House) -> None:
    """The run's start is written down with the account's equity, and the report is there at the end.

    Paper has no first live day.
    """
    outcome = house.run()
    assert not outcome.stopped
    assert outcome.summary.sessions == 1
    assert outcome.summary.report is not None
    (start,) = house.events(records.RUN_STARTED)
    assert start.payload["mode"] == "paper"
    assert not [one for one in house.events(records.SESSION_OPENED) if "first_live_day_cap" in one.payload]
    assert len(house.events(records.SESSION_CLOSED)) == 1


@pytest.mark.slow
def test_a_stop_is_an_outcome_that_names_what_is_open(house: House) -> None:
    """Nothing was traded, so nothing is; the journal says that the run was stopped."""
    world = house.world
    folder = house.home / "control"
    world.loop.call_at(
        LEAD_S / 2,
        lambda: control.write_request(folder, control.ControlVerb.STOP, actor="me", now=world.clock.now()) and None,
    )
    outcome = house.run()
    assert (outcome.stopped, outcome.open) == (True, ())
    assert [event.payload["open"] for event in house.events(records.STOPPED)] == [[]]


class Away(Market):
    """It neither lets us in nor says what it holds."""

    async def connect(self) -> Account:
        """The login is refused."""
        raise Unavailable("the line is dead.", "Wait.")

    async def snapshot(self, _since: datetime) -> AccountSnapshot:
        """Nothing can be read."""
        raise Unavailable("the line is dead.", "Wait.")


@pytest.mark.slow
def test_a_stop_that_nobody_could_confirm_wakes_somebody(house: House) -> None:
    """By the books nothing is open; that the account could not be read is said, and the run has failed."""
    folder = house.home / "control"
    house.world.loop.call_at(
        LEAD_S / 2,
        lambda: (
            control.write_request(folder, control.ControlVerb.STOP, actor="me", now=house.world.clock.now()) and None
        ),
    )
    outcome = house.run(Away(house.world))
    assert (outcome.stopped, outcome.open, outcome.unconfirmed) == (True, (), "the line is dead.")
    assert exit_code(RunOptions(mode="paper", home=house.home), outcome) == 1
    (told,) = house.events(records.STOPPED)
    assert told.payload == {"open": [], "unconfirmed": "the line is dead."}
    (notice,) = AlertRules(RoutineEvents()).apply(told)
    words = "the books show nothing open, but the account could not be read: the line is dead."
    assert (notice.urgency, notice.what) == (Urgency.CRITICAL, f"The run was stopped; {words}")


class Holds(Market):
    """It holds seven KO of which the books know nothing."""

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """What an order has bought without a report."""
        found = await self._client.snapshot(since)
        return attrs.evolve(found, holdings=(PositionReport(symbol="KO", quantity=Decimal(7)),))


@pytest.mark.slow
def test_what_the_broker_holds_as_a_run_ends_is_open_to_its_words_and_its_exit_code(house: House) -> None:
    """The books know nothing of it, so that it is protected by nothing either."""
    folder = house.home / "control"
    house.world.loop.call_at(
        LEAD_S / 2,
        lambda: (
            control.write_request(folder, control.ControlVerb.STOP, actor="me", now=house.world.clock.now()) and None
        ),
    )
    outcome = house.run(Holds(house.world))
    assert (outcome.stopped, outcome.open, outcome.unprotected, outcome.stuck) == (True, ("KO",), ("KO",), ())
    assert exit_code(RunOptions(mode="paper", home=house.home), outcome) == 1


@pytest.mark.slow
def test_a_source_without_the_days_bars_is_named(house: House) -> None:
    """Trading blind is refused."""
    market = Market(house.world)
    market.empty = True
    with pytest.raises(DataError, match="world supplies no bars of"):
        house.run(market)
    assert house.events(records.SESSION_OPENED) == []


@pytest.mark.slow
def test_a_live_day_is_not_ready_until_it_is_armed(house: House) -> None:
    """It says so before the bell; armed in time it says that it is ready, and what it was armed for is written down."""
    world = house.world
    folder = house.home / "control"
    world.loop.call_at(
        LEAD_S / 2,
        lambda: control.write_request(folder, control.ControlVerb.ARM, actor="me", now=world.clock.now()) and None,
    )
    house.run(mode="live")
    (told,) = house.events(records.NOT_READY)
    assert told.payload["reasons"] == ["not armed"]
    (armed,), (ready,) = house.events(records.ARMED), house.events(records.READY)
    assert told.seq < armed.seq < ready.seq
    said = {name: ready.payload[name] for name in ("mode", "armed", "feed", "worst_day")}
    (opened,) = house.events(records.SESSION_OPENED)
    assert ready.payload["first_live_day_cap"] == opened.payload["first_live_day_cap"] == "500.00"
    worst = str(planned_worst_day(assemble(house.home, "paper", world.clock).settings).worst_day)
    assert said == {"mode": "live", "armed": armed.payload["sessions"][-1], "feed": "world", "worst_day": worst}


@pytest.mark.slow
def test_a_simulation_is_not_traded_live(house: House) -> None:
    """A broker whose fills are made up here takes no live section."""
    market = Market(house.world)
    market.capabilities = attrs.evolve(market.capabilities, simulated=True)
    with pytest.raises(SettingsError, match="is a simulator"):
        house.run(market, mode="live")


class Deaf(Market):
    """It does not say its sessions to the first who ask."""

    silences = 1

    async def sessions(self) -> AsyncIterator[FeedSession]:
        """The world's session, once it answers."""
        if self.silences:
            self.silences -= 1
            raise Unavailable("the vendor does not answer", "Wait.")
        yield self._world.feed()


@pytest.mark.slow
def test_a_feed_that_does_not_answer_once_is_asked_again(house: House) -> None:
    """That the day is not ready is said with the reason, and the session is traded once the feed answers."""
    house.run(Deaf(house.world))
    (told,) = house.events(records.NOT_READY)
    assert told.payload["reasons"] == ["the feed does not respond: the vendor does not answer"]
    assert len(house.events(records.READY)) == 1
    assert len(house.events(records.SESSION_CLOSED)) == 1


@pytest.mark.slow
def test_a_day_whose_feed_never_answers_is_not_traded(house: House) -> None:
    """NOT READY is said every ten minutes to the close; then the next session is waited for."""
    world, folder = house.world, house.home / "control"
    market = Deaf(world)
    market.silences = 10_000
    after_s = LEAD_S + (world.session.close - world.session.open).total_seconds() + 120.0
    world.loop.call_at(
        after_s, lambda: control.write_request(folder, control.ControlVerb.STOP, actor="me", now=world.start) and None
    )
    assert house.run(market).stopped
    assert house.events(records.SESSION_OPENED) == []
    told = [event.applied for event in house.events(records.NOT_READY)]
    assert len(told) == 3
    assert told[-1] < world.session.close


def test_a_live_start_is_recorded_before_its_first_session(house: House) -> None:
    """The status then knows that trading is live while the bot waits."""
    market = Market(house.world)
    market.empty = True
    with pytest.raises(DataError):
        house.run(market, "live")
    (found,) = house.events(records.LIVE_TERMS)
    assert (found.payload["mode"], found.payload["account"]) == ("live", "")


def test_the_terms_of_a_start_are_recorded_when_they_change(house: House) -> None:
    """A later paper start ends those of live trading, and a repeated start adds nothing."""
    made = assemble(house.home, "paper", house.world.clock)
    with closing(open_journal(house.home / "journal.sqlite")) as journal:
        recorder = JournalRecorder(journal=journal, clock=house.world.clock, on_events=lambda _: None)
        for mode in ("paper", "live", "live", "paper", "paper", "live"):
            record_terms(attrs.evolve(made, settings=attrs.evolve(made.settings, mode=mode)), recorder)
        found = [one.payload["mode"] for one in journal.events(kind=records.LIVE_TERMS)]
    assert found == ["live", "paper", "live"]


def test_a_live_arming_does_not_survive_a_paper_run(house: House) -> None:
    """A change of mode ends it, as docs/going-live.md says: going back to live does not arm again, a new arm does."""
    made = assemble(house.home, "paper", house.world.clock)
    live = attrs.evolve(made, settings=attrs.evolve(made.settings, mode="live"))
    terms, days = live_context(live, "").terms, (house.world.session.date,)
    grant = ArmingGrant(terms=terms, sessions=days, actor="ann")
    with closing(open_journal(house.home / "journal.sqlite")) as journal:
        recorder = JournalRecorder(journal=journal, clock=house.world.clock, on_events=lambda _: None)

        def started(*assemblies: Assembly) -> str:
            for one in assemblies:
                record_terms(one, recorder)
            return recall_arming(journal.events()).denial_reason(terms, days[0])

        record_terms(live, recorder)
        recorder.record(armed_event(grant))
        assert started(live) == ""
        assert started(made, live) == "the mode has changed"
        assert started(made, live) == "the mode has changed"
        assert len(list(journal.events(kind=records.DISARMED))) == 1
        recorder.record(armed_event(grant))
        assert started(live) == ""


@pytest.mark.parametrize(
    ("install_id", "refused"), [("another", True), pytest.param("", False, marks=pytest.mark.slow)]
)
def test_a_start_beside_another_install_is_refused(house: House, install_id: str, *, refused: bool) -> None:
    """An open order with its mark ends the start before the session opens; one without a mark is external."""
    naming = ClientOrderIds(install_id=install_id, identity="", account_id="A1")
    signal = SignalId(session=house.world.feed().session.date, strategy="open", symbol="AAA", minute=5, rule="break")
    cid = naming.client_order_id(signal, Leg.STOP) if install_id else "by hand"
    matching = house.world.ways[0].exchange.matching
    resting = order(quantity="3", symbol=min(house.world.feed().symbols), buy=True, limit="0.01")
    matching.rest(matching.accept(attrs.evolve(resting, client_order_id=cid)))
    if refused:
        with pytest.raises(SettingsError, match=f"Another tbot install has 1 open order at .*{cid}"):
            house.run()
    else:
        house.run()
    found = house.events(records.FOREIGN_ORDER)[0]
    assert found.payload["symbol"] == resting.symbol
    assert bool(house.events(records.SESSION_OPENED)) is not refused
    assert not [one for one in house.world.ways[0].requests if refused and one.kind in {"submit", "cancel"}]


@pytest.mark.slow
def test_an_older_journal_brings_back_no_arming(house: House) -> None:
    """It trades nothing until it is accepted; what was armed in it, or is armed before, does not count afterwards."""
    world, folder, instance = house.world, house.home / "control", Instance(house.home)
    open_instance_vault(instance, DeploymentSettings())
    made = assemble(house.home, "paper", world.clock)
    live = attrs.evolve(made, settings=attrs.evolve(made.settings, mode="live"))
    grant = ArmingGrant(terms=live_context(live, "").terms, sessions=(world.session.date,), actor="ann")
    with closing(open_instance_journal(instance)) as journal:
        recorder = JournalRecorder(journal=journal, clock=world.clock, on_events=lambda _: None)
        record_terms(live, recorder)
        recorder.record(armed_event(grant))
        shutil.copytree(instance.data, house.home / "older")
        recorder.write(NewEvent(kind=records.DISARMED, payload={"why": "requested by ann"}, time=recorder.clock.now()))
        note_head(instance, journal.head)
    for path in (house.home / "older").glob("tbot.sqlite*"):
        shutil.copy2(path, instance.data)

    def ask(verb: control.ControlVerb) -> None:
        control.write_request(folder, verb, actor="ann", now=world.clock.now())

    world.loop.call_at(LEAD_S / 4, ask, control.ControlVerb.ARM)
    world.loop.call_at(LEAD_S / 3, ask, control.ControlVerb.ACCEPT_JOURNAL)
    world.loop.call_at(LEAD_S / 2, accept_head, instance)
    world.loop.call_at(LEAD_S / 2 + 2, ask, control.ControlVerb.ACCEPT_JOURNAL)
    world.loop.call_at(LEAD_S / 2 + 4, ask, control.ControlVerb.ARM)
    house.run(mode="live")

    refused = [one.payload["words"] for one in house.events(records.REQUEST_REFUSED)]
    assert len(refused) == 2
    assert "`tbot audit accept` comes first" in refused[0]
    assert refused[1].startswith("The audit log does not say that it was accepted")
    (disarmed,) = house.events(records.DISARMED)
    assert disarmed.payload["why"] == StateCause.JOURNAL_OLDER.value
    states = [one for one in house.events(records.STATE) if one.payload["cause"] == StateCause.JOURNAL_OLDER.name]
    assert [(one.payload["there"], one.payload["words"]) for one in states[1:]] == [
        (False, "requested by ann"),
        (False, "over"),
    ]
    assert "perhaps a kill, a stop or a disarm" in states[0].payload["words"]
    assert (states[2].applied - states[1].applied).total_seconds() >= 60
    (_, armed), (ready,) = house.events(records.ARMED), house.events(records.READY)
    assert states[1].seq < armed.seq < states[2].seq < ready.seq
    assert StateCause.JOURNAL_OLDER.value in house.events(records.NOT_READY)[0].payload["reasons"]
