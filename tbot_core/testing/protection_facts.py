"""The facts of a venue from which a judge measures how long positions were without protection.

A venue for tests records them; `tbot_core.rehearsal.protection` measures them. `at` is in seconds of the venue's clock.
What a venue knows is a fact when it happens. What the bot can know is a fact of its own, when an answer or event with
it was delivered.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

import attrs

ClaimedState: TypeAlias = Literal["resting", "emulated", "bare", "closed"]


@attrs.frozen(kw_only=True)
class Held:
    """The position of a symbol from now on; short below 0."""

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class Cover:
    """The quantity that working stops and exits of a symbol would close, from now on."""

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class ShownHeld:
    """The position by the executions that answers and events have shown, from now on; short below 0."""

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class ShownCover:
    """What stops and exits would close by what was shown of them, from now on.

    One counts until its end is shown, for what was ordered until a list shows that less was taken.
    """

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class Reading:
    """A whole list was delivered; `agrees`: it has of the symbol what the venue had told the bot before."""

    at: float
    symbol: str
    subject: Literal["positions", "orders"]
    asked_at: float
    agrees: bool = True


@attrs.frozen(kw_only=True)
class ForeignCancel:
    """The venue or a person cancelled a protective order of the bot."""

    at: float
    symbol: str


@attrs.frozen(kw_only=True)
class OrderRequest:
    """The bot sent an order, a replace or a cancel; `failed`: without an answer, or with 3xx, 429 or 5xx."""

    at: float
    failed: bool


@attrs.frozen(kw_only=True)
class TwoListsNeeded:
    """A stop or exit may have been booked: another is sent after two lists without it, which takes `until` then."""

    at: float
    symbol: str
    until: float


@attrs.frozen(kw_only=True)
class Quoted:
    """The feed delivered a trade or quote of a symbol."""

    at: float
    symbol: str


@attrs.frozen(kw_only=True)
class Halted:
    """A symbol is halted from now on, or trades again."""

    at: float
    symbol: str
    halted: bool


@attrs.frozen(kw_only=True)
class Process:
    """The bot's process got its first answer of the venue, or ended."""

    at: float
    runs: bool


@attrs.frozen(kw_only=True)
class Claim:
    """The bot's journal states how a symbol is protected, from now on."""

    at: float
    symbol: str
    state: ClaimedState


SymbolFact: TypeAlias = (
    Held | Cover | ShownHeld | ShownCover | Reading | ForeignCancel | TwoListsNeeded | Quoted | Halted | Claim
)
ProtectionFact: TypeAlias = SymbolFact | OrderRequest | Process
