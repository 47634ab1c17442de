"""Entries of a session that need a confirmation: requested, confirmed or rejected, and checked again once confirmed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.engine.control import CONFIRMATION_VERBS, ControlRequest, ControlVerb, effective_answer
from tbot_core.engine.session.recovery import proposal_of
from tbot_core.engine.session.requests import request_of
from tbot_core.journal import records
from tbot_core.journal.events.orders import ConfirmationAsked, SignalDecided
from tbot_core.journal.events.risk import RequestExecuted
from tbot_core.journal.projections.approvals import short_id
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ticks_of, units_of
from tbot_core.system import log
from tbot_core.trading.commands import Decision
from tbot_core.trading.proposals import Proposal
from tbot_core.trading.risk.exposure import ReservedEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tbot_core.contracts.settings import EntrySettings
    from tbot_core.journal.store import Event, JournalRecorder

_MINUTE: Final = timedelta(minutes=1)
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class PendingEntry:
    """A pending entry: the `quantity` that a person is asked for, and the answer."""

    proposal: Proposal
    quantity: Decimal
    expires: datetime
    answer: ControlRequest | None = None

    @property
    def reserved(self) -> ReservedEntry:
        """The entry as it counts in the question about the next one."""
        return _reserved(self.proposal, self.quantity)


class EntryDecider(Protocol):
    """Decides entries."""

    def preview(self, proposal: Proposal, ahead: Sequence[ReservedEntry] = ()) -> Decision:
        """The decision that would be made now, as if the entries `ahead` were sent; limits do not count it."""

    def decide(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide signals in their order; each allowed one counts for those after it."""


