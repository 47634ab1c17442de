"""The heads of audit log and journal go to the log, from where they may be collected elsewhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import shutil
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.journal_guard import JournalGuard, log_chain_heads, with_chain_heads
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.instance import Instance
from tbot_core.instance.journal_chain import accept_head, older_journal, open_instance_journal
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import records
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import RiskState
from tbot_core.rehearsal.virtual_loop import VirtualLoop
from tbot_core.trading.risk.states import StateCause
from tbot_core.vault.audit_log import log_entries, log_head, log_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the module logged, without what every line has."""
    ours: list[Any] = [it.msg for it in caplog.records if it.name == "tbot_core.engine.journal_guard"]
    return [{name: it[name] for name in ("event", "secrets", "journal", "reason") if name in it} for it in ours]


@pytest.mark.parametrize(("days", "count"), [(0.1, 1), (2.5, 3)])
def test_a_day_of_a_run_that_trades_and_its_end_log_both_heads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: float, count: int
) -> None:
    """Each as the number of entries and the hash of the last; a simulation, which has no guard, logs none."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings()).note("open", "smtp", "ok")
    with closing(open_journal(instance.journal)) as journal:
        journal.append([NewEvent(kind="risk", payload={}, time=TIME)])
        entries, digest = journal.head
    loop = VirtualLoop()
    with caplog.at_level(logging.INFO):
        loop.run_until_complete(with_chain_heads(asyncio.sleep(9000), instance, JournalGuard()))
        assert logged(caplog) == []
        loop.run_until_complete(
            with_chain_heads(asyncio.sleep(days * 86400), instance, JournalGuard(instance=instance))
        )
    loop.close()
    heads = {"secrets": log_head(log_path(instance)).text, "journal": f"{entries}:{digest}"}
    assert logged(caplog) == [{"event": "chain.heads", **heads}] * count
    assert heads["secrets"].startswith("3:")


def test_a_run_that_fails_logs_the_heads_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And its exception is the one that is raised."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings())

    async def fail() -> None:
        raise RuntimeError("broken")

    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="broken"):
        asyncio.run(with_chain_heads(fail(), instance, JournalGuard(instance=instance)))
    assert [it["event"] for it in logged(caplog)][-1:] == ["chain.heads"]


def test_where_nothing_is_chained_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An instance without secrets and journal, and one whose journal is empty, have no head."""
    instance = Instance(tmp_path)
    with caplog.at_level(logging.INFO):
        log_chain_heads(instance)
        instance.data.mkdir()
        open_journal(instance.journal).close()
        log_chain_heads(instance)
    assert logged(caplog) == []


