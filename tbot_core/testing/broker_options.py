"""The cases of brokers that list options or report their quotes (`tbot_core.contracts.options`).

The venue lists options of its symbol.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta
from itertools import count, islice, product
from typing import TYPE_CHECKING, Final

from tbot_core.contracts.abilities import OPTION_CONTRACTS, OPTION_QUOTES
from tbot_core.errors import BrokerError
from tbot_core.model.option_symbols import OptionRight, occ_symbol, parse_occ_symbol
from tbot_core.testing.broker_steps import claimed, failing_venue
from tbot_core.testing.contract import ContractCase, demand
from tbot_core.testing.scripted_server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import OptionListing, OptionQuoteReport
    from tbot_core.testing.venue import BrokerUnderTest

_FIRST, _LAST = date(2008, 1, 2), date(2059, 12, 31)
"""Days that include the expiries of each contract of a chain."""

_MOST_SYMBOLS: Final = 1000
_LONGEST_WEEKEND: Final = timedelta(days=5)
_HIGH: Final = 90_000
"""No contract has such a strike, in USD, or a higher one."""


def b21_a_chain_is_that_of_its_right_and_days(venue: BrokerUnderTest) -> None:
    """A chain has each contract of its underlying, right and days once, by expiry, strike and symbol, and no other."""
    whole = _chain(venue, OptionRight.PUT, _FIRST, _LAST)
    demand(bool(whole), "the venue must list puts of its symbol")
    places = [(one.contract.expiry, one.contract.strike, one.symbol) for one in whole]
    demand(places == sorted(set(places)), "contracts must be sorted by expiry, strike and symbol, each once")
    days = sorted({one.contract.expiry for one in whole})
    for first, last in ((days[0], days[0]), (days[-1], days[-1]), (days[0], days[-1])):
        found = [one.symbol for one in _chain(venue, OptionRight.PUT, first, last)]
        expected = [one.symbol for one in whole if first <= one.contract.expiry <= last]
        demand(found == expected, f"the chain from {first} to {last} must have those of both days, and no others")
    demand(not _chain(venue, OptionRight.PUT, _LAST, _LAST), "a day without expiries must have no contracts")
    calls = _chain(venue, OptionRight.CALL, _FIRST, _LAST)
    demand({one.contract.right for one in calls} <= {OptionRight.CALL}, "a chain of calls must have no puts")


def b22_a_listing_says_what_it_is(venue: BrokerUnderTest) -> None:
    """A contract names the underlying and right that were asked for, and the close of trading on its last day.

    One that is called standard has a multiplier of 100 and the root of its underlying.
    """
    for one in _chain(venue, OptionRight.PUT, _FIRST, _LAST):
        contract = one.contract
        named = (contract.underlying, contract.right)
        demand(named == (venue.symbol, OptionRight.PUT), f"{one.symbol} is listed as {named}")
        demand(contract.expires.utcoffset() == timedelta(), f"the end of {one.symbol} must be a time in UTC")
        late = contract.expiry - contract.expires.date()
        demand(timedelta() <= late <= _LONGEST_WEEKEND, f"{one.symbol} cannot end at {contract.expires}")
        root = parse_occ_symbol(one.symbol).root
        is_plain = (one.multiplier, root) == (100, "".join(filter(str.isalpha, venue.symbol)))
        demand(is_plain or not one.is_standard, f"{one.symbol} is of another class than the standard one")


def b23_a_chain_that_is_not_read_is_no_chain(venue: BrokerUnderTest) -> None:
    """A chain whose answer is broken or has no content, or that the rate limit refuses, is never shown as shorter."""
    failing = failing_venue(venue)
    before = len(failing.server.requests)
    whole = _chain(venue, OptionRight.PUT, _FIRST, _LAST)
    paths = list(dict.fromkeys(request.path for request in failing.server.requests[before:]))
    for path, fault in product(paths, (ServerFault.UNREADABLE, ServerFault.EMPTY, ServerFault.TOO_MANY)):
        failing.server.fail(fault, path=path)
        with suppress(BrokerError):
            found = _chain(venue, OptionRight.PUT, _FIRST, _LAST)
            demand(found == whole, f"{path} was answered with {fault.name}: a part must not be taken for the chain")
    failing.server.recover()
    demand(_chain(venue, OptionRight.PUT, _FIRST, _LAST) == whole, "the next reading must have the whole chain")


def b24_quotes_are_those_that_were_asked_for(venue: BrokerUnderTest) -> None:
    """Of up to 1,000 symbols each that has a quote has one report; unknown contracts, and no symbols, have none.

    A side has a price above 0 or None. The time is aware, and the feed has a name.
    """
    broker = claimed(venue, OPTION_QUOTES)
    chain = _chain(venue, OptionRight.PUT, _FIRST, _LAST)
    demand(bool(chain), "the venue must list puts of its symbol")
    listed = [*dict.fromkeys(one.symbol for one in chain)][: _MOST_SYMBOLS - 1]
    first = parse_occ_symbol(listed[0])
    made_up = (occ_symbol(first.root, first.expiry, first.right, strike) for strike in count(_HIGH))
    asked = [*listed, *islice(made_up, _MOST_SYMBOLS - len(listed))]
    found: Sequence[OptionQuoteReport] = venue.wait(broker.option_quotes(asked))
    symbols = [one.symbol for one in found]
    demand(len({*symbols}) == len(symbols), "a contract must have one quote")
    demand({*symbols} <= {*listed}, "only contracts that were asked for, and are listed, have quotes")
    demand(bool(symbols), "the venue must quote puts of its symbol")
    for one in found:
        prices = [price for price in (one.bid, one.ask) if price is not None]
        demand(all(price > 0 for price in prices), f"a side of {one.symbol} without a quote must be None")
        demand(min(one.bid_size, one.ask_size) >= 0, f"the sizes of {one.symbol} must not be negative")
        demand(one.time.utcoffset() is not None, f"the time of the quote of {one.symbol} must be aware")
        demand(bool(one.feed.strip()), f"the quote of {one.symbol} must name its feed")
    one_alone = [one.symbol for one in venue.wait(broker.option_quotes(symbols[:1]))]
    demand(one_alone == symbols[:1], "a quote must be there for one symbol, as it is for many")
    demand(not venue.wait(broker.option_quotes([])), "without symbols there are no quotes")


OPTION_CASES: Final[tuple[ContractCase, ...]] = (
    b21_a_chain_is_that_of_its_right_and_days,
    b22_a_listing_says_what_it_is,
    b23_a_chain_that_is_not_read_is_no_chain,
    b24_quotes_are_those_that_were_asked_for,
)
"""The cases of options, in order of the numbers."""


def _chain(venue: BrokerUnderTest, right: OptionRight, first: date, last: date) -> list[OptionListing]:
    # The contracts of the venue's symbol; raises NotClaimed where the broker lists none.
    broker = claimed(venue, OPTION_CONTRACTS)
    return [*venue.wait(broker.option_contracts(venue.symbol, right, first, last))]
