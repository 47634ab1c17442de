"""The contract of filters that fetch, at a vendor on this machine: numbered cases, and a pytest class to inherit.

A plugin's test supplies the venue, the same that `Plugin.venue` opens::

    class TestFetching(FetchingContract):
        @pytest.fixture
        def venue(self) -> Iterator[RatingsVenue]:
            with open_venue() as found:
                yield found
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from tbot_core.errors import LoginNeeded, Rejected, Unavailable
from tbot_core.plugins.guarded import checked_facts
from tbot_core.testing.contract import ContractCase, ContractTests, demand
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from datetime import date

    from tbot_core.contracts import SupportsRefresh


class FetchingVenue(Protocol):
    """A filter and the vendor that it fetches from."""

    @property
    def filter(self) -> SupportsRefresh:
        """The filter, created for this vendor."""

    @property
    def server(self) -> ScriptedServer:
        """The vendor."""

    @property
    def day(self) -> date:
        """The day of the session for which facts are fetched."""

    @property
    def symbols(self) -> Sequence[str]:
        """Two symbols or more, at most nine, of which the vendor has every fact."""

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call of the filter in its event loop; returns its result."""


def r01_it_fetches_what_it_declares(venue: FetchingVenue) -> None:
    """Of each symbol it fetches every fact that it declares, as finite numbers, and nothing else."""
    found = _refresh(venue, venue.symbols)
    for symbol in venue.symbols:
        lacking = venue.filter.facts.keys() - found.get(symbol, {}).keys()
        demand(not lacking, f"{symbol} has no {', '.join(sorted(lacking))}, which `facts` declares")


def r02_an_unknown_symbol_has_no_facts(venue: FetchingVenue) -> None:
    """A symbol that the vendor does not know is no error and has no facts; the others are fetched."""
    known = venue.symbols[0]
    found = _refresh(venue, [_UNKNOWN, known])
    demand(not found.get(_UNKNOWN), f"the unknown symbol {_UNKNOWN} has facts: {found.get(_UNKNOWN)}")
    demand(bool(found.get(known)), f"{known} has no facts when it is fetched together with an unknown symbol")


def r03_a_service_that_fails_is_unavailable(venue: FetchingVenue) -> None:
    """A lost connection, 503, 429 and half an answer raise Unavailable; the next call fetches again."""
    for fault in (ServerFault.LOST_REQUEST, ServerFault.SERVER_ERROR, ServerFault.TOO_MANY, ServerFault.UNREADABLE):
        venue.server.fail(fault, times=None)
        try:
            found = _refresh(venue, venue.symbols)
        except Unavailable:
            pass
        else:
            raise AssertionError(f"{fault.name}: refresh returned {found!r} instead of raising Unavailable")
        finally:
            venue.server.recover()
    demand(bool(_refresh(venue, venue.symbols)), "after the service is back nothing is fetched")


def r04_a_refused_key_ends_the_refresh(venue: FetchingVenue) -> None:
    """A refused key raises LoginNeeded, or Rejected, after one request: asking again has no purpose."""
    before = len(venue.server.requests)
    venue.server.fail(ServerFault.LOGIN, times=None)
    try:
        _refresh(venue, venue.symbols)
    except (LoginNeeded, Rejected):
        sent = len(venue.server.requests) - before
        demand(sent == 1, f"{sent} requests were sent with a refused key")
    else:
        raise AssertionError("a refused key must raise LoginNeeded")


CASES: Final[tuple[ContractCase, ...]] = (
    r01_it_fetches_what_it_declares,
    r02_an_unknown_symbol_has_no_facts,
    r03_a_service_that_fails_is_unavailable,
    r04_a_refused_key_ends_the_refresh,
)
"""The contract, in order of the numbers."""

_UNKNOWN: Final = "ZZUNKNOWN"


class FetchingContract(ContractTests):
    """The contract of filters that fetch as tests; a subclass, or its module, has a fixture `venue`."""

    cases = CASES

    def test_contract(self, case: ContractCase, venue: FetchingVenue) -> None:
        """Run one case."""
        case(venue)


def _refresh(venue: FetchingVenue, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
    found = venue.wait(venue.filter.refresh(venue.day, symbols))
    return checked_facts(found, venue.filter.facts, symbols)