def test_a_head_that_cannot_be_read_is_logged_as_a_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on."""
    instance = Instance(tmp_path)
    instance.data.mkdir()
    instance.journal.write_bytes(b"no database" * 100)
    with caplog.at_level(logging.INFO):
        log_chain_heads(instance)
    (line,) = logged(caplog)
    assert line["event"] == "chain.heads_unknown"
    assert "is damaged" in line["reason"]


def heads(instance: Instance) -> list[str]:
    """The heads of the journal in the audit log, as numbers of its events."""
    found = [one.outcome for one in log_entries(log_path(instance)) if one.action == "anchor"]
    return [one.split()[1].partition(":")[0] for one in found]


def append(journal: Journal) -> None:
    """Write an event."""
    journal.append([NewEvent(kind="risk", payload={}, time=TIME)])


@contextmanager
def started(instance: Instance, *, guarded: bool = True) -> Iterator[tuple[JournalRecorder, JournalGuard]]:
    """What a start does with the journal."""
    guard = JournalGuard(instance=instance if guarded else None)
    with closing(open_instance_journal(instance)) as journal:
        recorder = JournalRecorder(journal=journal, clock=ManualClock(TIME))
        guard.begin(recorder)
        yield recorder, guard


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """An instance with an audit log and a journal of one event, whose head a run has recorded."""
    found = Instance(tmp_path)
    open_instance_vault(found, DeploymentSettings())
    with started(found) as (recorder, guard):
        append(recorder.journal)
        guard.note()
    return found


def test_a_run_that_trades_records_the_journals_head(instance: Instance) -> None:
    """At its start, every hour and at its end, where it has changed, when the journal is closed already."""
    loop = VirtualLoop()
    with started(instance) as (recorder, guard):
        append(recorder.journal)
        for seconds in (4000, 8900):
            loop.call_at(seconds, append, recorder.journal)

        async def work() -> None:
            await asyncio.sleep(9000)
            recorder.journal.close()

        loop.run_until_complete(with_chain_heads(work(), instance, guard))
    loop.close()
    assert heads(instance) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("kind", [records.REQUEST, records.STATE, records.ARMED, records.DISARMED])
def test_what_must_not_be_lost_is_in_the_head_at_once(instance: Instance, kind: str) -> None:
    """A kill, a latch or a disarm is not covered by an older copy of the same hour; other events wait for the hour."""
    loop = VirtualLoop()
    with started(instance) as (recorder, guard):
        noted = attrs.evolve(recorder, on_events=guard.on_events)

        async def work() -> None:
            await asyncio.sleep(1)
            noted.write(NewEvent(kind="risk", payload={}, time=noted.clock.now()))
            await asyncio.sleep(1)
            assert heads(instance) == ["1"]
            noted.write(NewEvent(kind=kind, payload={}, time=noted.clock.now()))
            await asyncio.sleep(1)
            assert heads(instance) == ["1", "3"]

        loop.run_until_complete(with_chain_heads(work(), instance, guard))
    loop.close()


def test_a_copy_that_took_the_journals_place_during_a_run_is_found(instance: Instance, tmp_path: Path) -> None:
    """The head is that of what the run wrote, not of the file that is there at its end."""
    shutil.copy2(instance.journal, tmp_path / "older")
    with started(instance) as (recorder, guard):
        append(recorder.journal)
        for path in instance.data.glob("tbot.sqlite*"):
            path.unlink()
        shutil.copy2(tmp_path / "older", instance.journal)
        guard.note()
    assert heads(instance) == ["1", "2"]
    assert older_journal(instance) is not None


def test_what_a_crash_wrote_after_the_last_head_blocks_nothing(instance: Instance) -> None:
    """The journal is on disk before its head is recorded."""
    with closing(open_instance_journal(instance)) as journal:
        append(journal)
    with started(instance) as (recorder, _):
        assert recorder.journal.last_event(records.STATE) is None
    assert heads(instance) == ["1", "2"]


def test_a_head_that_cannot_be_recorded_ends_no_run(instance: Instance, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged."""
    with started(instance) as (recorder, guard):
        append(recorder.journal)
        log_path(instance).write_bytes(b"no line\n")
        with caplog.at_level(logging.WARNING):
            guard.note()
    assert "journal.head_not_recorded" in caplog.text


def state(recorder: JournalRecorder) -> TradingStateController:
    """The state after the journal's events."""
    return TradingStateController(recorder, lambda _state: None, recall_states(recorder.journal.events()))


@pytest.fixture
def older(instance: Instance) -> Instance:
    """The instance without the journal whose head its audit log has."""
    for path in instance.data.glob("tbot.sqlite*"):
        path.unlink()
    return instance


def test_an_acceptance_without_a_bot_ends_the_cause_at_the_next_start(older: Instance) -> None:
    """Each start before it finds the cause again, records it once, and records no head."""
    for _ in range(2):
        with started(older) as (recorder, _guard):
            assert state(recorder).causes == (StateCause.JOURNAL_OLDER,)
            assert state(recorder).state is RiskState.EXIT_ONLY
            assert len(list(recorder.journal.events(kind=records.STATE))) == 1
    assert heads(older) == ["1"]
    accept_head(older)
    with started(older) as (recorder, _guard):
        assert not state(recorder).is_active(StateCause.JOURNAL_OLDER)
        assert state(recorder).state is RiskState.EXIT_ONLY  # until readings of the account have agreed for 60 s


def request() -> ControlRequest:
    """The request of a person who accepted the journal."""
    return ControlRequest(name="accept", verb=ControlVerb.ACCEPT_JOURNAL, actor="ann", made=TIME)


def test_a_running_bot_believes_the_audit_log_and_no_request(older: Instance) -> None:
    """The request only makes it compare again; where that fails the cause stays."""
    with started(older) as (recorder, guard):
        controller = state(recorder)
        assert guard.accept(controller, request()).startswith("The audit log does not say that it was accepted")
        accept_head(older)
        log = log_path(older).read_bytes()
        log_path(older).write_bytes(log.replace(b'"accept"', b'"anchor"'))
        assert "TB-SEC-115" in guard.accept(controller, request())
        assert controller.is_active(StateCause.JOURNAL_OLDER)
        log_path(older).write_bytes(log)
        assert not guard.accept(controller, request())
        assert not controller.is_active(StateCause.JOURNAL_OLDER)


def test_a_run_without_a_head_of_its_own_judges_nothing(older: Instance) -> None:
    """A dry run and a rehearsal have journals of their own."""
    with started(older, guarded=False) as (recorder, guard):
        assert recorder.journal.head[0] == 0
        assert not guard.accept(state(recorder), request())
