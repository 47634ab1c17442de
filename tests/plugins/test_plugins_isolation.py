"""Plugins in worker processes: bit-equal to those in the run's own, bounded, killed, and started anew."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Check, Context
from tbot_core.contracts.permissions import Host, PluginNeeds
from tbot_core.contracts.setting import declarations
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import PluginError, SettingsError
from tbot_core.model.bars import FIELDS, Bars, MinuteSlice, Quotes, Tape
from tbot_core.model.clock import ManualClock
from tbot_core.model.day_facts import MarketView
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import Condition, ExitRules, Trigger
from tbot_core.model.window import Window
from tbot_core.plugins import discovery, isolation, probe, trial_records
from tbot_core.plugins.call_guard import FAILURES, LIMITS_S, CallGuard, FailedCall, GuardSession
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.guarded import guard_plugin
from tbot_core.plugins.isolation import IsolatedFilter, IsolatedStrategy
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader, build_plugin
from tbot_core.system import log
from tbot_core.testing import sessions
from tbot_core.testing.filter import pick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.plugins.discovery import EntryPointInfo

NOW = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
WINDOW = Window(start=0, analysis=15, breakout=60, monitoring=60)
BLOCK, FACTS = sessions.market(sessions=2, symbols=40)
CONTEXT = Context(clock=ManualClock(NOW), log=log.logger("theirs"), data_dir=Path("nowhere"))
OWN = {(one.entry.kind, one.entry.name): one.entry for one in discovery.installed_plugins()}

DEEDS = """
import ctypes, os, sys, time
import attrs
from tbot_core.contracts import Plugin
from tbot_core.contracts.setting import setting, text
from tbot_core.contracts.hooks import hookimpl
from tbot_core.model.window import Window


@attrs.frozen(kw_only=True)
class Config:
    window: Window
    deed: str = setting("STRAT_THEIRS_DEED", text(), default="nothing", doc="What it does.")

    def scan(self, bars, day, since=0):
        print("not an answer")
        if self.deed == "die":
            os._exit(7)
        if self.deed == "hang":
            ctypes.PyDLL(None).pause()
        if self.deed == "eat":
            bytearray(2**33)
        if self.deed == "open":
            [open("/dev/null") for _ in range(1000)]
        if self.deed == "look":
            raise ValueError(sorted(name for name in os.environ if "TBOT" in name) + [os.getcwd(), sys.stdin.read()])
        if self.deed == "pickle":
            return {1}
        if self.deed == "exit":
            sys.exit("bye")
        raise ZeroDivisionError("theirs")


@hookimpl
def tbot_strategy():
    return Plugin(name="theirs", summary="Theirs", config=Config, create=lambda config, context: config)
"""


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def offered(entry: EntryPointInfo, folder: Path) -> LoadedPlugin:
    """The plugin as a run takes it that isolates it: by what its trial has recorded."""
    known = trial_records.with_outcomes(trial_records.TrialRecords(), [probe.probe_plugin(entry)], NOW)
    folder.mkdir(exist_ok=True)
    trial_records.write_records(folder, known)
    listing = discovery.PluginListing(entry=entry, state="active", enabled=True)
    (loaded,), failures = isolation.isolated_offers([(entry.kind, entry.name)], [listing], folder, {})
    assert failures == ()
    return loaded


def apart(entry: EntryPointInfo, folder: Path, **texts: str) -> Any:
    """The plugin in a worker, as a run builds it, with these settings."""
    loaded = offered(entry, folder)
    fields = {one.name: field for field, one in declarations(loaded.plugin.config).items()}
    given: dict[str, Any] = {fields[name]: text for name, text in texts.items()}
    if entry.kind == "strategy":
        given["window"] = WINDOW
    return build_plugin(loaded, loaded.plugin.config(**given), CONTEXT)


def inside(entry: EntryPointInfo) -> Any:
    """The same plugin in this process, with its defaults."""
    loaded = PluginLoader().load(entry)
    assert not isinstance(loaded, PluginFailure)
    given = {"window": WINDOW} if entry.kind == "strategy" else {}
    return build_plugin(loaded, loaded.plugin.config(**given), CONTEXT)


def bits(value: Any) -> Any:
    """Everything in a value, to the last bit."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind, value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return [bits(one) for one in value]
    if attrs.has(type(value)):
        return {one.name: bits(getattr(value, one.name)) for one in attrs.fields(type(value))}
    return repr(value)


