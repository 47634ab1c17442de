"""Observers never affect a run, and keys come from the first provider that has them."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import logging
import sys
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest, Plugin, RunInfo
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.errors import PluginError, VaultError
from tbot_core.instance import Instance, load_settings, read_settings_files, secrets
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.plugins import discovery, lock
from tbot_core.plugins.call_guard import CallGuard, FailedCall
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.hook_calls import PluginObservers, key_provider, risk_checks
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.system.isolated_calls import FAILURES, WITHIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tbot_core.plugins.failure import PluginFailure

RUN = RunInfo(run_id="r1", mode="replay")

ORDER: Any = object()

STRICT = CallGuard(strict=True)

CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))


class Recorder:
    """A plugin that records its calls, and fails while `faulty`."""

    def __init__(self, name: str, received: list[object]) -> None:
        self.name = name
        self.received = received
        self.faulty = False

    @hookimpl
    def tbot_started(self, run: RunInfo) -> None:
        """Write down the start."""
        self.received.append((self.name, "started", run.run_id))

    @hookimpl
    def tbot_event(self, event: Mapping[str, object]) -> None:
        """Write down the event, or fail."""
        if self.faulty:
            raise RuntimeError("cannot write")
        self.received.append((self.name, event["kind"]))

    @hookimpl
    def tbot_stopped(self) -> None:
        """Write down the end; the argument is left out, as any may be."""
        self.received.append((self.name, "stopped"))


class Checks:
    """A plugin with a risk check."""

    def __init__(self, offer: object) -> None:
        self.offer = offer

    @hookimpl
    def tbot_risk_checks(self) -> Any:
        """Give the check, or fail."""
        if isinstance(self.offer, Exception):
            raise self.offer
        return self.offer


@attrs.frozen
class Config:
    """A config without settings."""


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def registered(loader: PluginLoader, **subjects: object) -> tuple[LoadedPlugin, ...]:
    """The subjects as loaded plugins under these names."""
    loaded = []
    for name, subject in subjects.items():
        if not loader.manager.is_registered(subject):
            loader.manager.register(subject, name)
        plugin = Plugin(name=name, summary="", config=Config, create=lambda _config, _context: None)
        entry = EntryPointInfo(kind="extension", name=name, dist=name, version="1", target=name)
        loaded.append(LoadedPlugin(entry=entry, plugin=plugin, subject=subject))
    return tuple(loaded)


def reporting(reported: list[Any]) -> CallGuard:
    """A guard that writes down the observers that are switched off."""
    guard = CallGuard(strict=False, clock=CLOCK)
    guard.on_observer_off = reported.append
    return guard


def observing(
    *names: str,
) -> tuple[PluginObservers, dict[str, Recorder], list[object], ManualClock, list[PluginFailure]]:
    """Observers of these names on a manual clock, and everything that they report."""
    received: list[object] = []
    recorders = {name: Recorder(name, received) for name in names}
    clock = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
    reported: list[PluginFailure] = []
    loader = PluginLoader()
    loaded = registered(loader, **recorders)
    return PluginObservers(loader, loaded, clock=clock, guard=reporting(reported)), recorders, received, clock, reported


def test_all_are_called_in_order() -> None:
    """Start, events and end reach every observer, in the order of kind and name."""
    observers, _, received, _, _ = observing("b", "a")
    observers.started(RUN)
    observers.event({"kind": "fill"})
    observers.stopped(RUN)
    assert received == [
        ("a", "started", "r1"),
        ("b", "started", "r1"),
        ("a", "fill"),
        ("b", "fill"),
        ("a", "stopped"),
        ("b", "stopped"),
    ]


def test_a_failing_observer_keeps_the_others_informed(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged with its traceback, and the next observer is called all the same."""
    observers, recorders, received, _, reported = observing("a", "b")
    recorders["a"].faulty = True
    observers.event({"kind": "fill"})
    assert received == [("b", "fill")]
    assert reported == []
    assert "cannot write" in caplog.text


