"""A rehearsal by a person: the live path now, whatever the hour, at a server on this machine.

The clock is shifted by a constant, so that the next session opens in two minutes. Every host of the brokers is at the
server, and the journal is one of its own.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from tbot_core.contracts.network import host_settings
from tbot_core.engine.run_setup import RunFiles, RunSetup, real_time_setup
from tbot_core.errors import SettingsError, UsageError
from tbot_core.instance import folder as places
from tbot_core.journal.store import open_journal
from tbot_core.marketdata import received_bars
from tbot_core.model.clock import ShiftedClock, exchange_time
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.contracts import FeedRequest
    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.plugins.loader import LoadedPlugin

LEAD: Final = timedelta(minutes=2)
"""How long after its start the session of a rehearsal opens."""

_NOTE: Final = "A REHEARSAL: the venue is a server on this machine, and the clock is shifted."
_HERE: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def check_address(url: str) -> str:
    """The address of the server; raises UsageError for one that is not on this machine."""
    split = urlsplit(url)
    if split.scheme != "http" or split.hostname not in _HERE:
        raise UsageError(
            f"A rehearsal reaches servers on this machine only, not {url}.",
            "Give http://127.0.0.1:PORT, where a server plays the venue.",
        )
    return url


def rehearsal_clock(calendar: ExchangeCalendar, now: datetime) -> ShiftedClock:
    """The machine's clock, shifted so that the next session opens in two minutes."""
    today = exchange_time(now).date()
    session = calendar.session(today)
    if session is None or session.open <= now:
        session = calendar.next(today)
    return ShiftedClock(session.open - LEAD - now)


def at_address(assembly: Assembly, url: str) -> Assembly:
    """The assembly whose brokers are at this address; a HOST_ setting of its own wins.

    Raises SettingsError for a live account, and for a broker that cannot be directed to another address.
    """
    if assembly.settings.mode == "live":
        raise SettingsError(
            "The broker's section says mode=live: live money is not rehearsed with.",
            "Set mode=paper with `tbot secrets edit broker`, or rehearse in another instance.",
        )
    given: dict[str, str] = {}
    for one in assembly.loaded:
        if one.entry.kind == "broker":
            given |= dict.fromkeys(_hosts(one), url)
    known = {name: text for name, text in assembly.settings.texts.items() if text}
    return attrs.evolve(assembly, settings=attrs.evolve(assembly.settings, texts={**given, **known}))


def rehearsal_setup(assembly: Assembly, request: FeedRequest) -> RunSetup:
    """The set-up of a rehearsal: the instance's settings and requests, and a journal of its own for each start."""
    instance, name = assembly.settings.instance, assembly.settings.trading.broker_name
    identity = f"{places.REHEARSAL}{assembly.clock.now():%Y%m%dT%H%M%S}"
    journal = instance.runs / f"{identity}.sqlite"
    filesystem.make_folder(journal.parent)
    files = RunFiles(
        control=instance.control,
        received=received_bars.received_folder(journal),
        books=journal.with_suffix(".books"),
        data=instance.data,
    )
    named = name, assembly.broker(name)
    return real_time_setup(assembly, request, named, (identity, partial(open_journal, journal), files), (_NOTE,))


def _hosts(loaded: LoadedPlugin) -> list[str]:
    # The settings of a broker's hosts.
    name, needs = loaded.entry.name, loaded.plugin.needs
    if needs.own_network or not needs.hosts:
        why = "opens its connections itself" if needs.own_network else "reaches no host"
        raise SettingsError(
            f"The broker {name} {why}, so it cannot be rehearsed at another address.",
            "Rehearse with a broker that declares its hosts, or use --demo.",
        )
    return [one.name for one in host_settings(name, {host: one.url for host, one in needs.hosts.items()}).values()]
