"""Entries of a session that need a confirmation: requested, confirmed or rejected, and checked again once confirmed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.session.recovery import proposal_of
from tbot_core.engine.session.requests import request_of
from tbot_core.journal import records
from tbot_core.journal.projections.confirmations import asked_payload, short_id
from tbot_core.model.reasons import Reason
from tbot_core.system import log
from tbot_core.trading.commands import Decision
from tbot_core.trading.proposals import Proposal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tbot_core.contracts.settings import EntrySettings
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.journal.store import Event

CONFIRMATION_VERBS: Final = frozenset({ControlVerb.CONFIRM, ControlVerb.REJECT})
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class PendingEntry:
    """A pending entry; `answer` is the operator's."""

    proposal: Proposal
    expires: datetime
    answer: ControlRequest | None = None


class EntryDecider(Protocol):
    """Decides entries."""

    def preview(self, proposal: Proposal) -> Decision:
        """The decision that would be made now; limits do not count it."""

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

    def hold_for_confirmation(self, proposals: Sequence[Proposal]) -> tuple[list[Decision], list[Proposal]]:
        """The decisions that need a confirmation, and the proposals that do not."""
        if not self._required:
            return [], list(proposals)
        previews = [self._decider.preview(one) for one in sorted(proposals, key=lambda one: one.sort_key)]
        allowed = [one for one in previews if one.reason is Reason.ALLOWED]
        return allowed, [one.proposal for one in previews if one.reason is not Reason.ALLOWED]

    def request_confirmation(self, decisions: Iterable[Decision]) -> None:
        """Record a request for confirmation; the entry is pending from now on."""
        for decision in decisions:
            name = short_id(decision.proposal.signal, self._names)
            expires = self._recorder.clock.now() + self._timeout
            self._recorder.record(records.CONFIRMATION_ASKED, asked_payload(name, decision, expires))
            self._add_pending(name, PendingEntry(proposal=decision.proposal, expires=expires))

    def record_answer(self, request: ControlRequest) -> str:
        """Store the answer to a pending entry; the first one counts, and only if it is in time."""
        name = request.arguments.get("id", "")
        found = self._pending.get(name)
        if found is None or found.answer is not None or request.made >= found.expires:
            _log.warning("confirmation.not_pending", id=name, actor=request.actor)
        else:
            self._pending[name] = attrs.evolve(found, answer=request)
        return ""

    def decide_answered(self, renew: Callable[[Proposal], Proposal | None]) -> list[Decision]:
        """Decide the entries that were answered, and those that expired.

        `renew` checks a proposal again at the current price, None while there is none.
        """
        now = self._recorder.clock.now()
        decisions: list[Decision] = []
        for name, one in list(self._pending.items()):
            decided = self._decided(one, now, renew)
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
            payload = event.payload
            if event.kind == records.CONFIRMATION_ASKED:
                proposal = proposal_of(payload, rows.get(payload["signal"]["symbol"]))
                asked.add(proposal.signal.text)
                self._add_pending(
                    payload["id"], PendingEntry(proposal=proposal, expires=datetime.fromisoformat(payload["expires"]))
                )
            elif event.kind == records.REQUEST and payload["verb"] in CONFIRMATION_VERBS:
                self.record_answer(request_of(payload))
            elif event.kind == records.DECISION:
                self._remove_decided(records.signal_of(payload["signal"]).text)
        return asked

    def _add_pending(self, name: str, pending: PendingEntry) -> None:
        self._names.add(name)
        self._pending[name] = pending

    def _remove_decided(self, signal: str) -> None:
        self._pending = {name: one for name, one in self._pending.items() if one.proposal.signal.text != signal}

    def _decided(
        self, one: PendingEntry, now: datetime, renew: Callable[[Proposal], Proposal | None]
    ) -> list[Decision]:
        if one.answer is not None and one.answer.verb is ControlVerb.REJECT:
            words = f"rejected by {one.answer.actor}"
            return [Decision(proposal=one.proposal, reason=Reason.CONFIRMATION_REJECTED, detail=words)]
        renewed = None if one.answer is None else renew(one.proposal)
        if renewed is not None:
            return self._decider.decide([renewed])
        if one.expires <= now:
            return [Decision(proposal=one.proposal, reason=Reason.CONFIRMATION_EXPIRED)]
        return []
