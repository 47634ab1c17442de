"""Days of an installed broker plugin at its own venue, from a seed: signals, prices, faults of the server, restarts.

A day is judged by what the server received, by the account that it has at the end, and by the journal.
"""

from __future__ import annotations

import math
import traceback
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountSnapshot, BrokerEventKind, OrderStatus
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import PluginError
from tbot_core.journal import records
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import PluginLoader
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.broker_day import BrokerDay, addresses, open_day, venue_summary, write_instance
from tbot_core.rehearsal.parallel import SeedReport
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.world import DAY, QUIET_MINUTES, short_day
from tbot_core.system import filesystem
from tbot_core.testing.scripted_server import ServerFault, ServerRequest, SocketFault
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import Plugin
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.rehearsal.random_streams import RandomStream

_SYMBOLS: Final = ("AAPL", "F", "KO")
_MINUTES: Final = (40, 50)
RESTART: Final = "RESTART"
_OUTAGE: Final = "OUTAGE"
_OUTAGE_S: Final = 60.0
_OFTEN: Final = 0.4
_SIGNALS_UNTIL: Final = 20
_SETTINGS: Final = {
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "SLEEP_TIME": "3s",
    "TOTAL_ALLOCATION": "0.2",
    "MAX_GROSS_EXPOSURE": "0.9",
}


def broker_plugin(name: str) -> Plugin:
    """The offer of the installed broker; raises PluginError if it is not installed or cannot be imported."""
    for listing in discovery.installed_plugins():
        if (listing.entry.kind, listing.entry.name) == ("broker", name):
            loaded = PluginLoader().load(listing.entry)
            if isinstance(loaded, PluginFailure):
                raise PluginError(loaded.sentence, "`tbot plugins list --probe` tries every plugin.")
            return loaded.plugin
    raise PluginError(f"The broker {name} is not installed.", "`tbot plugins list` shows the installed plugins.")


@attrs.frozen(kw_only=True, eq=False)
class RehearsedDay:
    """A day of a plugin: its report, the journal, the requests that the venue received, and the account at its end.

    `home` was the instance's folder, which is gone.
    """

    report: SeedReport
    events: list[Event]
    requests: list[ServerRequest]
    account: AccountSnapshot
    home: Path


def rehearse_broker(plugin: Plugin, seed: int) -> RehearsedDay:
    """One day of the plugin; raises PluginError if its venue cannot trade a whole day."""
    chances = RandomStreams(seed)
    calendar, session = short_day(chances.stream("day").whole(*_MINUTES))
    market = SimulatedMarket.drawn(chances, _SYMBOLS, session.minutes)
    faults: Counter[str] = Counter()
    with filesystem.scratch_folder() as home, open_day(plugin, home, market, calendar, DAY) as (day, run):
        alerts = alert_settings(discovery.installed_plugins())
        texts = {**_SETTINGS, **alerts, "BROKER_NAME": plugin.name.upper(), **addresses(plugin, day.venue)}
        write_instance(home, texts)
        day.entrants.append(_entrant(chances.stream("signals")))
        ended = run(lambda day: live_with_faults(day, chances.stream("faults"), faults))
        found = day.venue.wait(day.venue.broker.snapshot(session.open))
        requests = list(day.venue.server.requests)
        seen = venue_summary(day.venue)
        events = _events(home)
    violations = [
        *([ended] if isinstance(ended, str) else []),
        *_violations(events, found),
        *sent_twice(requests, events),
    ]
    report = SeedReport(
        seed=seed,
        orders=sum(event.kind == records.SENDING for event in events),
        fills=sum(event.kind == BrokerEventKind.FILL for event in events),
        deaths=faults[RESTART],
        faults=dict(faults),
        settled_s=(),
        again=f"tbot rehearse --broker {plugin.name} --seeds 1 --first-seed {seed}",
        violations=tuple(violations),
        venue=seen,
    )
    return RehearsedDay(report=report, events=events, requests=requests, account=found, home=home)


def alert_settings(installed: Iterable[PluginListing]) -> dict[str, str]:
    """The settings of alerts: the console, or else another installed channel; nothing is sent.

    Raises PluginError without one.
    """
    channels = sorted((one.entry.name != "console", one.entry.name) for one in installed if one.entry.kind == "alert")
    if not channels:
        raise PluginError(
            "A run needs an alert channel, and none is installed.", "Install tbot-alert-console, or another channel."
        )
    return dict.fromkeys(("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL"), channels[0][1])