def minutes(bars: Bars) -> Iterator[Bars]:
    """A session as it grows on a tape."""
    tape = Tape(bars.symbols, bars.minutes)
    for index in range(bars.minutes):
        tape.append(MinuteSlice(index=index, **{name: bars.field(name)[index] for name in (*FIELDS, "vwap")}))
        yield tape.bars


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open", "mid", "close"])
def test_a_strategy_in_a_worker_gives_the_same_signals_to_the_last_bit(name: str, tmp_path: Path) -> None:
    """Minute by minute of two sessions one after the other, and on a block of sessions at once."""
    entry = OWN["strategy", name]
    one, other = inside(entry), apart(entry, tmp_path)
    assert isinstance(other, IsolatedStrategy)
    assert other.window == one.window
    found = 0
    for session in range(2):
        bars, day = BLOCK.session(session), FACTS.session(session)
        for grown in minutes(bars):
            if WINDOW.entry < grown.minutes <= WINDOW.entry_end:
                mine = one.scan(grown, day, grown.minutes - 1)
                found += len(mine)
                assert bits(mine) == bits(other.scan(grown, day, grown.minutes - 1))
        assert bits(list(one.triggers(grown, day))) == bits(other.triggers(grown, day))
        assert bits(list(one.screen(day) if hasattr(one, "screen") else ())) == bits(list(other.screen(day)))
    assert bits(one.scan(BLOCK, FACTS)) == bits(other.scan(BLOCK, FACTS))
    assert found or name == "close"


@pytest.mark.slow
def test_a_filter_in_a_worker_compares_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """Before the bell and at the signal, with quotes and without, with the frame's decimals and times."""
    entry = OWN["filter", "price_volume"]
    one, other = inside(entry), apart(entry, tmp_path)
    assert isinstance(other, IsolatedFilter)
    frame = StrategySettings(max_gap_pct=Decimal("0.05"), min_market_cap=Decimal(10**9))
    assert other.needs == frozenset(getattr(one, "needs", ()))
    bars, day = BLOCK.session(0), FACTS.session(0)
    signals = pick(bars)
    level = np.full(len(bars.symbols), 10.0)
    for quotes in (None, Quotes(bid=level, ask=level + 0.01, age_s=level * 0)):
        market = MarketView(bars=bars, day=day, quotes=quotes)
        assert bits(list(one.judge(signals, market, frame))) == bits(other.judge(signals, market, frame))
    assert bits(list(one.screen(day, bars.symbols, frame))) == bits(other.screen(day, bars.symbols, frame))


def test_a_run_and_an_arming_name_the_same_tables_of_an_isolated_filter(tmp_path: Path) -> None:
    """An arming, which isolates nothing, is bound to the operator's table: the hash of such a run is no other."""
    entry = OWN["filter", "price_volume"]
    here = PluginLoader().load(entry)
    assert not isinstance(here, PluginFailure)
    assert offered(entry, tmp_path).declared.tables == here.declared.tables == ("funds.csv",)


class Bench:
    """A session in which one foreign strategy is scanned in a worker."""

    def __init__(self, made: Any, entry: EntryPointInfo, limit_s: float = 60.0) -> None:
        self.failed_calls: list[FailedCall] = []
        bounds = CallGuard(strict=False, limits_s=dict.fromkeys(LIMITS_S, limit_s))
        bounds.open_session(GuardSession(clock=ManualClock(NOW), on_failure=self.failed_calls.append))
        self.subject = guard_plugin(entry, made, bounds)

    def scan(self) -> str:
        """Scan once; the failure's words."""
        assert len(self.subject.scan(BLOCK.session(0), FACTS.session(0), 0)) == 0
        return self.failed_calls[-1].error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("raise", "ZeroDivisionError: theirs"),
        ("exit", "SystemExit: bye"),
        ("eat", "MemoryError"),
        ("open", "Too many open files"),
        ("look", "ValueError: ['/', '']"),
        ("pickle", "An object of type set cannot be sent to a worker"),
    ],
)
def test_f93_what_goes_wrong_in_a_worker_is_reported_and_harms_no_other(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, deed: str, words: str
) -> None:
    """Faults, exits, memory, files and foreign objects end in words; nothing of our environment is there to be read."""
    entry = plant("theirs", DEEDS)
    bench = Bench(apart(entry, tmp_path / "data", STRAT_THEIRS_DEED=deed), entry)
    assert words in bench.scan()
    assert words in bench.scan()
    assert "their_theirs" not in sys.modules


