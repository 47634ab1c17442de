"""A seed from its beginning to its end: a world, a bot that dies and starts again, and what was violated."""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.errors import JournalError
from tbot_core.journal.store import open_journal
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, SimulatedCrash, bot_config
from tbot_core.rehearsal.exposure_monitor import ExposureMonitor
from tbot_core.rehearsal.history import RehearsalHistory
from tbot_core.rehearsal.invariants.all import violations
from tbot_core.rehearsal.invariants.fairness import record_waits
from tbot_core.rehearsal.operator import SimulatedOperator
from tbot_core.rehearsal.patching import Swaps, patched
from tbot_core.rehearsal.world import World
from tbot_core.system import editor, filesystem
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_LONG_LIFE: Final = 10**9
_LONGEST_S: Final = 600.0
"""A seed that takes longer turns in a circle. One bound for all of it: what a step takes here is no matter."""

_MOST_DEATHS: Final = 4
_EARLY: Final = 250
_LATE: Final = 2_500
_DIES_LATE: Final = 0.3
"""The operations on disk and wire of which a life dies: most while it starts, others at any time of the day."""
_MOST_FAILURES: Final = 2


@attrs.frozen(kw_only=True)
class RehearsalResult:
    """What a seed came to: violated invariants, and figures."""

    on: tuple[str, ...]
    violations: tuple[str, ...]
    trace_hash: str
    deaths: int
    orders: int
    fills: int
    faults: Counter[str]
    settled_s: tuple[float, ...] = ()


def rehearse(
    seed: int, faults: Sequence[str] | None = None, swaps: Swaps = (), *, live: bool | None = None
) -> RehearsalResult:
    """Live through a seed; `swaps` are in the bot while it lives, and gone when it is judged.

    `live`: whether the bot hears a live feed or one of whole minutes; None lets the seed decide.
    """
    with memory_folder() as home:
        return _Rehearsal(World(seed, faults, live=live), home).go(swaps)


def shrink_faults(seed: int, verdict: RehearsalResult) -> RehearsalResult:
    """The verdict of the same seed with as few faults as still violate something, taken away one by one."""
    left = list(verdict.on)
    for name in verdict.on:
        fewer = [one for one in left if one != name]
        tried = rehearse(seed, fewer)
        if tried.violations:
            left, verdict = fewer, tried
    return verdict


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder whose syncs cost nothing, where the machine has one: what is durable is not what is rehearsed here."""
    with editor.in_memory() if editor.MEMORY.exists() else filesystem.scratch_folder() as home:
        yield home


class _Rehearsal:
    def __init__(self, world: World, home: Path) -> None:
        self._world = world
        self._home = home
        self._people = SimulatedOperator(world, home / "control")
        bot = bot_config(world, self._people.manner.settings)
        self._patrol = ExposureMonitor(world)
        self._bot = attrs.evolve(bot, on_events=self._people.on_events, live=self._people.live)
        self._deaths = world.chances.stream("deaths")
        late = world.falls or world.chances.stream("late").happens(_DIES_LATE)
        self._lifetime = _LATE if late else _EARLY
        self._names = world.names if self._bot.failover else world.names[:1]
        rules = self._bot.rules(world.client(self._names[0]).rules)
        self._story = RehearsalHistory(world=world, name=self._names[0], rules=rules, people=self._people.acts)

    def go(self, swaps: Swaps = ()) -> RehearsalResult:
        self._people.begin()
        self._patrol.begin()
        with patched((*record_waits(self._world.loop, self._story.turns), *swaps)):
            call_within(_LONGEST_S, lambda: self._world.run(self._main))
        self._story.unguarded += self._patrol.found.values()
        self._story.births += self._patrol.births
        self._read()
        kinds = Counter(event.kind for event in self._story.events)
        for event in self._story.events:
            self._world.add_trace_line(f"{event.seq} {event.kind} {event.cid or '-'} {event.hash}")
        return RehearsalResult(
            on=self._world.faults.on,
            violations=tuple(violations(self._story)),
            trace_hash=self._world.trace_hash,
            deaths=len(self._story.lives) - 1,
            orders=kinds["intended"],
            fills=kinds[BrokerEventKind.FILL],
            faults=Counter(self._world.faults.injected),
            settled_s=tuple(self._story.settled()),
        )

    def _read(self) -> None:
        # Take in what was written down, and what is wrong with it.
        try:
            journal = open_journal(self._home / "tbot.sqlite")
        except JournalError as fault:
            self._story.torn = fault.message
            return
        try:
            self._story.events = list(journal.events())
            journal.verify()
        except JournalError as fault:
            self._story.torn = fault.message
        finally:
            journal.close()

    async def _main(self) -> None:
        deaths = self._deaths.whole(0, _MOST_DEATHS) if self._deaths.happens(0.6) else 0
        while True:
            mortal = len(self._story.lives) < deaths
            doom = PlannedCrash(
                self._deaths.whole(1, self._lifetime) if mortal else _LONG_LIFE, after=self._deaths.happens(0.5)
            )
            try:
                life = BotProcess(self._world, self._names, self._home, self._bot, doom)
            except JournalError:  # no bot starts on it, and no judge will like it
                return
            self._patrol.watch(life)
            try:
                await life.live()
            except SimulatedCrash:
                await self._bury(life)
            except Exception as failure:  # noqa: BLE001  whatever it dies of, it is started again, and judged
                self._story.failures.append(_words(failure))
                await self._bury(life)
                if len(self._story.failures) > _MOST_FAILURES:
                    return
            else:
                self._story.lives.append(life.lived)
                self._story.end(life)
                life.close()
                return

    async def _bury(self, life: BotProcess) -> None:
        # A life is over before the session is; after a while the process is started again.
        self._patrol.watch(None)
        self._world.add_trace_line("the process died")
        self._story.lives.append(life.lived)
        life.close()
        await self._world.clock.sleep(self._deaths.between(0.5, 90.0))


def _words(failure: Exception) -> str:
    # What the bot died of, and where.
    where = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{type(failure).__name__} {failure} at {where.name}, line {where.lineno}"