def test_the_third_failure_in_ten_minutes_switches_off() -> None:
    """The plugin is reported once, with its last error, and called no more."""
    observers, recorders, received, clock, reported = observing("a")
    recorders["a"].faulty = True
    for _ in range(FAILURES):
        assert reported == []
        observers.event({"kind": "fill"})
        clock.advance(WITHIN_S / 2)
    (failure,) = reported
    assert (failure.name, failure.phase, failure.error) == ("a", "observe", "RuntimeError: cannot write")
    recorders["a"].faulty = False
    observers.event({"kind": "fill"})
    observers.stopped(RUN)
    assert received == []


def test_failures_far_apart_are_forgiven() -> None:
    """Three failures that do not lie within ten minutes leave the plugin on."""
    observers, recorders, _, clock, reported = observing("a")
    recorders["a"].faulty = True
    for _ in range(10):
        observers.event({"kind": "fill"})
        clock.advance(WITHIN_S / 2 + 1)
    assert reported == []


def test_an_event_cannot_be_changed_by_an_observer() -> None:
    """Observers get a view that refuses changes."""
    loader = PluginLoader()
    seen: list[Any] = []

    class StoredKeys:
        @hookimpl
        def tbot_event(self, event: Mapping[str, object]) -> None:
            seen.append(event)

    loaded = registered(loader, k=StoredKeys())
    observers = PluginObservers(loader, loaded, clock=CLOCK, guard=reporting(seen))
    observers.event({"kind": "fill"})
    with pytest.raises(TypeError):
        seen[0]["kind"] = "other"


def test_one_object_behind_two_entries_is_called_once_and_silent_ones_never() -> None:
    """An object that offers two plugins observes as one; without observers nothing happens."""
    received: list[object] = []
    loader = PluginLoader()
    both = Recorder("both", received)
    observers = PluginObservers(
        loader,
        registered(loader, a=both, b=both, c=Checks(None)),
        clock=CLOCK,
        guard=reporting(received),
    )
    observers.event({"kind": "fill"})
    assert received == [("both", "fill")]
    PluginObservers(PluginLoader(), (), clock=CLOCK, guard=reporting(received)).event({"kind": "fill"})


def test_risk_checks_pass_or_deny() -> None:
    """Each plugin's check keeps its answer, under the plugin's name, in the order given."""
    loader = PluginLoader()
    yes, no = Checks(lambda _order: None), Checks(lambda _order: "Not on Fridays.")
    checks, failures = risk_checks(loader, registered(loader, a=yes, b=no, c=Recorder("c", []), d=no), STRICT)
    assert failures == ()
    assert [(name, check(ORDER)) for name, check in checks] == [("a", None), ("b", "Not on Fridays.")]


@pytest.mark.parametrize("answer", [True, "", " ", 0])
def test_any_other_answer_denies(answer: object) -> None:
    """Neither None nor a sentence is no permission."""
    loader = PluginLoader()
    ((_, check),), _ = risk_checks(loader, registered(loader, a=Checks(lambda _order: answer)), STRICT)
    with pytest.raises(PluginError, match=r"^check: It returned \w+, neither None nor a sentence\."):
        check(ORDER)