@pytest.mark.slow
def test_cp29_a_worker_that_dies_holding_a_request_is_started_anew_and_off_after_three(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """Each death is a failure in words; the next request has a process of its own, the fourth is not made."""
    entry = plant("theirs", DEEDS)
    bench = Bench(apart(entry, tmp_path / "data", STRAT_THEIRS_DEED="die"), entry)
    for _ in range(FAILURES):
        assert "its process ended with code 7 before it had answered" in bench.scan()
    assert bench.failed_calls[-1].off
    bench.scan()
    assert len(bench.failed_calls) == FAILURES


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f92_a_worker_that_hangs_in_native_code_is_killed_at_the_limit(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """What no timer reaches in the bot's own process is over here when its time is."""
    entry = plant("theirs", DEEDS)
    made = apart(entry, tmp_path / "data", STRAT_THEIRS_DEED="hang")
    bench = Bench(made, entry, limit_s=1.5)
    assert "did not finish within 1.5 s" in bench.scan()
    assert made._worker._process is None


@pytest.mark.slow
def test_what_a_worker_refuses_is_a_failure_of_its_creation(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """A setting that the plugin does not allow is judged there, where its kinds are known."""
    entry = plant("theirs", DEEDS)
    made = apart(entry, tmp_path / "data", STRAT_THEIRS_DEED="")
    assert isinstance(made, PluginFailure)
    assert "STRAT_THEIRS_DEED: allowed is one line of text" in made.error


def test_a_name_that_isolates_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen must not run in the bot's process what was to run outside."""
    wanted = [("strategy", "open"), ("filter", "size"), ("broker", "paper")]
    monkeypatch.setenv(discovery.ISOLATE_VARIABLE, " open, size,")
    assert isolation.isolated_plugins(wanted) == {("strategy", "open"), ("filter", "size")}
    monkeypatch.setenv(discovery.ISOLATE_VARIABLE, "nobody,paper")
    with pytest.raises(SettingsError, match="names nobody, paper, which is not a strategy or filter of this run"):
        isolation.isolated_plugins(wanted)
    monkeypatch.delenv(discovery.ISOLATE_VARIABLE)
    assert isolation.isolated_plugins(wanted) == frozenset()


def test_a_plugin_that_needs_the_network_is_not_isolated(tmp_path: Path) -> None:
    """Its worker would have none, so it is refused before the run."""
    entry = OWN["strategy", "open"]
    listing = discovery.PluginListing(entry=entry, state="active", enabled=True)
    tried = probe.probe_plugin(entry)
    assert tried.description is not None
    needs = PluginNeeds(hosts={"api": Host("https://api.example.com")}).document
    online = attrs.evolve(tried, description={**tried.description, "needs": needs})
    trial_records.write_records(tmp_path, trial_records.with_outcomes(trial_records.TrialRecords(), [online], NOW))
    loaded, (failure,) = isolation.isolated_offers([("strategy", "open")], [listing], tmp_path, {})
    assert loaded == ()
    assert "it needs the network" in failure.error


def test_a_plugin_of_which_nothing_is_known_is_not_isolated(tmp_path: Path) -> None:
    """Its settings are known from its trial alone."""
    entry = OWN["strategy", "open"]
    listing = discovery.PluginListing(entry=entry, state="active", enabled=True)
    loaded, (failure,) = isolation.isolated_offers([("strategy", "open")], [listing], tmp_path, {})
    assert loaded == ()
    assert "there is no record of it" in failure.error


def passed(message: Any) -> Any:
    """A message after its way over the boundary."""
    said: list[bytes] = []
    isolation.send_message(said.append, message)
    data = b"".join(said)

    def read_bytes(size: int) -> bytes:
        nonlocal data
        part, data = data[:size], data[size:]
        return part

    return isolation.receive_message(read_bytes)


def test_values_of_the_contract_pass_the_boundary_unchanged() -> None:
    """Arrays to the last bit, decimals, times, codes, and classes of the contract in each other."""
    check = Check(name="c", value=np.array([1.0, np.nan]), low=0.5, below=Reason.PRICE_LOW, above=Reason.PRICE_HIGH,
                  unknown=Reason.NO_QUOTE)  # fmt: skip
    when = (Condition(name="w", value=np.ones((2, 0)), level=np.zeros(1), above=True),)
    trigger = Trigger(rule="r", side=-1, value=np.ones((2, 3))[:, ::2], level=np.float64(2.5), above=False, when=when)  # type: ignore[arg-type]  # a number broadcasts
    for value in (
        check,
        trigger,
        StrategySettings(),
        ExitRules(hold=3),
        WINDOW,
        FACTS,
        {"a": (1, 2.5, "x", None, [True])},
    ):
        expected = attrs.evolve(trigger, level=2.5) if value is trigger else value  # type: ignore[arg-type]  # likewise
        assert bits(passed(value)) == bits(expected)


@pytest.mark.parametrize("value", [object(), {1}, b"x", np.array(["x"]), np.array([object()]), dt.date(2026, 1, 1)])
def test_f93_anything_else_does_not_pass(value: object) -> None:
    """Neither objects nor text arrays, nor an endless nesting."""
    with pytest.raises(PluginError, match="cannot be sent to a worker"):
        passed([value])
    nested: list[Any] = []
    nested.append(nested)
    with pytest.raises(PluginError, match="nested too deeply"):
        passed(nested)


@pytest.mark.parametrize(
    "head",
    [b"{", b'{"a":1}', b'{"array":["O",[1],0]}', b'{"array":["<f8",[9],0]}', b'{"array":["<f8",[-1],0]}',
     b'{"of":["Popen",{}]}', b'{"reason":12345}', b'{"of":["ExitRules",{"x":1}]}', b'{"decimal":[]}', b"[" * 100_000],
)  # fmt: skip
def test_f93_a_forged_message_is_refused(head: bytes) -> None:
    """Whatever stands in it, the outcome is a sentence."""
    data = isolation._SIZES.pack(len(head), 0) + head

    def read_bytes(size: int) -> bytes:
        nonlocal data
        part, data = data[:size], data[size:]
        return part

    with pytest.raises(PluginError, match="cannot be read"):
        isolation.receive_message(read_bytes)


@pytest.mark.parametrize("start", [0, 4])
def test_f94_no_array_of_a_message_is_read_twice(start: int) -> None:
    """A short text that names one array again and again would fill the memory of the bot."""
    head = json.dumps({"list": [{"array": ["<f8", [1], 0]}, {"array": ["<f8", [1], start]}]}).encode()
    data = isolation._SIZES.pack(len(head), 16) + head + bytes(16)
    pipe = io.BytesIO(data)
    with pytest.raises(PluginError, match=f"cannot be read: ValueError: an array at byte {start} instead of 8"):
        isolation.receive_message(pipe.read)


def test_f94_a_message_without_measure_is_refused_before_it_is_read() -> None:
    """Sizes are judged first, and silence is an end."""
    huge = isolation._SIZES.pack(10, 2**40)
    with pytest.raises(PluginError, match="is too large"):
        isolation.receive_message(lambda size: huge[:size])
    assert isolation.receive_message(lambda _size: b"") is None


def test_cp29_what_a_worker_must_answer_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that says something else, or cannot be started, is a failure of the plugin."""
    entry = OWN["strategy", "open"]
    echo = tmp_path / "echo"
    echo.write_text(f"#!{sys.executable}\nimport os\nwhile part := os.read(0, 65536): os.write(1, part)\n")
    echo.chmod(0o700)
    for program, words in ((str(echo), "Its worker did not respond"), ("/no/such", "Cannot start /no/such")):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(PluginError, match=words):
            isolation.PluginWorker(entry, {}, WINDOW).request({"do": "hello"})


def test_scalars_of_arrays_pass_as_plain_numbers() -> None:
    """A number is a number on the other side."""
    assert passed([np.int64(3), np.bool_(True)]) == [3, True]
