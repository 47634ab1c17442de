"""A rehearsal by a person: the live path now, whatever the hour, at a server on this machine.

The clock is shifted by a constant, so that the next session opens at a given moment, by default in two minutes. Every
host of the brokers is at the server, and those of other plugins at the servers of their venues; a plugin without one
reaches nothing. Journal, bars, alerts and data of plugins are the rehearsal's own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.network import host_settings, is_on_this_machine
from tbot_core.contracts.permissions import host_setting_name
from tbot_core.engine.assembly import with_filters
from tbot_core.engine.bootstrap import load_assembly
from tbot_core.engine.rehearsal_target import rehearsal_shift
from tbot_core.engine.run_setup import RunFiles, RunSetup, real_time_setup
from tbot_core.errors import SettingsError, Unavailable
from tbot_core.journal.store import open_journal
from tbot_core.marketdata import received_files
from tbot_core.marketdata.store.reference import copy_imported
from tbot_core.model.clock import ShiftedClock
from tbot_core.system import filesystem
from tbot_core.system.http import accepts_connections

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import FeedRequest
    from tbot_core.engine.assembly import Assembly
    from tbot_core.engine.rehearsal_target import RehearsalTarget
    from tbot_core.instance import Instance, Mode, Settings, SettingsFiles
    from tbot_core.plugins.loader import LoadedPlugin


_CONNECT_S: Final = 5.0
_NOTE: Final = "A REHEARSAL: the venue is a server on this machine, and the clock is shifted."
NOT_SERVED: Final = "it has no server on this machine"


def rehearsal_clock(opens: datetime) -> ShiftedClock:
    """The machine's clock, shifted so that the exchange's next session opens at this moment of it."""
    return ShiftedClock(rehearsal_shift(opens))


def assemble_rehearsal(
    target: RehearsalTarget,
    home: Path | str | None,
    mode: Mode,
    overrides: Mapping[str, str] | None = None,
    sources: SettingsFiles | None = None,
) -> Assembly:
    """The parts of a run or a command as `assemble` makes them, by the clock of the target and at its servers."""
    loaded = load_assembly(home, mode, rehearsal_clock(target.opens), overrides, sources)
    return with_filters(at_target(loaded, target))


def at_target(assembly: Assembly, target: RehearsalTarget) -> Assembly:
    """The assembly whose plugins are at this target, before any of them is created.

    Its notes name the alert channels that stay silent, and other plugins that reach nothing. Raises SettingsError for a
    live account, and for a broker, filter or extension that cannot be directed to another address.
    """
    settings = settings_at(assembly.settings, assembly.loaded, target)
    copy_imported(assembly.settings.instance.bars, settings.instance.bars)
    notes = (*assembly.notes, *unreached(assembly.loaded, settings))
    silent = silent_channels(assembly.settings, settings)
    return attrs.evolve(assembly, settings=settings, notes=notes, silent_channels=silent)


def settings_at(settings: Settings, loaded: Iterable[LoadedPlugin], target: RehearsalTarget) -> Settings:
    """The settings of an instance whose plugins are at this target; a HOST_ setting of its own on this machine wins.

    Alert channels that reach no server on this machine are left out, and recorded data are the rehearsal's own. Raises
    as `at_target`.
    """
    if settings.mode == "live":
        raise live_refusal()
    loaded, traded = tuple(loaded), settings.trading.broker_name
    given: dict[str, str] = {}
    for one in loaded:
        if one.entry.kind != "broker" or one.entry.name == traded or reaches_out(one):
            given |= host_addresses(one, target)
    away = {name for one in loaded for name in _host_names(one) if not is_on_this_machine(settings.texts.get(name, ""))}
    known = {name: text for name, text in settings.texts.items() if text and name not in away}
    placed = attrs.evolve(
        settings, instance=attrs.evolve(settings.instance, rehearsal=target.run), texts={**given, **known}
    )
    silent = {one.entry.name for one in loaded if one.entry.kind == "alert" and not _is_here(one, placed)}
    named = settings.notifications
    return attrs.evolve(
        placed,
        notifications=attrs.evolve(
            named,
            critical_alert_channel=tuple(name for name in named.critical_alert_channel if name not in silent),
            routine_alert_channel=tuple(name for name in named.routine_alert_channel if name not in silent),
        ),
    )


def silent_channels(named: Settings, placed: Settings) -> tuple[str, ...]:
    """The alert channels that the settings name, but not any more at a target, where they have no server."""
    before, left = (
        dict.fromkeys((*one.notifications.critical_alert_channel, *one.notifications.routine_alert_channel))
        for one in (named, placed)
    )
    return tuple(name for name in before if name not in left)


def reaches_out(loaded: LoadedPlugin) -> bool:
    """Whether the plugin reaches anything beyond this process over the network."""
    return bool(loaded.plugin.needs.hosts) or loaded.plugin.needs.own_network


def _is_here(loaded: LoadedPlugin, settings: Settings) -> bool:
    # Whether each host of the plugin is at an address on this machine.
    return not loaded.plugin.needs.own_network and all(settings.texts.get(name) for name in _host_names(loaded))


def _host_names(loaded: LoadedPlugin) -> tuple[str, ...]:
    # The settings of its hosts.
    return tuple(host_setting_name(loaded.entry.name, host) for host in loaded.plugin.needs.hosts)


def unreached(loaded: Iterable[LoadedPlugin], settings: Settings) -> tuple[str, ...]:
    """A sentence for the alert channels that are silent in this rehearsal, and one for other plugins."""
    absent = [one.entry for one in loaded if not _is_here(one, settings)]
    silent = ", ".join(one.name for one in absent if one.kind == "alert")
    others = ", ".join(f"{one.kind} {one.name}" for one in absent if one.kind != "alert")
    return (
        *((f"No alerts by {silent} in this rehearsal: {NOT_SERVED}.",) if silent else ()),
        *((f"Not reached in this rehearsal: {others}: {NOT_SERVED}.",) if others else ()),
    )


async def assert_venue_answers(instance: Instance, target: RehearsalTarget) -> None:
    """Raises Unavailable if a rehearsal that begins finds no server at its target; one that is resumed goes on."""
    if filesystem.exists(attrs.evolve(instance, rehearsal=target.run).journal) or await accepts_connections(
        target.url, _CONNECT_S
    ):
        return
    raise Unavailable(
        f"No venue answers at {target.url}; is it still running?",
        "`tbot rehearse --broker NAME --serve` plays the venue of a broker, and prints its address.",
    )


def live_refusal() -> SettingsError:
    """The error of a rehearsal with the credentials of a live account."""
    return SettingsError(
        "The broker's section says mode=live: live money is not rehearsed with.",
        "Set mode=paper with `tbot secrets edit broker`, or rehearse in another instance.",
    )


def rehearsal_setup(identity: str, assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of a rehearsal of this run id: the instance's settings and requests, and a journal of its own."""
    instance, name = assembly.settings.instance, assembly.settings.trading.broker_name
    journal = attrs.evolve(instance, rehearsal=identity).journal
    filesystem.make_folder(journal.parent)
    files = RunFiles(
        control=instance.control,
        received=received_files.received_folder(journal),
        books=journal.with_suffix(".books"),
        data=instance.data,
    )
    named = name, assembly.broker(name)
    return real_time_setup(assembly, request, named, (identity, partial(open_journal, journal), files), (_NOTE,))


def host_addresses(loaded: LoadedPlugin, target: RehearsalTarget) -> dict[str, str]:
    """The settings of a plugin's hosts, with their addresses at the target; none where the target has no server for it.

    Raises SettingsError for a broker that reaches no host, and for a plugin other than an alert channel that opens
    connections itself.
    """
    kind, name, needs = loaded.entry.kind, loaded.entry.name, loaded.plugin.needs
    if (kind == "broker" and not needs.hosts) or (needs.own_network and kind != "alert"):
        why = "opens its connections itself" if needs.own_network else "reaches no host"
        raise SettingsError(
            f"The {kind} {name} {why}, so it cannot be rehearsed at another address.",
            f"Rehearse with a {kind} that declares its hosts, or use --demo.",
        )
    urls = {host: one.url for host, one in needs.hosts.items()}
    plain, stream = target.addresses(kind, name)
    return {
        one.name: stream if urls[host].startswith("wss") else plain
        for host, one in host_settings(name, urls).items()
        if plain
    }
