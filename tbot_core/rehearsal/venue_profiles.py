"""Profiles of simulated venues: declared capabilities and undeclared behaviour."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerCapabilities, ReplaceMode
from tbot_core.model.types import TICKS_PER_DOLLAR, OrderType

if TYPE_CHECKING:
    from tbot_core.rehearsal.random_streams import RandomStream, RandomStreams

_FRACTION: Final = Decimal("0.000001")
_WHOLE_DAY_S: Final = 86_400.0
_LIST_LAGS_S: Final = (1.0, 5.0, 5.0, 15.0, 30.0)
_LAGS: Final = 0.5
_DEAR: Final = 0.06
_DEAR_TICKS: Final = 2 * TICKS_PER_DOLLAR
"""The share of venues whose fees alone can reach a loss limit, and their fee per share."""


@attrs.frozen(kw_only=True)
class ReadingLags:
    """How many seconds each reading of a venue is behind: of its lists, of a look-up by id, and of its event stream."""

    positions_s: float = 0.0
    orders_s: float = 0.0
    account_s: float = 0.0
    activities_s: float = 0.0
    lookup_s: float = 0.0
    events_s: float = 0.0

    @classmethod
    def of_lists(cls, lag_s: float) -> ReadingLags:
        """All lists are behind by the same seconds, as in a reading that has a barrier."""
        return cls(positions_s=lag_s, orders_s=lag_s, account_s=lag_s, activities_s=lag_s)


@attrs.frozen(kw_only=True)
class VenueProfile:
    """A venue's capabilities and behaviour.

    `fee_ticks`: fee per share in ticks. `margin` false: no short sales, only cash. `numbers_moments`: its snapshots
    have a barrier. `refuses_at_once`: a rejection is the answer to a submit, else the order is accepted and rejected
    later. `documents_429`: a request over the limit certainly has no effect. `lags`: the largest lag of each reading,
    which draws its own up to that: at most the declared `list_lag_s`, and one for all lists where `numbers_moments`.
    `dedupe_window_s`: how long a second order of a client order id is refused; 0: it is accepted.
    `cancels_by_cid` false: a cancel needs the venue's own order id. `live`: whether the account reports live money.
    `queue_s`: how long the first, third, ... limit entry rests behind the orders of others before it may fill; no seed
    draws it.
    """

    rules: BrokerCapabilities = attrs.field(factory=BrokerCapabilities)
    account_id: str = "SIM-1"
    cash: Decimal = Decimal(100_000)
    fee_ticks: int = 0
    margin: bool = True
    numbers_moments: bool = True
    refuses_at_once: bool = True
    refuses_crossed_stops: bool = False
    documents_429: bool = True
    lags: ReadingLags = attrs.field(factory=ReadingLags)
    dedupe_window_s: float = 0.0
    cancels_by_cid: bool = True
    live: bool | None = None
    queue_s: float = 0.0


def random_profile(chances: RandomStreams, name: str) -> VenueProfile:
    """The profile that the seed draws; `name` distinguishes the venues of one world."""
    stream = chances.stream(f"venue/{name}")
    fractional = stream.happens(0.3)
    dedupes = stream.happens(0.5)
    window = stream.one((120.0, 900.0, _WHOLE_DAY_S))
    brackets, amends = stream.happens(0.5), stream.happens(0.5)
    finds, cancels = stream.happens(0.7), stream.happens(0.7)
    rules = BrokerCapabilities(
        brackets=brackets,
        replace=_replace_mode(chances, name) if amends else ReplaceMode.CANCEL_AND_NEW,
        query_by_cid=finds,
        lists_closed=stream.happens(0.8),
        exec_ids_unique=stream.happens(0.8),
        requests_per_minute=stream.one((0, 0, 60, 200)),
        quantity_step=_FRACTION if fractional else Decimal(1),
        fractional_types=frozenset({OrderType.MARKET, OrderType.LIMIT} if fractional else ()),
        cid_length=stream.one((20, 32, 48, 128)),
        shortable=True,
    )
    character = VenueProfile(
        rules=rules,
        account_id=f"SIM-{name.upper()}",
        cash=Decimal(stream.one((25_000, 100_000, 1_000_000))),
        fee_ticks=stream.one((0, 35, TICKS_PER_DOLLAR // 200)),
        margin=stream.happens(0.8),
        numbers_moments=stream.happens(0.5),
        refuses_at_once=stream.happens(0.7),
        refuses_crossed_stops=stream.happens(0.5),
        documents_429=stream.happens(0.5),
        lags=ReadingLags(lookup_s=stream.one((0.0, 0.0, 1.0, 3.0))),
        dedupe_window_s=window if dedupes else 0.0,
        cancels_by_cid=cancels,
    )
    if chances.stream(f"venue/{name}/fees").happens(_DEAR):
        character = attrs.evolve(character, fee_ticks=_DEAR_TICKS)
    rules = attrs.evolve(rules, streams=chances.stream(f"venue/{name}/events").happens(0.3))
    tells = rules.lists_closed or rules.query_by_cid
    rules = attrs.evolve(rules, lists_fills=stream.happens(0.3) or not tells)
    most = chances.stream(f"venue/{name}/lists").one(_LIST_LAGS_S)
    unique = character.dedupe_window_s >= _WHOLE_DAY_S
    rules = attrs.evolve(rules, list_lag_s=most, unique_client_order_id=unique)
    lookup_s = min(character.lags.lookup_s, most)
    return attrs.evolve(character, rules=rules, lags=ReadingLags(lookup_s=lookup_s))


def with_lags(character: VenueProfile, stream: RandomStream) -> VenueProfile:
    """The profile with readings that are behind, up to what it declares; about half of its readings are."""
    most = character.rules.list_lag_s

    def lag_s() -> float:
        return stream.between(0.0, most) if stream.happens(_LAGS) else 0.0

    lists = ReadingLags(positions_s=lag_s(), orders_s=lag_s(), account_s=lag_s(), activities_s=lag_s())
    if character.numbers_moments:
        lists = ReadingLags.of_lists(lists.orders_s)
    lookup_s = max(character.lags.lookup_s, lag_s())
    return attrs.evolve(character, lags=attrs.evolve(lists, lookup_s=lookup_s, events_s=lag_s()))


def _replace_mode(chances: RandomStreams, name: str) -> ReplaceMode:
    return chances.stream(f"venue/{name}/replace").one((ReplaceMode.SAME_ID, ReplaceMode.NEW_ID))
