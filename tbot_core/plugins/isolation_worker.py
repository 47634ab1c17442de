"""Runs a strategy or filter in its own process: `python -m tbot_core.plugins.isolation_worker`, on two pipes.

It receives the bars minute by minute and builds the same tape as the run, so the signals are bit-equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from tbot_core.contracts import Context, RequiresDailyBars, RequiresData, SupportsExplain, SupportsScreening
from tbot_core.contracts.setting import declarations
from tbot_core.errors import PluginError
from tbot_core.model.bars import Bars, MinuteSlice, Tape
from tbot_core.model.clock import SystemClock
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.plugins import isolation
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import PluginLoader, build_plugin
from tbot_core.plugins.trial import entry_of
from tbot_core.system import filesystem, log, processes
from tbot_core.system.foreign_exceptions import assert_failure, exception_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


_MOST_MINUTES: Final = 1440
_OpenPipe: TypeAlias = "Callable[[], tuple[Callable[[int], bytes], Callable[[bytes], None]]]"


class HostedPlugin:
    """The plugin in its process, with the bars and facts received last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subject: Any = None
        self._tape: Tape | None = None
        self._bars: Bars | None = None
        self._day: DayFacts | None = None

    def answer(self, request: Mapping[str, Any]) -> Any:
        """The plugin's response to a request."""
        if request["do"] == "load":
            return self._load(request)
        if request.get("day") is not None:
            self._day = request["day"]
        if "bars" in request:
            self._update_bars(request["bars"])
        return self._call(request)

    def _load(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        entry = entry_of(request["entry"])
        loaded = PluginLoader().load(entry)
        if isinstance(loaded, PluginFailure):
            raise PluginError(loaded.reason)
        config = build_config(loaded.plugin.config, request["texts"], request["window"])
        context = Context(clock=SystemClock(), log=log.logger(f"plugin.{entry.name}"), data_dir=self._folder)
        made = build_plugin(loaded, config, context)
        if isinstance(made, PluginFailure):
            raise PluginError(made.reason)
        self._subject = made
        needs = sorted(made.needs) if isinstance(made, RequiresData) else []
        return {
            "window": getattr(made, "window", None),
            "needs": needs,
            "daily_bars": made.daily_bars if isinstance(made, RequiresDailyBars) else 0,
            "explains": isinstance(made, SupportsExplain),
            "screens": isinstance(made, SupportsScreening),
        }

    def _update_bars(self, update: Mapping[str, Any]) -> None:
        # New bars, those of another session from its start, or a whole block of sessions.
        fields: Mapping[str, Any] = update["fields"]
        if fields["close"].ndim > 2:
            self._bars, self._tape = Bars(fields, update["symbols"]), None
            return
        if update["fresh"] or self._tape is None:
            self._tape = Tape(update["symbols"], _MOST_MINUTES)
        for row in range(len(fields["close"])):
            self._tape.append(
                MinuteSlice(index=self._tape.closed, **{name: fields[name][row] for name in isolation.PARTS})
            )
        self._bars = self._tape.bars

    def _call(self, request: Mapping[str, Any]) -> Any:
        subject, bars, day = self._subject, self._bars, self._day
        match request["do"]:
            case "scan":
                return subject.scan(bars, day, request["since"])
            case "triggers":
                return list(subject.triggers(bars, day))
            case "screen" if "symbols" in request:
                return list(subject.screen(day, request["symbols"], request["frame"]))
            case "screen":
                return list(subject.screen(day))
            case _:
                market = MarketView(bars=bars, day=day, quotes=request["quotes"])  # type: ignore[arg-type]  # both were received
                return list(subject.judge(request["signals"], market, request["frame"]))


def build_config(config: type[Any], texts: Mapping[str, str], window: object) -> object:
    """Build the plugin's config from the texts of its settings; raises PluginError for an invalid one."""
    given: dict[str, Any] = {}
    for field, declaration in declarations(config).items():
        text = texts.get(declaration.name, declaration.default_text)
        try:
            given[field] = declaration.kind.parse(text)
        except ValueError as fault:
            raise PluginError(f"{declaration.name}: allowed is {declaration.kind.allowed}.") from fault
    if window is not None and "window" in {one.name for one in attrs.fields(config)} - given.keys():
        given["window"] = window
    return config(**given)


def serve_requests(read: Callable[[int], bytes], write: Callable[[bytes], None], folder: Path) -> None:
    """Respond until the pipe is closed; an error is a response too."""
    host = HostedPlugin(folder)
    while (request := isolation.receive_message(read)) is not None:
        try:
            isolation.send_message(write, {"answer": host.answer(request)})
        except BaseException as fault:  # noqa: BLE001  -- the border of the plugin's process
            assert_failure(fault)
            words = fault.message if type(fault) is PluginError else exception_words(fault)
            isolation.send_message(write, {"fault": words[:1000]})


def main(restrict: Callable[[], object] = processes.confine, open_pipe: _OpenPipe = processes.open_child_pipe) -> None:
    """Restrict the process, then serve."""
    restrict()
    read, write = open_pipe()
    with filesystem.scratch_folder() as folder:
        serve_requests(read, write, folder)
