"""What may go wrong with options at the venue, by name: a test or a rehearsal plans one before a client trades."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tbot_broker_alpaca.venue.faults import Act, Endpoint, Moment, ReadingFault, RequestFault, When
from tbot_broker_alpaca.venue.options import OPTION_SYMBOL, Defect
from tbot_broker_alpaca.venue.wire import moment_of, stamp
from tbot_core.testing.scripted_server import ServerReply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tbot_broker_alpaca.venue.server import AlpacaServer

OptionPlan: TypeAlias = "Callable[[AlpacaServer], None]"
"""Plans a fault at a venue."""

_ONCE: Final = When()
_MINUTE: Final = When(lasts_s=60.0, times=None)
_FROM_THE_FILL: Final = When(since=Moment.ENTRY_FILLED, lasts_s=60.0, times=None)
_AGE: Final = dt.timedelta(minutes=10)
_DATA: Final = frozenset({Endpoint.OPTION_DATA})
_CONTRACTS: Final = frozenset({Endpoint.CONTRACTS})
_TOO_MANY: Final = ServerReply(
    status=429, document={"code": 42910000, "message": "too many requests."}, headers={"retry-after": "2"}
)
_UNAVAILABLE: Final = ServerReply(status=503, body=b"<html>503 Service Temporarily Unavailable</html>")


def _reading(endpoints: frozenset[Endpoint], when: When, **fault: Any) -> OptionPlan:
    # Plans a fault of readings.
    return lambda venue: venue.faults.add(ReadingFault(endpoints=endpoints, when=when, **fault))


def _refused_entry(status: int, code: int, message: str) -> OptionPlan:
    # Plans that the first purchase is refused.
    reply = ServerReply(status=status, document={"code": code, "message": message})
    return lambda venue: venue.faults.add(RequestFault(acts=frozenset({Act.ENTRY}), booked=False, reply=reply))


def _quotes(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Callable[[Any], Any]:
    # Changes each quote of an answer; without a quote a snapshot has no Greeks either.
    def row_of(row: dict[str, Any]) -> dict[str, Any]:
        if "latestQuote" not in row:
            return row
        if (changed := change(row["latestQuote"])) is not None:
            return {**row, "latestQuote": changed}
        return {name: part for name, part in row.items() if name == "latestTrade"}

    def applied(document: Any) -> Any:
        if "snapshots" in document:
            return {**document, "snapshots": {name: row_of(row) for name, row in document["snapshots"].items()}}
        changed = {name: change(row) for name, row in document.get("quotes", {}).items()}
        return {**document, "quotes": {name: row for name, row in changed.items() if row is not None}}

    return applied


def _older(quote: dict[str, Any]) -> dict[str, Any]:
    return {**quote, "t": stamp(moment_of(quote["t"]) - _AGE)}


def _crossed(quote: dict[str, Any]) -> dict[str, Any]:
    return {**quote, "bp": quote["ap"], "ap": quote["bp"]}


def _without_bid(quote: dict[str, Any]) -> dict[str, Any]:
    return {**quote, "bp": 0.0, "bs": 0}


def _without_interest(document: Any) -> Any:
    # The vendor's file does not require it.
    rows = document["option_contracts"]
    return {
        **document,
        "option_contracts": [{name: row[name] for name in row if not name.startswith("open_interest")} for row in rows],
    }


def _gone_once_listed(venue: AlpacaServer) -> None:
    # What a list shows does not exist any more when it arrives.
    def change(document: Any) -> Any:
        for row in document["option_contracts"]:
            venue.market.options.defects[row["symbol"]] = Defect.GONE
        return document

    venue.faults.add(ReadingFault(endpoints=_CONTRACTS, when=_ONCE, change=change))


def _unquoted_once_held(venue: AlpacaServer) -> None:
    # No market maker trades what the account has bought.
    def spoil() -> None:
        for symbol in [one for one in venue.account.held if OPTION_SYMBOL.fullmatch(one)]:
            venue.market.options.defects[symbol] = Defect.EMPTY

    venue.faults.act_at(Moment.ENTRY_FILLED, spoil)


OPTION_FAULTS: Final[Mapping[str, OptionPlan]] = {
    "option data: 429 once": _reading(_DATA, _ONCE, reply=_TOO_MANY),
    "option data: 429 for 60 s": _reading(_DATA, _MINUTE, reply=_TOO_MANY),
    "option data: 503 for 60 s, from the fill on": _reading(_DATA, _FROM_THE_FILL, reply=_UNAVAILABLE),
    "option contracts: 429 once": _reading(_CONTRACTS, _ONCE, reply=_TOO_MANY),
    "option contracts: empty once": _reading(
        _CONTRACTS, _ONCE, change=lambda _document: {"option_contracts": [], "next_page_token": None}
    ),
    "option contracts: without open interest": _reading(_CONTRACTS, When(times=None), change=_without_interest),
    "option contracts: gone once they are listed": _gone_once_listed,
    "quotes: ten minutes old, for 60 s": _reading(_DATA, _MINUTE, change=_quotes(_older)),
    "quotes: crossed, for 60 s": _reading(_DATA, _MINUTE, change=_quotes(_crossed)),
    "quotes: without a bid, for 60 s": _reading(_DATA, _MINUTE, change=_quotes(_without_bid)),
    "quotes: missing, for 60 s": _reading(_DATA, _MINUTE, change=_quotes(lambda _quote: None)),
    "quotes: missing once the option is held": _unquoted_once_held,
    "entry: too little buying power": _refused_entry(
        403, 40310000, "insufficient options buying power (required: 20310, available: 9395)"
    ),
    "entry: the contract expires soon": _refused_entry(
        422, 42210000, "contract expires soon, unable to open new positions"
    ),
}
"""Each fault of option data, contracts and purchases; those of any order are in `faults`, and apply to options too."""
