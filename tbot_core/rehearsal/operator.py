"""The operator of a simulated bot: kills, stops and arms it, and answers confirmations, also late, twice or never."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.session.arming import LiveContext
from tbot_core.journal import records
from tbot_core.journal.projections.approvals import ArmingTerms
from tbot_core.model.types import Leg
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.journal.store import NewEvent
    from tbot_core.rehearsal.random_streams import RandomStreams

_KILLS: Final = 0.15
_KILLS_SENDING: Final = 0.08
_MARKED: Final = 4
_LEAVING_S: Final = 0.005
_WORKS: Final = 0.5
_WORKING_S: Final = 10.0
_STOPS: Final = 0.12
_CONFIRMS: Final = 0.2
_LIVE: Final = 0.25
_CHANGES: Final = 0.05
_AS_ORDERS_LEAVE: Final = 0.7
_NAME: Final = "ann"
_KILL_FILE: Final = "kill"
"""The file control/kill: the contract, section 8, "Kill, stop"."""

_UNDO: Final = {
    ControlVerb.STOP: ControlVerb.STOP_CANCEL,
    ControlVerb.STOP_FLATTEN: ControlVerb.STOP_CANCEL,
    ControlVerb.KILL_FLATTEN: ControlVerb.KILL_CLEAR,
    ControlVerb.DEFENSE_ON: ControlVerb.DEFENSE_OFF,
}
"""The operator's requests, without the kill file, and the requests that undo them."""


@attrs.frozen(kw_only=True)
class OperatorMode:
    """The mode of a seed: `timeout_s` of confirmations, None without confirmations; `live`: the bot must be armed."""

    timeout_s: float | None = None
    live: bool = False

    @classmethod
    def drawn(cls, chances: RandomStreams) -> OperatorMode:
        """The mode of a seed."""
        stream = chances.stream("confirmation")
        confirms, timeout_s = stream.happens(_CONFIRMS), stream.one((15.0, 60.0, 300.0))
        return cls(timeout_s=timeout_s if confirms else None, live=chances.stream("arming").happens(_LIVE))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of confirmations."""
        if self.timeout_s is None:
            return {}
        return {"trade_confirmation_required": True, "confirmation_timeout": self.timeout_s}


@attrs.frozen(kw_only=True)
class OperatorAnswer:
    """An answer to the confirmation `identity`; `made` is the time by the bot's clock."""

    identity: str
    verb: ControlVerb
    made: datetime


@attrs.define(kw_only=True)
class OperatorActions:
    """The operator's acts, for the invariants: spans without entries, in seconds of the world, and answers.

    `killed`: by the kill file; `stopped`: by a request for a stop or a kill.
    """

    manner: OperatorMode = attrs.field(factory=OperatorMode)
    killed: list[tuple[float, float]] = attrs.field(factory=list)
    stopped: list[tuple[float, float]] = attrs.field(factory=list)
    disarmed: list[tuple[float, float]] = attrs.field(factory=list)
    answers: list[OperatorAnswer] = attrs.field(factory=list)


