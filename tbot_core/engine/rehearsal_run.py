"""A rehearsal by a person: the live path now, whatever the hour, at a server on this machine.

The clock is shifted by a constant, so that the next session opens at a given moment, by default in two minutes. Every
host of the brokers is at the server, and the journal is one of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.network import host_settings
from tbot_core.engine.rehearsal_target import rehearsal_shift
from tbot_core.engine.run_setup import RunFiles, RunSetup, real_time_setup
from tbot_core.errors import SettingsError, Unavailable
from tbot_core.journal.store import open_journal
from tbot_core.marketdata import received_bars
from tbot_core.model.clock import ShiftedClock
from tbot_core.system import filesystem
from tbot_core.system.http import accepts_connections

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import FeedRequest
    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.engine.rehearsal_target import RehearsalTarget
    from tbot_core.instance import Instance
    from tbot_core.plugins.loader import LoadedPlugin


_CONNECT_S: Final = 5.0
_NOTE: Final = "A REHEARSAL: the venue is a server on this machine, and the clock is shifted."


def rehearsal_clock(opens: datetime) -> ShiftedClock:
    """The machine's clock, shifted so that the exchange's next session opens at this moment of it."""
    return ShiftedClock(rehearsal_shift(opens))


def at_address(assembly: Assembly, target: RehearsalTarget) -> Assembly:
    """The assembly whose brokers are at this target; a HOST_ setting of its own wins. Its bars are stored apart.

    Raises SettingsError for a live account, and for a broker that cannot be directed to another address.
    """
    if assembly.settings.mode == "live":
        raise live_refusal()
    given: dict[str, str] = {}
    for one in assembly.loaded:
        needs, traded = one.plugin.needs, one.entry.name == assembly.settings.trading.broker_name
        if one.entry.kind == "broker" and (traded or needs.hosts or needs.own_network):
            given |= broker_addresses(one, target)
    settings = assembly.settings
    known = {name: text for name, text in settings.texts.items() if text}
    instance = attrs.evolve(settings.instance, bars_dir=target.bars_dir)
    return attrs.evolve(assembly, settings=attrs.evolve(settings, instance=instance, texts={**given, **known}))


async def assert_venue_answers(instance: Instance, target: RehearsalTarget) -> None:
    """Raises Unavailable if a rehearsal that begins finds no server at its target; one that is resumed goes on."""
    if filesystem.exists(_journal(instance, target.run)) or await accepts_connections(target.url, _CONNECT_S):
        return
    raise Unavailable(
        f"No venue answers at {target.url}; is it still running?",
        "`tbot rehearse --broker NAME --serve` plays the venue of a broker, and prints its address.",
    )


def _journal(instance: Instance, run: str) -> Path:
    return instance.runs / f"{run}.sqlite"


def live_refusal() -> SettingsError:
    """The error of a rehearsal with the credentials of a live account."""
    return SettingsError(
        "The broker's section says mode=live: live money is not rehearsed with.",
        "Set mode=paper with `tbot secrets edit broker`, or rehearse in another instance.",
    )


def rehearsal_setup(identity: str, assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of a rehearsal of this run id: the instance's settings and requests, and a journal of its own."""
    instance, name = assembly.settings.instance, assembly.settings.trading.broker_name
    journal = _journal(instance, identity)
    filesystem.make_folder(journal.parent)
    files = RunFiles(
        control=instance.control,
        received=received_bars.received_folder(journal),
        books=journal.with_suffix(".books"),
        data=instance.data,
    )
    named = name, assembly.broker(name)
    return real_time_setup(assembly, request, named, (identity, partial(open_journal, journal), files), (_NOTE,))


def broker_addresses(loaded: LoadedPlugin, target: RehearsalTarget) -> dict[str, str]:
    """The settings of a broker's hosts, with their addresses at the target.

    Raises SettingsError for a broker that cannot be directed to another address.
    """
    name, needs = loaded.entry.name, loaded.plugin.needs
    if needs.own_network or not needs.hosts:
        why = "opens its connections itself" if needs.own_network else "reaches no host"
        raise SettingsError(
            f"The broker {name} {why}, so it cannot be rehearsed at another address.",
            "Rehearse with a broker that declares its hosts, or use --demo.",
        )
    urls = {host: one.url for host, one in needs.hosts.items()}
    return {
        one.name: target.stream if target.stream and urls[host].startswith("wss") else target.url
        for host, one in host_settings(name, urls).items()
    }
