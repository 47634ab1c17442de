"""The rehearsal of a seed: a world, a bot that crashes and restarts, and the violated invariants."""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.errors import JournalError
from tbot_core.journal.store import Event, open_journal
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, SimulatedCrash, bot_config
from tbot_core.rehearsal.exposure_monitor import ExposureMonitor
from tbot_core.rehearsal.history import RehearsalHistory, record_waits
from tbot_core.rehearsal.invariants.all import violations
from tbot_core.rehearsal.operator import SimulatedOperator
from tbot_core.rehearsal.patching import Swaps, patched
from tbot_core.rehearsal.world import World
from tbot_core.system import editor, filesystem
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.rehearsal.venue_profiles import VenueProfile

_LONG_LIFE: Final = 10**9
_LONGEST_S: Final = 600.0
"""The time limit of one seed; a longer one is stuck in a loop."""

_MOST_DEATHS: Final = 4
_EARLY: Final = 250
_LATE: Final = 2_500
_DIES_LATE: Final = 0.3
"""The largest number of disk and network operations before a crash: most crash early, others at any time."""

_DIES_SENDING: Final = 0.15
_SENDS: Final = 12
"""The share of seeds in which a process crashes as it sends an order, and the latest of these operations."""
_MOST_FAILURES: Final = 2


@attrs.frozen(kw_only=True)
class RehearsalResult:
    """The result of a seed: violated invariants, figures, and the journal."""

    on: tuple[str, ...]
    violations: tuple[str, ...]
    trace_hash: str
    deaths: int
    orders: int
    fills: int
    faults: Counter[str]
    settled_s: tuple[float, ...] = ()
    events: tuple[Event, ...] = attrs.field(default=(), repr=False)


def rehearse(
    seed: int,
    faults: Sequence[str] | None = None,
    swaps: Swaps = (),
    *,
    live: bool | None = None,
    character: VenueProfile | None = None,
) -> RehearsalResult:
    """Rehearse a seed; `swaps` are applied while the bot runs, not while it is checked.

    `live`: whether the bot has a live feed or a minute feed; `character`: the venues' profile. The seed decides what is
    None.
    """
    return rehearse_world(World(seed, faults, live=live, character=character), swaps)


def rehearse_world(world: World, swaps: Swaps = ()) -> RehearsalResult:
    """Rehearse the bot of a world's seed in that world, which must be new; `swaps` as in `rehearse`."""
    with memory_folder() as home:
        return _Rehearsal(world, home).go(swaps)


def shrink_faults(seed: int, verdict: RehearsalResult, *, live: bool | None = None) -> RehearsalResult:
    """The result of the same seed with as few faults as still violate an invariant, removed one by one.

    `live` is that of the rehearsal whose result it is.
    """
    left = list(verdict.on)
    for name in verdict.on:
        fewer = [one for one in left if one != name]
        tried = rehearse(seed, fewer, live=live)
        if tried.violations:
            left, verdict = fewer, tried
    return verdict


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A temporary folder in memory if the machine has one, where syncs are fast; durability is not rehearsed here."""
    with editor.in_memory() if editor.MEMORY.exists() else filesystem.scratch_folder() as home:
        yield home


class _Rehearsal:
    def __init__(self, world: World, home: Path) -> None:
        self._world = world
        self._home = home
        self._operator = SimulatedOperator(world, home / "control")
        bot = bot_config(world, self._operator.manner.settings)
        self._monitor = ExposureMonitor(world)
        self._bot = attrs.evolve(bot, on_events=self._operator.on_events, live=self._operator.live)
        self._deaths = world.chances.stream("deaths")
        late = world.falls or world.chances.stream("late").happens(_DIES_LATE)
        self._lifetime = _LATE if late else _EARLY
        aimed = world.chances.stream("deaths/sending")
        self._sends = aimed.whole(1, _SENDS) if aimed.happens(_DIES_SENDING) else 0
        self._names = world.names if self._bot.failover else world.names[:1]
        rules = self._bot.rules(world.client(self._names[0]).capabilities)
        self._history = RehearsalHistory(
            world=world, name=self._names[0], rules=rules, people=self._operator.acts, on_close=bot.on_close
        )

    def go(self, swaps: Swaps = ()) -> RehearsalResult:
        self._operator.begin()
        self._monitor.begin()
        with patched((*record_waits(self._world.loop, self._history.turns), *swaps)):
            call_within(_LONGEST_S, lambda: self._world.run(self._main))
        self._history.unguarded += self._monitor.found.values()
        self._history.births += self._monitor.births
        self._read()
        kinds = Counter(event.kind for event in self._history.events)
        for event in self._history.events:
            self._world.add_trace_line(f"{event.seq} {event.kind} {event.cid or '-'} {event.hash}")
        return RehearsalResult(
            on=self._world.faults.on,
            violations=tuple(violations(self._history)),
            trace_hash=self._world.trace_hash,
            deaths=len(self._history.lives) - 1,
            orders=kinds["intended"],
            fills=kinds[BrokerEventKind.FILL],
            faults=Counter(self._world.faults.injected),
            settled_s=tuple(self._history.settled()),
            events=tuple(self._history.events),
        )

    def _read(self) -> None:
        # Read the journal's events, and verify it.
        try:
            journal = open_journal(self._home / "tbot.sqlite")
        except JournalError as fault:
            self._history.torn = fault.message
            return
        try:
            self._history.events = list(journal.events())
            journal.verify()
        except JournalError as fault:
            self._history.torn = fault.message
        finally:
            journal.close()

    async def _main(self) -> None:
        deaths = self._deaths.whole(0, _MOST_DEATHS) if self._deaths.happens(0.6) else 0
        while True:
            crashes = len(self._history.lives) < deaths
            crash = PlannedCrash(
                self._deaths.whole(1, self._lifetime) if crashes else _LONG_LIFE,
                after=self._deaths.happens(0.5),
                sends=self._sends,
            )
            try:
                life = BotProcess(self._world, self._names, self._home, self._bot, crash)
            except JournalError:  # no bot can start; the invariants report the journal
                return
            self._monitor.watch(life)
            try:
                await life.live()
            except SimulatedCrash:
                self._sends = crash.sends
                await self._end_life(life)
            except Exception as failure:  # noqa: BLE001  it is restarted after any error, which is reported
                self._history.failures.append(_words(failure))
                await self._end_life(life)
                if len(self._history.failures) > _MOST_FAILURES:
                    return
            else:
                self._history.lives.append(life.lived)
                self._history.end(life)
                life.close()
                return

    async def _end_life(self, life: BotProcess) -> None:
        # The process ended before the session; it is restarted after a while.
        self._monitor.watch(None)
        self._world.add_trace_line("the process died")
        self._history.deaths.append(self._world.loop.time())
        self._history.lives.append(life.lived)
        life.close()
        await self._world.clock.sleep(self._deaths.between(0.5, 90.0))


def _words(failure: Exception) -> str:
    # The error that ended the bot, and its place.
    where = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{type(failure).__name__} {failure} at {where.name}, line {where.lineno}"