class SimulatedOperator:
    """The operator of one seed, and its acts."""

    def __init__(self, world: World, folder: Path) -> None:
        self.manner = OperatorMode.drawn(world.chances)
        self.acts = OperatorActions(manner=self.manner)
        self._world = world
        self._folder = folder
        self._requests = 0
        self._lives = 0
        self._entries: set[str] = set()
        stream = world.chances.stream("kill/sending")
        self._entries_to_kill = stream.whole(1, _MARKED) if stream.happens(_KILLS_SENDING) else 0

    def begin(self) -> None:
        """Plan the acts that do not depend on the bot."""
        self._plan_kill()
        self._plan_stop()
        if self.manner.live:
            self._plan_arming()

    def on_events(self, entries: Sequence[NewEvent]) -> None:
        """React to the bot's events: answer confirmations, arm the bot again, and kill it as an entry leaves."""
        for entry in entries:
            self._watch_entries(entry)
            if entry.kind == records.CONFIRMATION_ASKED:
                self._plan_answer(entry.payload["id"])
            elif entry.kind == records.DISARMED:
                self._plan_rearming()

    def _watch_entries(self, entry: NewEvent) -> None:
        # In some seeds the kill file is created between the mark of an entry and its sending, or while it works.
        if entry.kind == records.INTENDED and entry.payload["leg"] == Leg.ENTRY.value and entry.cid is not None:
            self._entries.add(entry.cid)
        elif entry.kind == records.SENDING and entry.cid in self._entries and self._entries_to_kill:
            self._entries_to_kill -= 1
            stream = self._world.chances.stream("kill/sending")
            within = stream.between(0.0, _LEAVING_S)
            if stream.happens(_WORKS):
                within = stream.between(_LEAVING_S, _WORKING_S)
            if not self._entries_to_kill and not self.acts.killed and self._world.loop.time() < self._world.quiet_from:
                self._world.loop.call_later(within, self._kill)

    def live(self, account_id: str) -> LiveContext | None:
        """The live context of the next process, sometimes with changed settings; None if not live."""
        if not self.manner.live:
            return None
        changes = self._world.chances.stream("settings").happens(_CHANGES) and self._lives > 0
        self._lives += 1
        terms = ArmingTerms(mode="live", account=account_id, settings=f"s{self._lives * changes}", plugins="p")
        return LiveContext(terms=terms, calendar=self._world.calendar)

    def _plan_kill(self) -> None:
        # In some seeds the kill file is created, often as orders are sent, and sometimes removed again.
        stream, world = self._world.chances.stream("kill"), self._world
        kills, at = stream.happens(_KILLS), stream.between(LEAD_S, world.quiet_from)
        clears, after = stream.happens(0.5), stream.between(1.0, 600.0)
        if stream.happens(_AS_ORDERS_LEAVE):
            at += stream.between(-1.0, 2.0) - at % 60.0
        if kills:
            self._entries_to_kill = 0
            world.loop.call_at(at, self._kill)
            if clears:
                world.loop.call_at(at + after, self._clear)

    def _plan_stop(self) -> None:
        # In some seeds a stop, a flattening kill or defense is requested, and sometimes undone.
        stream, world = self._world.chances.stream("stop"), self._world
        requested, verb = stream.happens(_STOPS), stream.one(tuple(_UNDO))
        at, after = stream.between(LEAD_S / 2, world.quiet_from), stream.between(1.0, 600.0)
        undone = stream.happens(0.4)
        if stream.happens(_AS_ORDERS_LEAVE):
            at += stream.between(-1.0, 2.0) - at % 60.0
        if requested:
            world.loop.call_at(at, self._ask, verb)
            if undone:
                world.loop.call_at(at + after, self._undo, verb)

    def _ask(self, verb: ControlVerb) -> None:
        self._drop(verb, {})
        if verb is not ControlVerb.DEFENSE_ON:
            self.acts.stopped.append((self._world.loop.time(), float("inf")))

    def _undo(self, verb: ControlVerb) -> None:
        self._drop(_UNDO[verb], {})
        self.acts.stopped = [(since, self._world.loop.time()) for since, _ in self.acts.stopped]

    def _kill(self) -> None:
        control.prepare_folder(self._folder)
        filesystem.write_atomic(self._folder / _KILL_FILE, b"")
        self.acts.killed.append((self._world.loop.time(), float("inf")))

    def _clear(self) -> None:
        filesystem.remove(self._folder / _KILL_FILE)
        since, _ = self.acts.killed.pop()
        self.acts.killed.append((since, self._world.loop.time()))

    def _plan_arming(self) -> None:
        # Most bots are armed before the open or soon after; some are disarmed, often as orders are sent.
        stream, world = self._world.chances.stream("arming/plan"), self._world
        arms, at = stream.happens(0.9), stream.between(0.0, 1.5 * LEAD_S)
        disarms, over = stream.happens(0.3), stream.between(LEAD_S, world.quiet_from)
        if stream.happens(_AS_ORDERS_LEAVE):
            over += stream.between(-2.0, 2.0) - over % 60.0
        if arms:
            world.loop.call_at(at, self._arm)
        if disarms and over > at:
            world.loop.call_at(over, self._disarm)

    def _arm(self) -> None:
        self._drop(ControlVerb.ARM, {"sessions": "1"})
        if self.acts.disarmed:
            since, until = self.acts.disarmed[-1]
            self.acts.disarmed[-1] = since, min(until, self._world.loop.time())

    def _disarm(self) -> None:
        self._drop(ControlVerb.DISARM, {})
        self.acts.disarmed.append((self._world.loop.time(), float("inf")))

    def _plan_rearming(self) -> None:
        stream = self._world.chances.stream("arming/again")
        again, after = stream.happens(0.6), stream.between(3.0, 120.0)
        if again:
            self._world.loop.call_later(after, self._arm)

    def _plan_answer(self, identity: str) -> None:
        # Most confirmations are given in time; others are rejected, answered twice, too late, or not at all.
        stream, timeout_s = self._world.chances.stream("answers"), self.manner.timeout_s or 0.0
        draw, soon, late = stream.whole(1, 10), stream.between(0.02, 0.9), stream.between(1.05, 1.6)
        verbs = {
            7: (ControlVerb.REJECT,),
            9: (ControlVerb.CONFIRM, ControlVerb.REJECT),
            10: (ControlVerb.REJECT, ControlVerb.CONFIRM),
        }
        at = timeout_s * late + 1.0 if draw == 8 else timeout_s * soon
        for after, verb in enumerate(verbs.get(draw, (ControlVerb.CONFIRM,)) if draw != 6 else ()):
            self._world.loop.call_later(at + 3.0 * after, self._answer, identity, verb)

    def _answer(self, identity: str, verb: ControlVerb) -> None:
        made = self._drop(verb, {"id": identity})
        self.acts.answers.append(OperatorAnswer(identity=identity, verb=verb, made=made))

    def _drop(self, verb: ControlVerb, arguments: Mapping[str, str]) -> datetime:
        self._requests += 1
        made = self._world.clock.now()
        name = f"{verb.value}-{self._requests:04d}.json"
        control.put_request(
            self._folder, ControlRequest(name=name, verb=verb, actor=_NAME, made=made, arguments=arguments)
        )
        return made
