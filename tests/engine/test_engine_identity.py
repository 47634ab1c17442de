"""Whose orders a run's are: the bot's identity in their ids, and what is said of a bot without one."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.instance import Instance, secrets
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

ONE, OTHER = "ACME_US_PAPER_B01", "ACME_US_PAPER_B02"
BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)


def instance(home: Path, name: str = "") -> Path:
    """An instance with the demo's settings, the same install in every test, and an identity."""
    create_demo_instance(home)
    (home / "data").mkdir(exist_ok=True)
    (home / "data" / "install.id").write_text("one\n")
    return called(home, name)


def called(home: Path, name: str) -> Path:
    """The instance with this identity; empty for none."""
    if name:
        vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
        secrets.encrypt_category(vault, "bot_identity", json.dumps({"BOT_IDENTITY_STRING": name}).encode())
    return home


def demo(home: Path, *, until: int | None = None) -> RunOutcome:
    """One simulated session, stopped after this minute."""
    stop = asyncio.Event()

    def minute(_session: TradingSession, index: int) -> None:
        if index == until:
            stop.set()

    assembly = assemble(home, "demo", SystemClock())
    plan = RunPlan(assembly=assembly, request=FeedRequest(kind="demo"), wall=SystemClock(), stop=stop)
    return asyncio.run(run(plan, RunWatcher(on_minute=minute)))


def ids(outcome: RunOutcome) -> list[str]:
    """The client order ids of everything that was intended."""
    journal = read_journal(outcome.journal)
    found = [str(event.cid) for event in journal.events(kind=records.INTENDED)]
    journal.close()
    return found


@pytest.mark.slow
def test_the_identity_enters_the_ids_of_orders(tmp_path: Path) -> None:
    """The same bot gives the same ids, another one others, in the same trades."""
    first, again, other, none = (
        demo(instance(tmp_path / name, identity))
        for name, identity in (("a", ONE), ("b", ONE), ("c", OTHER), ("d", ""))
    )
    assert ids(first)
    assert ids(first) == ids(again)
    assert not set(ids(first)) & set(ids(other))
    assert not set(ids(first)) & set(ids(none))
    assert ONE.lower() not in " ".join(ids(first))
    assert first.summary.trades == other.summary.trades


@pytest.mark.slow
def test_the_ids_of_a_simulation_are_the_same_on_every_machine(tmp_path: Path) -> None:
    """Losses of one minute count by client order id, so that a simulation's result must not depend on the install."""
    here, there = instance(tmp_path / "a", ONE), instance(tmp_path / "b", ONE)
    (there / "data" / "install.id").write_text("two\n")
    assert ids(demo(here)) == ids(demo(there))


@pytest.mark.slow
def test_a_bot_without_an_identity_says_so_once(tmp_path: Path) -> None:
    """Of a run whose journal somebody may want to tell from another's; a demo and a bot with a name are silent."""
    nameless, named = instance(tmp_path / "a"), instance(tmp_path / "b", ONE)
    for mode in ("paper", "replay", "backtest"):
        notes = assemble(nameless, mode, SystemClock()).notes
        assert [note for note in notes if "no identity" in note] == [
            (
                "The bot has no identity, so its client order ids contain no identity: "
                "`tbot secrets set bot_identity` sets it."
            )
        ]
        assert not [note for note in assemble(named, mode, SystemClock()).notes if "no identity" in note]
    assert not [note for note in assemble(nameless, "demo", SystemClock()).notes if "identity" in note]


@pytest.mark.slow
def test_another_bot_begins_an_unfinished_run_anew(tmp_path: Path) -> None:
    """A simulation that somebody else stopped is nothing to go on from."""
    home = instance(tmp_path / "a", ONE)
    assert demo(home, until=100).stopped
    called(home, OTHER)
    assert ids(demo(home)) == ids(demo(instance(tmp_path / "b", OTHER)))