def sent_twice(requests: Sequence[ServerRequest], events: Sequence[Event]) -> list[str]:
    """The orders that the server received more than once, by the request that it received first."""
    found = []
    for cid in sorted({event.cid for event in events if event.kind == records.SENDING and event.cid}):
        named = [one for one in requests if cid.encode() in one.body]
        repeated = [one for one in named if (one.method, one.path) == (named[0].method, named[0].path)]
        if len(repeated) > 1:
            found.append(f"TWICE: {named[0].method} {named[0].path} with {cid} arrived {len(repeated)} times")
    return found


async def live_with_faults(
    day: BrokerDay, chance: RandomStream, faults: Counter[str], often: float = _OFTEN
) -> RunOutcome | str:
    """Trade the day, with a fault in this share of its minutes; its end, or what ended the run before the close.

    `faults` counts what was injected.
    """
    life, server = day.start(), day.venue.server
    for minute in range(1, day.session.minutes - QUIET_MINUTES):
        await day.until(minute + chance.between(0, 1))
        if life.done():
            break
        if not chance.happens(often):
            continue
        fault = chance.one([*ServerFault, *SocketFault, _OUTAGE, RESTART])
        faults[fault.name if isinstance(fault, ServerFault | SocketFault) else fault] += 1
        if isinstance(fault, ServerFault):
            server.fail(fault, times=chance.whole(1, 3))
        elif isinstance(fault, SocketFault):
            server.fail_sockets(fault, times=chance.whole(1, 3))
        elif fault == _OUTAGE:
            server.fail(ServerFault.SERVER_ERROR, times=None)
            await day.clock.sleep(_OUTAGE_S)
            server.recover()
        else:
            await day.crash(life)
            await day.clock.sleep(chance.between(1, 90))
            life = day.start()
    server.recover()
    try:
        return await life
    except Exception as fault:  # noqa: BLE001  -- the finding
        last = traceback.extract_tb(fault.__traceback__)[-1]
        return f"ALIVE: the run ended with {type(fault).__name__}: {fault} ({last.filename}:{last.lineno})"


def _violations(events: Sequence[Event], found: AccountSnapshot) -> list[str]:
    # What the end of the day must not leave.
    closed = [event.payload for event in events if event.kind == records.SESSION_CLOSED]
    if not any(event.kind == records.READY for event in events) or not closed:
        return ["DAY: the session was not ready, or not closed"]
    stuck = {event.payload.get("symbol") for event in events if event.kind == records.STUCK}
    held = [one for one in found.holdings if one.quantity and one.symbol not in stuck]
    left = [f"HELD: {one.quantity} {one.symbol} at the venue, and not reported as stuck" for one in held]
    left += [
        f"WORKING: {one.client_order_id} works at the venue after the close"
        for one in found.orders
        if one.kind is OrderStatus.WORKING
    ]
    ours, theirs = Decimal(closed[-1]["cash"]), found.account.cash
    if abs(ours - theirs) >= Decimal("0.01"):
        left.append(f"BOOKS: the books have {ours} in cash, and the venue {theirs}")
    return left


def _entrant(chance: RandomStream) -> ActiveStrategy:
    # A strategy with a few signals in the first minutes.
    window = Window(start=1, analysis=0, breakout=_SIGNALS_UNTIL, monitoring=5)
    cells = {(chance.whole(2, _SIGNALS_UNTIL), chance.whole(0, len(_SYMBOLS) - 1)) for _ in range(chance.whole(3, 6))}
    strategy = ScriptedStrategy(
        window=window,
        calls=tuple((minute, row, 1) for minute, row in sorted(cells)),
        exits=ExitRules(trigger="intrabar", trailing=chance.happens(0.3), leave=window.leave, hold=None),
        distance=chance.between(0.003, 0.03),
        gain=math.nan,
    )
    return ActiveStrategy(name="drawn", rank=0, strategy=strategy, frame=StrategySettings())


def _events(home: Path) -> list[Event]:
    with closing(read_journal(home / "data" / "tbot.sqlite")) as journal:
        return list(journal.events())