def test_a_failing_check_denies_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a check, or an exit, is a failure of the plugin in its words, which denies the order."""
    loader = PluginLoader()
    ((_, check),), _ = risk_checks(loader, registered(loader, a=Checks(lambda _order: 1 / 0)), STRICT)
    with pytest.raises(PluginError, match=r"^check: ZeroDivisionError: division by zero `tbot plugins info`"):
        check(ORDER)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("offer", "words"), [(RuntimeError("no limit"), "RuntimeError: no limit"), ("a limit", "returned no function")]
)
def test_a_plugin_whose_check_cannot_be_had_is_a_failure(offer: object, words: str) -> None:
    """The failure names the phase, so that a run which needs the limit can refuse."""
    loader = PluginLoader()
    checks, (failure,) = risk_checks(loader, registered(loader, a=Checks(offer)), STRICT)
    assert checks == ()
    assert failure.phase == "risk_checks"
    assert words in failure.error


def test_f92_an_observer_that_hangs_holds_a_run_up_for_its_limit_and_no_longer() -> None:
    """It is interrupted, counted as a failure, and the others are called; what has no limit may take its time."""

    class Hangs:
        @hookimpl
        def tbot_event(self) -> None:
            """Never return."""
            while True:
                pass

        @hookimpl
        def tbot_stopped(self) -> None:
            """Take longer than an event may."""
            until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.05)
            while dt.datetime.now(dt.UTC) < until:
                pass
            received.append("stopped")

    received: list[object] = []
    reported: list[PluginFailure] = []
    loader = PluginLoader()
    loaded = registered(loader, a=Hangs(), b=Recorder("b", received))
    observers = PluginObservers(loader, loaded, clock=CLOCK, guard=reporting(reported), limits_s={"tbot_event": 0.01})
    observers.stopped(RUN)
    for _ in range(FAILURES):
        observers.event({"kind": "fill"})
    assert received == ["stopped", ("b", "stopped"), *[("b", "fill")] * FAILURES]
    assert "0.01 s and was interrupted" in reported[0].error


LOOKER = '''
import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl

SEEN = []


@attrs.frozen(kw_only=True)
class Config:
    """No settings."""


@hookimpl
def tbot_extension():
    return Plugin(name="{name}", summary="Looks on", config=Config, create=lambda config, context: object())


@hookimpl
def tbot_event({argument}):
    SEEN.append({argument} or "an event")
'''


@pytest.mark.slow
def test_an_observer_gets_the_time_of_each_event(tmp_path: Path, plant: Callable[..., EntryPointInfo]) -> None:
    """Kind, client order id, time and payload are those of the journal; one that takes no argument is called too."""
    for name, argument in (("looker", "event"), ("older", "")):
        body = LOOKER.replace("{name}", name).replace("{argument}", argument).replace("( or ", "(")
        plant(name, body, kind="extension")
    create_demo_instance(tmp_path)
    plan = RunPlan(
        assembly=assemble(tmp_path, "demo", CLOCK), request=FeedRequest(kind="demo", sessions=1, seed=0), wall=CLOCK
    )
    outcome = asyncio.run(run(plan, RunWatcher()))
    with closing(read_journal(outcome.journal)) as journal:
        events = {(one.kind, one.cid, one.applied): one.payload for one in journal.events()}
    seen = importlib.import_module("their_looker").SEEN
    assert len(seen) > 10
    assert all(set(one) == {"kind", "cid", "time", "payload"} for one in seen)
    assert [one for one in seen if events[one["kind"], one["cid"], one["time"]] is None] == []
    assert len(importlib.import_module("their_older").SEEN) == len(seen)


def test_f92_an_observer_that_hung_is_not_called_in_its_session_and_each_call_is_marked() -> None:
    """The watchdog can name the hook that an observer is in; one that is off gets neither start nor events."""
    received: list[object] = []
    loader, guard = PluginLoader(), CallGuard(strict=False, clock=CLOCK)
    lost = FailedCall(plugin="extension/a", call="tbot_started", turn=0, error="it hung", off=True)
    guard.note_hung([(CLOCK.now(), lost)])

    def where(words: str) -> nullcontext[None]:
        received.append(words)
        return nullcontext()

    guard.where = where
    loaded = registered(loader, a=Recorder("a", received), b=Recorder("b", received))
    observers = PluginObservers(loader, loaded, clock=CLOCK, guard=guard)
    observers.started(RUN)
    observers.event({"kind": "fill"})
    moment = CLOCK.now().isoformat()
    assert received == [
        f"extension/b tbot_started 0 {moment}",
        ("b", "started", "r1"),
        f"extension/b tbot_event 0 {moment}",
        ("b", "fill"),
    ]


BODY = """
import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl

HELD = {}


@attrs.frozen(kw_only=True)
class Config:
    pass


class Keys:
    capabilities = frozenset({"put"})

    def get_key(self, category, slot):
        return HELD.get((category, slot))

    def put_key(self, category, slot, key):
        HELD[category, slot] = bytes(key)


@hookimpl
def tbot_extension():
    name = __name__.removeprefix("their_")
    return Plugin(name=name, summary="Keys", config=Config, create=lambda config, context: config)
