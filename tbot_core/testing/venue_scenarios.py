"""The scenarios that the venue of a broker offers, and what it shows of a day to a judge.

`tbot rehearse --broker NAME --scenarios` runs each scenario as a day of its own: one signal, its stop and its exit,
with the faults that the scenario plans at the venue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from tbot_core.testing.protection_facts import ProtectionFact

Kill = Callable[[float], None]
"""Ends the bot's process as kill -9 does, and starts another one so many seconds later."""


@attrs.frozen(kw_only=True)
class VenueScenario:
    """A short day with one signal at the end of minute `enters`; what it opens is to be closed `holds` minutes later.

    `plan` plans the faults, at a venue whose day has not begun. The session lasts `minutes`, and flattening begins
    `flattens` minutes before its end. With `rises` prices rise, so that stops trail; a `short` signal is to sell.
    With `foreign` others trade in the account, so that what the bot books without an order of its own is no error.
    Without `trades` it is no error either that nothing is opened. A `full` one runs only where its name is asked for.
    """

    name: str
    plan: Callable[[Any, Kill], None]
    enters: int = 1
    holds: int = 3
    minutes: int = 12
    flattens: int = 5
    rises: bool = False
    short: bool = False
    foreign: bool = False
    trades: bool = True
    full: bool = False


@attrs.frozen(kw_only=True)
class SeenRequest:
    """An order request as it arrived: what it did, and whether it `failed`, as `OrderRequest` does."""

    at: float
    act: str
    symbol: str
    client_order_id: str
    failed: bool


@attrs.frozen(kw_only=True)
class SeenOrder:
    """An order that was booked; `own`: by a request of the bot. `replaces` is the client order id of another one."""

    client_order_id: str
    symbol: str
    act: str
    buy: bool
    own: bool
    arrived_at: float
    replaces: str = ""
    filled: Decimal = Decimal(0)
    ended_at: float | None = None
    cancelled: bool = False
    cancelled_by_client: bool = False


@runtime_checkable
class ScenarioVenue(Protocol):
    """A venue that offers scenarios; times of what it shows are seconds of its clock, by `monotonic`."""

    def scenarios(self) -> Sequence[VenueScenario]:
        """The scenarios, each with a name of its own."""

    def set_process(self, *, runs: bool) -> None:
        """The bot's process has ended, so that nothing arrives or is delivered any more; or another one has begun."""

    @property
    def faults_met(self) -> bool:
        """Whether everything that a scenario planned has happened."""

    def facts(self) -> Sequence[ProtectionFact]:
        """What has happened to positions and their protection, and what the bot was shown of it."""

    def requests_seen(self) -> Sequence[SeenRequest]:
        """The order requests that arrived, in their order."""

    def orders_seen(self) -> Sequence[SeenOrder]:
        """The orders that were booked, in their order."""

    def holdings(self) -> Mapping[str, Decimal]:
        """The positions now, those that were sold short below 0."""

    def cash(self) -> Decimal:
        """The cash now."""
