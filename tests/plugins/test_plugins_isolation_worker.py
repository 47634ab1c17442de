"""The worker's side of the boundary, without a process: what it receives, what it builds of it, what it answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import PluginError
from tbot_core.model.window import Window
from tbot_core.plugins import discovery, isolation, isolation_worker
from tbot_core.testing import sessions
from tbot_core.testing.filter import pick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

SOUND = """
import attrs
from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl


@attrs.frozen
class Config:
    pass


@hookimpl
def tbot_strategy():
    return Plugin(name="{name}", summary="Theirs", config=Config, create=lambda config, context: config)
"""
WINDOW = Window(start=0, analysis=15, breakout=60, monitoring=60)
BLOCK, FACTS = sessions.market(sessions=2, symbols=5)
BARS, DAY = BLOCK.session(0), FACTS.session(0)
OWN = {(one.entry.kind, one.entry.name): one.entry for one in discovery.installed_plugins()}


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def load(entry: EntryPointInfo, **texts: str) -> dict[str, Any]:
    """The first request to a worker."""
    document = attrs.asdict(entry) | {"requires": list(entry.requires)}
    return {"do": "load", "entry": document, "texts": texts, "window": WINDOW if entry.kind == "strategy" else None}


def bars(start: int, stop: int, *, fresh: bool) -> dict[str, Any]:
    """So many minutes of a session."""
    fields = {name: BARS.field(name)[start:stop] for name in isolation.PARTS}
    return {"fresh": fresh, "symbols": BARS.symbols, "fields": fields}


def answers(folder: Path, *asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What a worker says to these requests, one after the other."""
    said, received = bytearray(), bytearray()
    for one in asked:
        isolation.send_message(said.extend, one)

    def read_bytes(size: int) -> bytes:
        part = bytes(said[:size])
        del said[:size]
        return part

    isolation_worker.serve_requests(read_bytes, received.extend, folder)

    def again(size: int) -> bytes:
        part = bytes(received[:size])
        del received[:size]
        return part

    return [isolation.receive_message(again) for _ in asked]


def test_a_strategy_is_asked_on_bars_that_grow(tmp_path: Path) -> None:
    """Minutes are added to those before, another session begins anew, and a block of sessions comes as a whole."""
    block = {
        "fresh": True,
        "symbols": BLOCK.symbols,
        "fields": {name: BLOCK.field(name) for name in isolation.PARTS},
    }
    facts, *found = answers(
        tmp_path,
        load(OWN["strategy", "open"]),
        {"do": "scan", "since": 0, "day": DAY, "bars": bars(0, 30, fresh=True)},
        {"do": "scan", "since": 0, "day": None, "bars": bars(30, 50, fresh=False)},
        {"do": "scan", "since": 0, "day": None, "bars": bars(0, 50, fresh=True)},
        {"do": "triggers", "day": None, "bars": bars(50, 50, fresh=False)},
        {"do": "scan", "since": 0, "day": FACTS, "bars": block},
    )
    assert facts["answer"] == {"window": WINDOW, "needs": [], "daily_bars": 0, "explains": True, "screens": False}
    assert [one.keys() for one in found] == [{"answer"}] * 5
    grown, anew = found[1]["answer"], found[2]["answer"]
    assert grown.minute.tolist() == anew.minute.tolist()
    assert [one.rule for one in found[3]["answer"]] == ["breakout", "breakout"]
    assert len(found[4]["answer"].cells) == 2


def test_a_strategys_own_screen_and_a_filter_are_asked(tmp_path: Path) -> None:
    """Before the bell and at the signal, with what each takes."""
    facts, screened = answers(tmp_path, load(OWN["strategy", "close"]), {"do": "screen", "day": DAY})
    assert facts["answer"]["screens"]
    assert screened["answer"]
    loaded, screened, judged = answers(
        tmp_path,
        load(OWN["filter", "price_volume"]),
        {"do": "screen", "day": DAY, "symbols": BARS.symbols, "frame": StrategySettings()},
        {"do": "judge", "signals": pick(BARS), "frame": StrategySettings(), "quotes": None, "day": None,
         "bars": bars(0, 390, fresh=True)},
    )  # fmt: skip
    assert loaded["answer"]["window"] is None
    assert [one.name for one in judged["answer"]]
    assert isinstance(screened["answer"], list)


def test_f91_what_goes_wrong_is_an_answer(tmp_path: Path) -> None:
    """A plugin that cannot be had, a setting that is not allowed, a fault: each in words, and the worker goes on."""
    absent = attrs.evolve(OWN["strategy", "open"], target="their_absent")
    found = answers(
        tmp_path,
        load(absent),
        load(OWN["strategy", "open"], STRAT_OPEN_BUFFER="much"),
        {"do": "scan", "since": 0},
        load(OWN["strategy", "open"]),
    )
    assert found[0]["fault"].startswith("it cannot be imported: ModuleNotFoundError")
    assert found[1]["fault"].startswith("STRAT_OPEN_BUFFER: allowed is a fraction")
    assert found[2]["fault"].startswith("AttributeError")
    assert "answer" in found[3]


def test_the_process_is_limited_before_it_reads_anything() -> None:
    """Whatever it is asked comes later; when the caller is gone, it ends."""
    done: list[str] = []

    def answering() -> Any:
        done.append("listening")
        return lambda _size: b"", lambda _data: None

    isolation_worker.main(lambda: done.append("fenced in"), answering)
    assert done == ["fenced in", "listening"]


def test_an_object_that_cannot_be_made_is_a_failure_in_words(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """As in the run's own process."""
    entry = plant("broken", SOUND.format(name="broken").replace("lambda config, context: config", "lambda c, x: 1 / 0"))
    (said,) = answers(tmp_path, load(entry))
    assert said["fault"] == "it could not be created: ZeroDivisionError: division by zero"


def test_a_config_that_takes_no_window_is_given_none() -> None:
    """A filter has none, and a strategy that declares its own keeps it; what cannot be created is said."""

    @attrs.frozen(kw_only=True)
    class Bare:
        """A config without settings."""

    assert isolation_worker.build_config(Bare, {}, WINDOW) == Bare()
    with pytest.raises(PluginError, match="allowed is"):
        isolation_worker.build_config(_config(), {"STRAT_OPEN_BUFFER": "-"}, None)


def _config() -> type[Any]:
    from tbot_core.plugins.loader import LoadedPlugin, PluginLoader

    loaded = PluginLoader().load(OWN["strategy", "open"])
    assert isinstance(loaded, LoadedPlugin)
    return loaded.plugin.config
