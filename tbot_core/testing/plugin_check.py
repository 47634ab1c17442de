"""The contract of an installed plugin, run by `python -m tbot_core.testing.plugin_check REQUEST ANSWER`."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Broker, Context, Extension
from tbot_core.model import json_document
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader, build_plugin
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.plugins.trial import default_config, entry_of
from tbot_core.system import filesystem, log
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.testing import (
    alert,
    broker,
    extension,
    feed,
    fetching,
    filter,  # noqa: A004  -- the kits have the kinds' names
    series,
    sessions,
    strategy,
)
from tbot_core.testing.contract import CaseResult, ContractCase, demand, run_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

VENUE_KINDS: Final = {"broker": broker.CASES, "alert": alert.CASES}
"""The kinds whose cases need a venue of the plugin."""


@attrs.frozen(kw_only=True)
class PluginCheck:
    """The result of each case; `missing` says why none was run, `capabilities` are those of a broker, as text."""

    cases: tuple[CaseResult, ...] = ()
    missing: str = ""
    capabilities: dict[str, str] = attrs.field(factory=dict)


def check_plugin(loaded: LoadedPlugin, folder: Path) -> PluginCheck:
    """Run the contract of the plugin's kind; `folder` becomes its data folder. Settings have their defaults."""
    kind, plugin = loaded.entry.kind, loaded.plugin
    if kind in VENUE_KINDS:
        if plugin.venue is None:
            return PluginCheck(missing="The plugin offers no venue (Plugin.venue), so its contract cannot be run.")
        capabilities = _capabilities(plugin.venue)
        cases = VENUE_KINDS[kind] + (feed.CASES if capabilities.get("feed") == "yes" else ())
        return PluginCheck(cases=run_cases(cases, plugin.venue), capabilities=capabilities)
    if kind == "strategy":
        return PluginCheck(cases=_run(strategy.CASES, loaded, folder, _strategy))
    if kind == "filter":
        fetched = () if plugin.venue is None else run_cases(fetching.CASES, plugin.venue)
        return PluginCheck(cases=_run(filter.CASES, loaded, folder, _filter) + fetched)
    if plugin.venue is not None:
        return PluginCheck(cases=run_cases(series.CASES if plugin.series else extension.CASES, plugin.venue))
    return _check_extension(loaded, folder)


def _check_extension(loaded: LoadedPlugin, folder: Path) -> PluginCheck:
    # One that needs secrets or a host can be tried with a venue alone.
    needs = loaded.plugin.needs
    if needs.secrets or needs.hosts or needs.own_network:
        return PluginCheck(missing="It reaches outside and offers no venue (Plugin.venue): only its trial was made.")
    made = build_plugin(loaded, default_config(loaded.plugin.config), _context(loaded, folder))
    if not isinstance(made, Extension | PluginFailure):
        return PluginCheck(missing="It offers hooks alone: there is no contract beyond its trial, which it passed.")
    return PluginCheck(cases=_run(extension.CASES, loaded, folder, lambda made: made))


def _context(loaded: LoadedPlugin, folder: Path) -> Context:
    clock, name = SystemClock(), f"{loaded.entry.kind} {loaded.entry.name}"
    connector = Connector(plugin=name, hosts=loaded.plugin.needs.hosts, clock=clock, budgets=RequestBudgets(clock))
    return Context(clock=clock, log=log.logger(name), data_dir=folder, connect=connector)


def main(arguments: Sequence[str]) -> None:
    """Read the entry from the first file, check the plugin, and write the answer to the second."""
    request, answer = map(Path, arguments)
    loaded = PluginLoader().load(entry_of(json_document.parse_json(filesystem.read_text(request))))
    outcome = loaded if isinstance(loaded, PluginFailure) else check_plugin(loaded, request.parent)
    filesystem.write_atomic(answer, json.dumps(attrs.asdict(outcome)).encode())


def _run(
    cases: tuple[ContractCase, ...], loaded: LoadedPlugin, folder: Path, subject: Callable[[Any], object]
) -> tuple[CaseResult, ...]:
    # Pure plugins keep no state, but each case gets an object of its own all the same.
    @contextmanager
    def one() -> Iterator[object]:
        context = _context(loaded, folder)
        made = build_plugin(loaded, default_config(loaded.plugin.config), context)
        demand(not isinstance(made, PluginFailure), getattr(made, "error", ""))
        try:
            yield subject(made)
        finally:
            asyncio.run(context.connect.close())

    return run_cases(cases, one)


def _strategy(made: Any) -> object:
    return strategy.StrategyUnderTest.of(made, sessions.market())


def _filter(made: Any) -> object:
    return filter.FilterUnderTest(made, filter.standard_frame(), sessions.market())


def _capabilities(venue: Callable[[], AbstractContextManager[Any]]) -> dict[str, str]:
    # The capabilities that a broker declares, as text; none for a channel.
    try:
        with venue() as subject:
            made = getattr(subject, "broker", None)
            if not isinstance(made, Broker):
                return {}
            return made.capabilities.matrix
    except BaseException as fault:  # noqa: BLE001  -- a case has failed of it
        assert_failure(fault)
        return {}


if __name__ == "__main__":
    main(sys.argv[1:])