"""

KEPT = """

HELD.update({(name, "cur"): bytes(range(start, start + 32)) for start, name in enumerate(("audit", "env_bot"))})
"""

ANSWERING = BODY + "\n\n@hookimpl\ndef tbot_key_provider(context):\n    return ANSWER\n"


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Keys come from plugins in these tests, and no provider outlives its test.
    monkeypatch.setenv("TBOT_KEY_PROVIDER", "plugin")
    secrets.forget_passphrases()
    yield
    secrets.forget_passphrases()


def test_settings_open_with_the_keys_of_a_plugin(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """A plugin's keys encrypt and open, no key file is made; extensions that answer None or nothing are passed over."""
    plant("first", BODY, kind="extension")
    plant("second", ANSWERING.replace("ANSWER\n", "None\n"), kind="extension")
    plant("third", ANSWERING.replace("ANSWER\n", "Keys()\n"), kind="extension")
    home = tmp_path / "x"
    secrets.encrypt_category(
        secrets.open_instance_vault(Instance(home), DeploymentSettings()),
        "env_bot",
        b"STRATEGY_SEQUENCE=open\nSEED=7\n",
    )
    assert load_settings(home, mode="replay").simulation.seed == 7
    assert not list(home.rglob("*.key"))


def test_no_plugin_that_provides_is_an_error(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """The environment asked for a plugin's keys: key files do not step in."""
    plant("first", BODY, kind="extension")
    assert key_provider(tmp_path, SystemClock()) is None
    with pytest.raises(VaultError, match="TB-SEC"):
        secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())


@pytest.mark.parametrize("answer", ["1 / 0", "'a key'"])
def test_a_plugin_that_fails_is_named(plant: Callable[..., EntryPointInfo], tmp_path: Path, answer: str) -> None:
    """An answer that raises, or is no provider, stops each use of secrets."""
    plant("faulty", ANSWERING.replace("ANSWER\n", f"{answer}\n"), kind="extension")
    with pytest.raises(PluginError, match="faulty"):
        key_provider(tmp_path, SystemClock())


def test_live_asks_those_alone_that_were_approved(
    plant: Callable[..., EntryPointInfo], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock, and with a changed file, nothing is imported; what the lock does not name is never imported."""
    monkeypatch.setattr(sys, "pycache_prefix", None)
    plant("chosen", ANSWERING.replace("ANSWER\n", "Keys()\n") + KEPT, kind="extension")
    instance = Instance(tmp_path / "x")
    secrets.encrypt_category(
        secrets.open_instance_vault(instance, DeploymentSettings()), "env_bot", b"STRATEGY_SEQUENCE=open\nSEED=7\n"
    )
    plant("stranger", "1 / 0", kind="extension")
    assert refused(instance).startswith("Live trading imports only approved plugins:\n")
    approve(instance.home, "chosen")
    source = site / "their_chosen" / "__init__.py"
    text = source.read_text()
    source.write_text(f"{text}\n# changed")
    assert "The extension chosen has a changed file: their_chosen/__init__.py." in refused(instance)
    assert sys.pycache_prefix is None
    source.write_text(text)
    assert read_settings_files(instance, live=True).texts()["SEED"] == "7"
    assert "their_chosen" in sys.modules
    assert "their_stranger" not in sys.modules
    assert sys.pycache_prefix == str(instance.data / "bytecode")


def refused(instance: Instance) -> str:
    """Why live trading opens nothing; no extension was imported for it."""
    secrets.forget_passphrases()
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]
    with pytest.raises(PluginError) as caught:
        read_settings_files(instance, live=True)
    assert not [name for name in sys.modules if name.startswith("their_")]
    return caught.value.message


def approve(home: Path, name: str) -> None:
    """Write a lock of one extension."""
    listings = discovery.mark_enabled(discovery.installed_plugins(), {("extension", name)})
    approval = lock.LockApproval(approver="me", date=datetime(2026, 11, 24, tzinfo=UTC))
    lock.write_lock(home, lock.make_lock(listings, {("extension", name): PluginNeeds()}, approval))
