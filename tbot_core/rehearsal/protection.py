"""Measures how long each position was bare, by facts of its venue and the contract; it knows nothing of the engine.

Bare is a position without a working stop or exit for all of it. Seconds count from the first answer or event that shows
the fill or the stop's end, and after a restart from the first answer, to the close. Seconds with emulation that the
journal claims, on a fresh quote, are emulated. Seconds are shown and not counted while every order request failed, the
feed was stale, the symbol was halted, or contradicting readings forbade acting.
"""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, assert_never

import attrs

from tbot_core.journal import records
from tbot_core.testing.venue import (
    Claim,
    ClaimedState,
    Cover,
    ForeignCancel,
    Halted,
    Held,
    OrderRequest,
    Process,
    ProtectionFact,
    Quoted,
    Reading,
    ShownCover,
    ShownHeld,
    SymbolFact,
    TwoListsNeeded,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator

    from tbot_core.journal.store import Event

LONGEST_BARE_S: Final = 15.0
"""No position is bare for longer, as counted."""

RETRY_S: Final = 4.0
"""An order without a known outcome is settled at least this often; a failed request excuses no more."""

UNANSWERED_S: Final = 3.0
"""The outcome of an order without an answer is unknown after this time."""

FRESH_S: Final = 10.0
"""A feed without any message for so long is stale, and a quote of that age is not fresh."""

BELIEVED_AFTER_S: Final = 180.0
"""A contradiction that lasts for so long is believed."""

FALSE_CLAIM_S: Final = 1.0
"""So long may the journal claim a resting stop after the venue has shown that there is none."""

_NO: Final = Decimal(0)
_Class: TypeAlias = Literal["covered", "unseen", "emulated", "uncounted", "counted"]


@attrs.frozen(kw_only=True)
class PositionProtection:
    """What a position was protected by, from its first fill to its end or the close; amounts are seconds.

    `bare_s` is counted, `longest_bare_s` the longest span of it without protection in between. `uncounted_s` is shown
    and not counted, `unseen_s` what no answer or event had shown to a living process. `false_claim_s`: the longest span
    in which the journal claimed a resting stop after the venue had shown otherwise.
    """

    symbol: str
    opened_at: float
    bare_s: float = 0.0
    longest_bare_s: float = 0.0
    uncounted_s: float = 0.0
    unseen_s: float = 0.0
    emulated_s: float = 0.0
    false_claim_s: float = 0.0

    @property
    def violations(self) -> tuple[str, ...]:
        """How it breaks the contract."""
        bare = f"{self.symbol} was bare for {self.longest_bare_s:.1f} s"
        claimed = f"{self.symbol} was claimed to have a resting stop for {self.false_claim_s:.1f} s without one"
        return tuple(
            words
            for words, broken in (
                (bare, self.longest_bare_s > LONGEST_BARE_S),
                (claimed, self.false_claim_s > FALSE_CLAIM_S),
            )
            if broken
        )


def measure_protection(
    facts: Iterable[ProtectionFact], closes_at: float, list_lag_s: float
) -> list[PositionProtection]:
    """The protection of each position, by symbol and time of its first fill; facts after the close do not count.

    `list_lag_s`: a list that was asked for within this time of a confirmation contradicts nothing, and one within this
    time of a foreign cancel shows nothing of it.
    """
    known = sorted((fact for fact in facts if fact.at < closes_at), key=lambda one: one.at)
    moments = sorted({*(at for one in known for at in _moments(one) if at < closes_at), closes_at})
    meter, rest = _Meter(list_lag_s), iter([*known, None])
    upcoming = next(rest)
    for begins, ends in itertools.pairwise(moments):
        while upcoming is not None and upcoming.at <= begins:
            meter.apply(upcoming)
            upcoming = next(rest)
        meter.measure(begins, ends)
    return meter.results()


def claims(events: Iterable[Event], origin: dt.datetime) -> Iterator[Claim]:
    """What a journal claims, in seconds since `origin`; a claim counts from when it was written."""
    for event in events:
        if event.kind == records.PROTECTION:
            at = (event.applied - origin).total_seconds()
            yield Claim(at=at, symbol=event.payload["symbol"], state=event.payload["state"])


def _moments(fact: ProtectionFact) -> tuple[float, ...]:
    # The times at which a fact has an effect: its own, and the one at which it ends by itself.
    match fact:
        case Quoted():
            return fact.at, fact.at + FRESH_S
        case OrderRequest(failed=True):
            return fact.at, fact.at + RETRY_S
        case TwoListsNeeded():
            return fact.at, fact.until
        case Reading(agrees=False) | ForeignCancel():
            return fact.at, fact.at + BELIEVED_AFTER_S
    return (fact.at,)


@attrs.define(eq=False)
class _Symbol:
    # What is known of a symbol at a moment; times are -inf for what has not happened. `opened`: the bare span began
    # with a fill. `contradicted` and `cancelled` are the times from which acting is forbidden, None where it is not.
    name: str
    list_lag_s: float
    held: Decimal = _NO
    cover: Decimal = _NO
    bare_since: float | None = None
    opened: bool = False
    shown_held: Decimal = _NO
    shown_cover: Decimal = _NO
    confirmed_at: float = -math.inf
    quoted_at: float = -math.inf
    halted: bool = False
    waits_until: float = -math.inf
    contradicted: dict[str, float] = attrs.field(factory=dict)
    cancelled: float | None = None
    read_since: set[str] = attrs.field(factory=set)
    claim: ClaimedState | None = None
    result: PositionProtection | None = None
    span_s: float = 0.0
    claim_s: float = 0.0
    ended: list[PositionProtection] = attrs.field(factory=list)

    def apply(self, fact: SymbolFact) -> None:
        """Note a fact."""
        match fact:
            case Held():
                self._change(fact.at, held=fact.quantity)
            case Cover():
                self._change(fact.at, cover=fact.quantity)
            case ShownHeld():
                self.shown_held, self.confirmed_at = fact.quantity, fact.at
            case ShownCover():
                self.shown_cover, self.confirmed_at = fact.quantity, fact.at
            case Reading():
                self._read(fact)
            case ForeignCancel():
                self.cancelled, self.read_since = fact.at, set()
            case _:
                self._apply_other(fact)

    def _apply_other(self, fact: TwoListsNeeded | Quoted | Halted | Claim) -> None:
        # Note what is neither of the venue's books nor of what was shown of them.
        match fact:
            case TwoListsNeeded():
                self.waits_until = max(self.waits_until, fact.until)
            case Quoted():
                self.quoted_at = fact.at
            case Halted():
                self.halted = fact.halted
            case Claim():
                self.claim = fact.state
            case _:
                assert_never(fact)

    def _change(self, at: float, *, held: Decimal | None = None, cover: Decimal | None = None) -> None:
        # Set the position or what covers it; a position that ends or turns to the other side ends its result.
        before = self.held
        self.held = before if held is None else held
        self.cover = self.cover if cover is None else cover
        if self.result is not None and before * self.held <= 0:
            self.ended.append(self.result)
            self.result = None
        if self.held and self.result is None:
            self.result, self.bare_since = PositionProtection(symbol=self.name, opened_at=at), None
            self.span_s = self.claim_s = 0.0
        if abs(self.held) <= self.cover:
            self.bare_since = None
        elif self.bare_since is None:
            self.bare_since, self.opened = at, abs(self.held) > abs(before)

    def _read(self, one: Reading) -> None:
        # Note a list: it contradicts what was confirmed, or agrees; after a foreign cancel both are needed.
        if one.agrees:
            self.contradicted.pop(one.subject, None)
        elif one.asked_at >= self.confirmed_at + self.list_lag_s:
            self.contradicted.setdefault(one.subject, one.at)
        if self.cancelled is not None and one.asked_at >= self.cancelled + self.list_lag_s:
            self.read_since.add(one.subject)
            if self.read_since == {"positions", "orders"}:
                self.cancelled = None

    def is_forbidden(self, at: float) -> bool:
        """Whether the contract forbids to act: until two lists are there, or while readings contradict each other.

        A contradiction never forbids the first stop of a fill; after a foreign cancel there was one before.
        """
        since = [] if self.opened else [*self.contradicted.values()]
        since += [] if self.cancelled is None else [self.cancelled]
        return at < self.waits_until or any(at < one + BELIEVED_AFTER_S for one in since)

    @property
    def is_shown(self) -> bool:
        """Whether by what was shown more is held than what would close it."""
        return abs(self.shown_held) > max(self.cover, self.shown_cover)

    def add(self, kind: _Class, seconds: float) -> None:
        """Add seconds to the position's result."""
        position = self.result
        if position is None:
            return
        self.span_s = 0.0 if kind in {"covered", "emulated"} else self.span_s + seconds * (kind == "counted")
        shown = kind in {"counted", "uncounted"} and abs(self.shown_held) > self.shown_cover
        claimed = shown and self.claim == "resting"
        self.claim_s = self.claim_s + seconds if claimed else 0.0
        self.result = attrs.evolve(
            position,
            bare_s=position.bare_s + seconds * (kind == "counted"),
            uncounted_s=position.uncounted_s + seconds * (kind == "uncounted"),
            unseen_s=position.unseen_s + seconds * (kind == "unseen"),
            emulated_s=position.emulated_s + seconds * (kind == "emulated"),
            longest_bare_s=max(position.longest_bare_s, self.span_s),
            false_claim_s=max(position.false_claim_s, self.claim_s),
        )


class _Meter:
    # The symbols, and what concerns them all: the process, the last order request, the last message of the feed.
    def __init__(self, list_lag_s: float) -> None:
        self._list_lag_s = list_lag_s
        self._symbols: dict[str, _Symbol] = {}
        self._runs, self._runs_since = False, -math.inf
        self._failing_until = self._quoted_at = -math.inf

    def apply(self, fact: ProtectionFact) -> None:
        """Note a fact."""
        match fact:
            case OrderRequest():
                self._failing_until = fact.at + RETRY_S if fact.failed else -math.inf
            case Process():
                self._runs, self._runs_since = fact.runs, fact.at
            case _:
                if isinstance(fact, Quoted):
                    self._quoted_at = fact.at
                self._symbols.setdefault(fact.symbol, _Symbol(fact.symbol, self._list_lag_s)).apply(fact)

    def measure(self, begins: float, ends: float) -> None:
        """Add a span in which nothing changes."""
        for symbol in self._symbols.values():
            symbol.add(self._class_of(symbol, begins), ends - begins)

    def results(self) -> list[PositionProtection]:
        """The positions, also those that are open."""
        positions = [
            position
            for symbol in self._symbols.values()
            for position in (*symbol.ended, symbol.result)
            if position is not None
        ]
        return sorted(positions, key=lambda one: (one.symbol, one.opened_at))

    def _class_of(self, symbol: _Symbol, at: float) -> _Class:
        since = symbol.bare_since
        if since is None:
            return "covered"
        if not self._runs or not (symbol.is_shown or since <= self._runs_since):
            return "unseen"
        if symbol.claim == "emulated" and at < symbol.quoted_at + FRESH_S:
            return "emulated"
        stale = at >= self._quoted_at + FRESH_S
        excused = stale or symbol.halted or at < self._failing_until or symbol.is_forbidden(at)
        return "uncounted" if excused else "counted"