class ConfirmationQueue:
    """The pending entries, by their short ids; without TRADE_CONFIRMATION_REQUIRED there are none."""

    def __init__(self, entries: EntrySettings, decider: EntryDecider, recorder: JournalRecorder) -> None:
        self._required = entries.trade_confirmation_required
        self._timeout = timedelta(seconds=entries.confirmation_timeout)
        self._decider = decider
        self._recorder = recorder
        self._pending: dict[str, PendingEntry] = {}
        self._names: set[str] = set()

    def has_pending(self) -> bool:
        """Whether an entry is pending."""
        return bool(self._pending)

    @property
    def pending(self) -> Mapping[str, PendingEntry]:
        """The pending entries by their short ids."""
        return self._pending

    def hold_for_confirmation(self, proposals: Sequence[Proposal]) -> tuple[list[Decision], list[Proposal]]:
        """The decisions that need a confirmation, and the proposals that do not.

        A question is about what is sent if all questions before it are confirmed; if that is nothing, about what is
        sent if none of them is.
        """
        if not self._required:
            return [], list(proposals)
        allowed, others = list[Decision](), list[Proposal]()
        ahead = [one.reserved for one in self._pending.values()]
        for one in sorted(proposals, key=lambda one: one.sort_key):
            decision = self._decider.preview(one, ahead)
            if decision.reason is not Reason.ALLOWED and ahead:
                decision = self._decider.preview(one)
            if decision.order is None:
                others.append(one)
                continue
            allowed.append(decision)
            ahead.append(_reserved(one, decision.order.quantity))
        return allowed, others

    def request_confirmation(self, decisions: Iterable[Decision]) -> None:
        """Record a request for confirmation; the entry is pending from now on."""
        for decision in decisions:
            name = short_id(decision.proposal.signal, self._names)
            expires = self._recorder.clock.now() + self._timeout
            asked = ConfirmationAsked.asked(name, decision, expires)
            self._recorder.record(asked)
            self._add_pending(name, _pending(decision.proposal, asked))

    def record_answer(self, request: ControlRequest, read: datetime | None = None) -> str:
        """Store the answer to a pending entry; the first one counts, but a rejection counts until the entry is sent.

        It must be `read` before the entry expires, now without it: the clock of a sender may differ from the bot's.
        """
        name = request.arguments.get("id", "")
        found, at = self._pending.get(name), read or self._recorder.clock.now()
        if found is None or at >= found.expires or effective_answer(found.answer, request) is not request:
            _log.warning("confirmation.not_pending", id=name, actor=request.actor)
        else:
            self._pending[name] = attrs.evolve(found, answer=request)
        return ""

    def decide_answered(
        self, renew: Callable[[Proposal], Proposal | None], *, whole_minutes: bool = False
    ) -> list[Decision]:
        """Decide the entries that were answered, and those that expired: nothing is sent after the expiry.

        `renew` checks a proposal again at the current price, None while there is none. `whole_minutes`: nothing
        happens between the ends of minutes, so what was confirmed in time is sent at the next one.
        """
        now = self._recorder.clock.now()
        decisions: list[Decision] = []
        for name, one in list(self._pending.items()):
            confirmed = one.answer is not None and whole_minutes
            decided = self._decided(one, now - _MINUTE if confirmed else now, renew)
            if decided:
                del self._pending[name]
                decisions += decided
        return decisions

    def expire_all(self) -> list[Decision]:
        """Expire all pending entries at the session's end."""
        pending, self._pending = self._pending, {}
        return [Decision(proposal=one.proposal, reason=Reason.CONFIRMATION_EXPIRED) for one in pending.values()]

    def restore(self, events: Iterable[Event], rows: Mapping[str, int]) -> set[str]:
        """Apply the requests and answers from before a restart; returns the signals that needed a confirmation.

        An entry in a symbol that is no longer subscribed has no current price: it waits until it expires.
        """
        asked: set[str] = set()
        for event in events:
            if event.kind == records.CONFIRMATION_ASKED:
                question = event.facts(ConfirmationAsked)
                asked.add(question.signal.text)
                proposal = proposal_of(question, rows.get(question.signal.symbol))
                self._add_pending(question.id, _pending(proposal, question))
            elif event.kind == records.REQUEST:
                request = event.facts(RequestExecuted)
                if request.verb in CONFIRMATION_VERBS:
                    self.record_answer(request_of(request), event.applied)
            elif event.kind == records.DECISION:
                self._remove_decided(event.facts(SignalDecided).signal.text)
        return asked

    def _add_pending(self, name: str, pending: PendingEntry) -> None:
        self._names.add(name)
        self._pending[name] = pending

    def _remove_decided(self, signal: str) -> None:
        self._pending = {name: one for name, one in self._pending.items() if one.proposal.signal.text != signal}

    def _decided(
        self, one: PendingEntry, now: datetime, renew: Callable[[Proposal], Proposal | None]
    ) -> list[Decision]:
        answer = one.answer
        if answer is not None and answer.verb is ControlVerb.REJECT:
            words = f"rejected by {answer.actor}"
            return [Decision(proposal=one.proposal, reason=Reason.CONFIRMATION_REJECTED, detail=words)]
        if one.expires <= now:
            words = f"confirmed by {answer.actor}, but not sent in time" if answer else ""
            return [Decision(proposal=one.proposal, reason=Reason.CONFIRMATION_EXPIRED, detail=words)]
        renewed = None if answer is None else renew(one.proposal)
        # A bot that has just started has no quote yet: what was confirmed waits for the first one.
        if answer is not None and renewed is not None and renewed.reason is not Reason.NO_QUOTE:
            decided = self._decider.decide([attrs.evolve(renewed, most_units=units_of(one.quantity))])
            return [_confirmed_by(answer.actor, each) for each in decided]
        return []


def _pending(proposal: Proposal, asked: ConfirmationAsked) -> PendingEntry:
    return PendingEntry(proposal=proposal, quantity=asked.quantity or Decimal(0), expires=asked.expires)


def _reserved(proposal: Proposal, quantity: Decimal) -> ReservedEntry:
    instrument = proposal.instrument
    atoms = instrument.atoms(units_of(quantity), ticks_of(proposal.sizing_price))
    return ReservedEntry(
        signal=proposal.signal,
        instrument=instrument,
        side=proposal.position_side,
        worst_atoms=atoms,
        power_atoms=atoms,
    )


def _confirmed_by(actor: str, decision: Decision) -> Decision:
    if decision.reason is not Reason.ALLOWED:
        return decision
    return attrs.evolve(decision, detail=f"confirmed by {actor}")
