"""The contract of brokers when the venue, or the way to it, fails: the cases g01 and following of `BrokerContract`.

They need a venue with a scripted server (`tbot_core.testing.venue.FailingVenue`), whose requests they let fail.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEventKind, Gap, OrderStatus
from tbot_core.contracts.abilities import STREAM
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, Rejected, RejectionMeaning, Unavailable
from tbot_core.testing.broker_steps import (
    DAWN,
    LOW,
    PRICE,
    CountedPermit,
    arrived,
    claimed,
    demand_raised,
    failing_venue,
    fills_of,
    listed,
    market,
    names_order,
    polled_path,
    reading_paths,
    received,
    reported,
    resting,
    routed,
    snapshot,
    stop,
    submit,
    traded,
)
from tbot_core.testing.contract import ContractCase, NotClaimed, demand
from tbot_core.testing.scripted_server import ServerFault, SocketFault
from tbot_core.testing.venue import BrokerUnderTest, FailingVenue, PartlyFillingVenue, SharedVenue, TradingVenue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.contracts import AccountSnapshot

_MANY: Final = 7
_ABSURD: Final = ("1E+999999", "NaN", "-5", "someday")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def g01_a_lost_reply_leaves_one_order(venue: BrokerUnderTest) -> None:
    """An order whose reply is lost has an unknown outcome, and exists once."""
    _one_order_in_doubt(venue, ServerFault.LOST_REPLY)


def g02_no_reply_leaves_one_order(venue: BrokerUnderTest) -> None:
    """An order that is not answered has an unknown outcome within the time limit, and exists once."""
    _one_order_in_doubt(venue, ServerFault.NO_REPLY)


def g03_a_gateway_timeout_leaves_one_order(venue: BrokerUnderTest) -> None:
    """An order that is answered with 504 has an unknown outcome, and exists once."""
    _one_order_in_doubt(venue, ServerFault.GATEWAY_TIMEOUT)


def g04_an_unreadable_reply_leaves_one_order(venue: BrokerUnderTest) -> None:
    """An order whose reply breaks off is not rejected, and exists once."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.UNREADABLE, method=route.method, path=route.path)
    with suppress(OutcomeUnknown):
        submit(venue, resting("kit-1"))
    demand(listed(venue)["kit-1"] == 1, "the order must exist once")
    demand(arrived(failing, "kit-1") == 1, "the order must be sent once")


def g05_a_lost_request_leaves_no_order(venue: BrokerUnderTest) -> None:
    """An order that did not arrive is not sent again by the plugin, and its outcome is unknown."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.LOST_REQUEST, method=route.method, path=route.path)
    demand_raised(OutcomeUnknown, lambda: submit(venue, resting("kit-1")), "bytes may have left")
    demand(listed(venue)["kit-1"] == 0, "an order that did not arrive must not be listed")
    demand(arrived(failing, "kit-1") == 1, "the plugin must not send it again")


def g06_a_server_error_is_no_rejection(venue: BrokerUnderTest) -> None:
    """An order that is answered with 503 has an unknown outcome, and is not sent again by the plugin."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.SERVER_ERROR, method=route.method, path=route.path)
    demand_raised(OutcomeUnknown, lambda: submit(venue, resting("kit-1")), "503 does not say what was processed")
    demand(arrived(failing, "kit-1") == 1, "the plugin must not send it again")


def g07_too_many_requests_send_no_order_twice(venue: BrokerUnderTest) -> None:
    """An order that is answered with 429 is unknown or RATE_LIMITED, is sent once, and the pause is passed on."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.TOO_MANY, method=route.method, path=route.path)
    words = "429 rejects none, other than as RATE_LIMITED"
    fault = demand_raised((OutcomeUnknown, Rejected), lambda: submit(venue, resting("kit-1")), words)
    demand(not isinstance(fault, Rejected) or fault.meaning is RejectionMeaning.RATE_LIMITED, words)
    demand((fault.retry_after_s or 0) >= 1, "the pause that the venue asks for must be passed on")
    demand(arrived(failing, "kit-1") == 1, "the plugin must not send it again")


def g08_a_refused_key_needs_a_login(venue: BrokerUnderTest) -> None:
    """An order that is answered with 401 raises LoginNeeded, and is not sent again."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.LOGIN, method=route.method, path=route.path)
    demand_raised(LoginNeeded, lambda: submit(venue, resting("kit-1")), "401 is no rejection of an order")
    demand(arrived(failing, "kit-1") == 1, "the plugin must not send it again")


def g09_a_permit_is_redeemed_once(venue: BrokerUnderTest) -> None:
    """The permit of an order is redeemed once, also where the reply is lost."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.LOST_REPLY, method=route.method, path=route.path)
    permit = CountedPermit()
    with suppress(BrokerError):
        submit(venue, resting("kit-1"), permit)
    demand(permit.redeemed == 1, f"the permit was redeemed {permit.redeemed} times")


def g10_an_id_makes_one_order(venue: BrokerUnderTest) -> None:
    """The same client order id, sent twice, makes one order, and the second sending does not succeed silently."""
    failing = failing_venue(venue)
    submit(venue, resting("kit-1"))
    demand_raised((OutcomeUnknown, Rejected), lambda: submit(venue, resting("kit-1")), "the id was used before")
    demand(listed(venue)["kit-1"] == 1, "the order must exist once")
    demand(arrived(failing, "kit-1") == 2, "the plugin must leave the decision to the venue")


def g11_prices_keep_their_digits(venue: BrokerUnderTest) -> None:
    """The price of an order is sent with all its digits, and no others."""
    failing, route = routed(venue)
    submit(venue, resting("kit-1"))
    [sent] = [
        request
        for request in failing.server.requests
        if names_order(request, "kit-1") and request.method == route.method
    ]
    text = sent.body.decode() + str(dict(sent.query))
    demand(str(LOW) in text and f"{LOW}0000" not in text, f"{LOW} must be sent as it is, not as in {text}")


def g12_part_of_a_reading_is_no_reading(venue: BrokerUnderTest) -> None:
    """A snapshot whose requests fail, each in turn, raises; it never shows less than there is."""
    _demand_whole(venue, ServerFault.SERVER_ERROR)


def g13_an_unreadable_answer_is_no_reading(venue: BrokerUnderTest) -> None:
    """A snapshot whose answers break off, each in turn, raises."""
    _demand_whole(venue, ServerFault.UNREADABLE)


def g14_an_empty_answer_is_no_reading(venue: BrokerUnderTest) -> None:
    """A snapshot whose answers are empty, each in turn, raises."""
    _demand_whole(venue, ServerFault.EMPTY)


def g15_a_refused_key_is_no_reading(venue: BrokerUnderTest) -> None:
    """A snapshot whose requests are answered with 401, each in turn, raises LoginNeeded, without a retry."""
    failing = failing_venue(venue)
    for path in reading_paths(failing):
        failing.server.fail(ServerFault.LOGIN, path=path)
        before = len(failing.server.requests)
        demand_raised(LoginNeeded, lambda: snapshot(venue), f"{path} was answered with 401")
        refused = [request.path for request in failing.server.requests[before:]].count(path)
        demand(refused == 1, f"{path} was requested {refused} times")


def g16_a_reading_that_is_not_answered_ends(venue: BrokerUnderTest) -> None:
    """A reading without an answer raises Unavailable within the time limit."""
    failing = failing_venue(venue)
    path = reading_paths(failing)[0]
    failing.server.fail(ServerFault.NO_REPLY, path=path)
    demand_raised(Unavailable, lambda: snapshot(venue), "an answer must not be awaited for ever")


def g17_too_many_readings_pass_the_pause_on(venue: BrokerUnderTest) -> None:
    """A reading that is answered with 429 raises Unavailable with the pause that the venue asks for."""
    failing = failing_venue(venue)
    failing.server.fail(ServerFault.TOO_MANY, path=reading_paths(failing)[0])
    fault = demand_raised(Unavailable, lambda: snapshot(venue), "429 is no answer")
    demand((fault.retry_after_s or 0) >= 1, "the pause that the venue asks for must be passed on")


def g18_unknown_fields_change_nothing(venue: BrokerUnderTest) -> None:
    """A snapshot of answers with further fields is the same snapshot."""
    failing = failing_venue(venue)
    traded(venue, market("kit-1"))
    submit(venue, resting("kit-2"))
    before = snapshot(venue)
    failing.server.fail(ServerFault.MORE_FIELDS, times=None)
    after = snapshot(venue)
    demand(_facts(after) == _facts(before), "a field that is not known must be ignored")


def g19_all_orders_are_listed(venue: BrokerUnderTest) -> None:
    """A snapshot lists every working order, however many pages they fill."""
    failing_venue(venue)
    for number in range(_MANY):
        submit(venue, resting(f"kit-{number}"))
    demand(listed(venue) == Counter(f"kit-{number}" for number in range(_MANY)), "every order must be listed once")


def g20_a_poll_that_fails_loses_nothing(venue: BrokerUnderTest) -> None:
    """What happened before a poll that failed is reported by the next one."""
    failing = failing_venue(venue)
    for number, fault in enumerate((ServerFault.SERVER_ERROR, ServerFault.LOST_REPLY, ServerFault.UNREADABLE)):
        path = polled_path(failing)
        submit(venue, market(f"kit-{number}"))
        venue.trade_at(PRICE)
        failing.server.fail(fault, path=path)
        with suppress(BrokerError):
            demand(not fills_of(reported(venue), f"kit-{number}"), "the poll should have failed")
        demand(bool(fills_of(reported(venue), f"kit-{number}")), f"the fill was lost by a poll with: {fault}")


def g21_a_repeated_answer_repeats_no_event(venue: BrokerUnderTest) -> None:
    """An event that the venue shows again has the id that it had before."""
    failing = failing_venue(venue)
    path = polled_path(failing)
    events = traded(venue, market("kit-1"))
    failing.server.fail(ServerFault.STALE, path=path)
    known = {event.event_id: event for event in events}
    for event in reported(venue):
        demand(known.get(event.event_id) == event, "an event that is shown again must be the same")


def g22_a_fill_during_an_outage_is_found(venue: BrokerUnderTest) -> None:
    """A fill while nothing could be read is in the first reading afterwards."""
    failing = failing_venue(venue)
    submit(venue, market("kit-1"))
    failing.server.fail(ServerFault.SERVER_ERROR, times=None)
    venue.trade_at(PRICE)
    for _ in range(3):
        demand_raised(BrokerError, lambda: snapshot(venue), "nothing could be read")
    failing.server.recover()
    held = {holding.symbol: holding.quantity for holding in snapshot(venue).holdings}
    demand(held == {venue.symbol: Decimal(10)}, "the account must show the fill")
    demand(bool(fills_of(reported(venue), "kit-1")), "the fill must be reported")


def g23_partial_fills_add_up(venue: BrokerUnderTest) -> None:
    """Fills of 3, 4 and 3 shares are three executions, and a position of 10 at their average price."""
    parts = _parts(venue)
    submit(venue, market("kit-1"))
    for quantity, price in ((3, 20), (4, 21), (3, 22)):
        parts.trade_some(Decimal(price), Decimal(quantity))
    fills = fills_of(reported(venue), "kit-1")
    demand([fill.quantity for fill in fills] == [3, 4, 3], "each execution must be one fill, in its order")
    demand([fill.price for fill in fills] == [20, 21, 22], "each execution has its own price")
    demand(len({fill.execution_id for fill in fills}) == 3, "each execution needs an id of its own")
    [report] = [holding for holding in snapshot(venue).holdings if holding.symbol == venue.symbol]
    demand(report.quantity == 10, "the position must be the sum of the fills")
    demand(report.average_price in {None, Decimal(21)}, "the average price must weigh the quantities")


def g24_a_part_of_an_order_is_not_its_end(venue: BrokerUnderTest) -> None:
    """An order of which a part is filled is listed as working, with the quantity that is filled."""
    parts = _parts(venue)
    submit(venue, market("kit-1"))
    parts.trade_some(PRICE, Decimal(3))
    [report] = [order for order in snapshot(venue).orders if order.client_order_id == "kit-1"]
    demand((report.kind, report.filled) == (OrderStatus.WORKING, Decimal(3)), f"not {report.kind} with {report.filled}")


def g25_a_fill_wins_against_its_cancel(venue: BrokerUnderTest) -> None:
    """The cancel of an order that was filled just before is refused, and the fill is reported."""
    failing_venue(venue)
    submit(venue, market("kit-1"))
    venue.trade_at(PRICE)
    with suppress(BrokerError):
        venue.wait(venue.broker.cancel("kit-1"))
    events = reported(venue)
    demand(bool(fills_of(events, "kit-1")), "the fill must be reported")
    demand(BrokerEventKind.CANCELLED not in {event.kind for event in events}, "a filled order was not cancelled")


def g26_a_cancel_whose_reply_is_lost_is_reported(venue: BrokerUnderTest) -> None:
    """A cancel that the venue processed is reported as an event, also where its reply is lost."""
    failing, route = routed(venue, cancels=True)
    submit(venue, resting("kit-1"))
    failing.server.fail(ServerFault.LOST_REPLY, method=route.method)
    demand_raised((OutcomeUnknown, Unavailable), lambda: venue.wait(venue.broker.cancel("kit-1")), "no reply came")
    demand(BrokerEventKind.CANCELLED in {one.kind for one in reported(venue)}, "the cancel must be reported")


def g27_a_cancel_that_did_not_arrive_changes_nothing(venue: BrokerUnderTest) -> None:
    """A cancel that did not arrive leaves the order working, and a second one ends it."""
    failing, route = routed(venue, cancels=True)
    submit(venue, resting("kit-1"))
    failing.server.fail(ServerFault.LOST_REQUEST, method=route.method)
    demand_raised((OutcomeUnknown, Unavailable), lambda: venue.wait(venue.broker.cancel("kit-1")), "nothing arrived")
    demand(listed(venue)["kit-1"] == 1, "the order must be listed as working")
    venue.wait(venue.broker.cancel("kit-1"))
    demand(BrokerEventKind.CANCELLED in {one.kind for one in reported(venue)}, "the second cancel must end it")


def g28_an_order_is_cancelled_once(venue: BrokerUnderTest) -> None:
    """The cancel of a cancelled order is refused, as an error or an event, and no second cancel is reported."""
    failing_venue(venue)
    submit(venue, resting("kit-1"))
    venue.wait(venue.broker.cancel("kit-1"))
    reported(venue)
    refused = False
    try:
        venue.wait(venue.broker.cancel("kit-1"))
    except BrokerError:
        refused = True
    kinds = {one.kind for one in reported(venue)}
    refused = refused or bool(kinds & {BrokerEventKind.CANCEL_REFUSED, BrokerEventKind.NOT_FOUND})
    demand(refused and BrokerEventKind.CANCELLED not in kinds, "the second cancel must be refused")


def g29_another_client_finds_what_was_left(venue: BrokerUnderTest) -> None:
    """A new client of the account, as after a restart, lists its position and its working order."""
    if not isinstance(venue, SharedVenue):
        raise NotClaimed("the venue has one client at a time")
    traded(venue, market("kit-1"))
    submit(venue, resting("kit-2"))
    other = venue.another_client()
    venue.wait(other.connect())
    found = venue.wait(other.snapshot(DAWN))
    working = [order.client_order_id for order in found.orders if order.kind is OrderStatus.WORKING]
    held = {holding.symbol: holding.quantity for holding in found.holdings}
    venue.wait(other.close())
    demand((working, held) == (["kit-2"], {venue.symbol: Decimal(10)}), "the account must be shown as it is")


def g30_no_error_shows_a_credential(venue: BrokerUnderTest) -> None:
    """The text of every error is free of the credentials, whatever fails."""
    if not isinstance(venue, TradingVenue):
        raise NotClaimed("the venue does not say what its credentials are")
    hidden = [field.reveal() for held in venue.secrets.values() for field in _fields(held) if hasattr(field, "reveal")]
    for fault in (ServerFault.LOGIN, ServerFault.SERVER_ERROR, ServerFault.LOST_REPLY, ServerFault.UNREADABLE):
        venue.server.fail(fault)
        raised = demand_raised(BrokerError, lambda: snapshot(venue), f"the reading should have failed: {fault}")
        shown = f"{raised!r} {raised.message}"
        demand(not any(one in shown for one in hidden), "an error shows a credential")


def g31_a_server_error_leaves_a_stop_unknown(venue: BrokerUnderTest) -> None:
    """A stop that is answered with 503 before it was booked has an unknown outcome, and works when it is sent again."""
    _one_stop_in_doubt(venue, ServerFault.SERVER_ERROR, booked=False)


def g32_a_gateway_timeout_leaves_a_stop_unknown(venue: BrokerUnderTest) -> None:
    """A stop that is answered with 504 after it was booked has an unknown outcome, and exists once, though sent again.

    Where ids are unique the second sending is refused as DUPLICATE_ID.
    """
    _one_stop_in_doubt(venue, ServerFault.GATEWAY_TIMEOUT, booked=True)


def g33_a_redirected_order_is_not_sent_on(venue: BrokerUnderTest) -> None:
    """An order that is answered with 307 has an unknown outcome, and the redirect is not followed."""
    failing, route = routed(venue)
    failing.server.fail(ServerFault.REDIRECT, method=route.method, path=route.path)
    demand_raised(OutcomeUnknown, lambda: submit(venue, resting("kit-1")), "a redirect rejects nothing")
    demand(arrived(failing, "kit-1") == 1, "the redirect must not be followed")


def g34_a_late_list_is_passed_on(venue: BrokerUnderTest) -> None:
    """A snapshot whose lists are behind shows them as they are: the core knows how far they may be behind."""
    failing = failing_venue(venue)
    traded(venue, market("kit-1"))
    paths, before = reading_paths(failing), snapshot(venue)
    submit(venue, resting("kit-2"))
    for path in paths:
        failing.server.fail(ServerFault.STALE, path=path, times=None)
    late = snapshot(venue)
    failing.server.recover()
    demand(_facts(late) == _facts(before), "a reading must show what the vendor answers, and nothing else")
    demand(listed(venue) == Counter(["kit-2"]), "the next reading must show the order")


def g35_an_empty_list_is_passed_on(venue: BrokerUnderTest) -> None:
    """A snapshot whose lists are empty shows neither orders nor positions: the core judges what that contradicts."""
    failing = failing_venue(venue)
    traded(venue, market("kit-1"))
    submit(venue, resting("kit-2"))
    demand(bool(snapshot(venue).orders), "orders must be listed")
    failing.server.edit = _without_rows
    found = snapshot(venue)
    demand((found.orders, found.holdings, found.fills) == ((), (), ()), "an empty list must be shown as it is")


def g36_a_damaged_order_is_alone_in_doubt(venue: BrokerUnderTest) -> None:
    """An order with a field that is absent or absurd is `unreadable`, or reported as it is; all others are readable."""
    failing = failing_venue(venue)
    submit(venue, resting("kit-1"))
    document = _document_of(failing, "kit-1")
    damage = {f"kit-x{number}": one for number, one in enumerate(_damages(document))}
    for name in damage:
        submit(venue, resting(name))
    submit(venue, resting("kit-2"))
    failing.server.edit = lambda document: _damaged(document, damage)
    found = snapshot(venue)
    names = Counter(order.client_order_id for order in found.orders if order.kind is OrderStatus.WORKING)
    demand((names["kit-1"], names["kit-2"]) == (1, 1), "orders beside a damaged one must be listed")
    for name, (field, value) in damage.items():
        shown = name in {*names, *found.unreadable}
        without_id = document[field] == "kit-1" and "" in {*found.unreadable, *names}
        demand(shown or without_id, f"an order must not be absent because its {field} is {value or 'absent'}")


def g37_a_lost_stream_is_opened_again(venue: BrokerUnderTest) -> None:
    """A stream that is lost ends, or raises BrokerError; the next one begins with a Gap, and reports what follows."""
    failing = failing_venue(venue)
    claimed(venue, STREAM)
    submit(venue, market("kit-1"))
    received(venue)
    venue.wait(failing.server.drop_sockets())
    venue.trade_at(PRICE)
    items = received(venue)
    demand(bool(items) and isinstance(items[0], Gap), "the first item of a new connection must be a Gap")
    held = {holding.symbol: holding.quantity for holding in snapshot(venue).holdings}
    demand(held == {venue.symbol: Decimal(10)}, "the account must show what the stream missed")
    demand(bool(fills_of(traded(venue, market("kit-2")), "kit-2")), "the new connection must report what happens")


def g38_a_repeated_message_repeats_no_event(venue: BrokerUnderTest) -> None:
    """An event that the stream delivers again is the same event, with the id that it had before."""
    failing = failing_venue(venue)
    claimed(venue, STREAM)
    submit(venue, market("kit-0"))
    failing.server.fail_sockets(SocketFault.TWICE, times=None)
    events = traded(venue, market("kit-1"))
    known = {event.event_id: event for event in events}
    demand(all(known[event.event_id] == event for event in events), "an event that is repeated must be the same")
    kinds = [event.kind for event in known.values() if event.client_order_id == "kit-1"]
    demand(kinds.count(BrokerEventKind.FILL) == 1, "a fill that is delivered twice is one fill")


FAULT_CASES: Final[tuple[ContractCase, ...]] = tuple(
    case for name, case in sorted(globals().items()) if name.startswith("g") and name[1:3].isdigit()
)
"""The cases, in order of the numbers."""


def _parts(venue: BrokerUnderTest) -> PartlyFillingVenue:
    # A simulated venue fills from closed bars, and ends what a bar leaves of an entry.
    if not isinstance(venue, PartlyFillingVenue) or venue.broker.capabilities.simulated:
        raise NotClaimed("the venue fills no order in parts")
    return venue


def _one_order_in_doubt(venue: BrokerUnderTest, fault: ServerFault) -> None:
    failing, route = routed(venue)
    failing.server.fail(fault, method=route.method, path=route.path)
    demand_raised(OutcomeUnknown, lambda: submit(venue, resting("kit-1")), "the order may have arrived")
    demand(listed(venue)["kit-1"] == 1, "the order must exist once")
    demand(arrived(failing, "kit-1") == 1, "the order must be sent once")


def _one_stop_in_doubt(venue: BrokerUnderTest, fault: ServerFault, *, booked: bool) -> None:
    failing, route = routed(venue)
    venue.wait(venue.broker.cancel("kit-0"))  # some venues take no order on the other side of one that works
    traded(venue, market("kit-1"))
    protective = stop(PRICE - 4)
    failing.server.fail(fault, method=route.method, path=route.path)
    demand_raised(OutcomeUnknown, lambda: submit(venue, protective), "the stop may have been booked")
    demand(listed(venue)["kit-stop"] == booked, f"it must be listed {'once' if booked else 'nowhere'}")
    if not booked:
        submit(venue, protective)
    else:
        refused = demand_raised((OutcomeUnknown, Rejected), lambda: submit(venue, protective), "the id was used before")
        unique = venue.broker.capabilities.unique_client_order_id
        demand(
            not unique or getattr(refused, "meaning", None) is RejectionMeaning.DUPLICATE_ID,
            "a stop that was booked is refused as DUPLICATE_ID",
        )
    demand(listed(venue)["kit-stop"] == 1, "it must work once")


def _without_rows(document: Any) -> object:
    # The answer with its lists empty: the document itself, or those that are fields of it.
    if isinstance(document, list):
        return []
    return {name: [] if isinstance(value, list) else value for name, value in document.items()}


def _document_of(failing: FailingVenue, client_order_id: str) -> Mapping[str, Any]:
    # The document of an order, as a reading has it.
    answers: list[object] = []

    def keep(document: object) -> object:
        answers.append(document)
        return document

    failing.server.edit = keep
    snapshot(failing)
    found = next(_named_rows(answers, client_order_id), {})
    demand(bool(found), "the kit finds no document of an order by its id, so that it cannot damage one")
    return found


def _named_rows(document: Any, client_order_id: str) -> Iterator[dict[str, Any]]:
    # The objects of an answer with a field that is this id.
    if isinstance(document, dict):
        if client_order_id in document.values():
            yield document
        document = [*document.values()]
    for one in document if isinstance(document, list) else ():
        yield from _named_rows(one, client_order_id)


def _damages(row: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    # Each way to damage the document of an order: a field, and what it becomes; None: it is absent.
    for field, value in row.items():
        yield field, None
        if isinstance(value, str | int | float) and not isinstance(value, bool) and _NUMBER.fullmatch(str(value)):
            yield from ((field, absurd) for absurd in _ABSURD)


def _damaged(document: object, damage: Mapping[str, tuple[str, object]]) -> object:
    for name, (field, value) in damage.items():
        for row in _named_rows(document, name):
            row.pop(field, None)
            if value is not None:
                row[field] = value
    return document


def _demand_whole(venue: BrokerUnderTest, fault: ServerFault) -> None:
    # Let each request of a snapshot fail in turn.
    failing = failing_venue(venue)
    traded(venue, market("kit-1"))
    submit(venue, resting("kit-2"))
    for path in reading_paths(failing):
        failing.server.fail(fault, path=path)
        demand_raised((Unavailable, OutcomeUnknown), lambda: snapshot(venue), f"{path} had no whole answer")


def _facts(snapshot: AccountSnapshot) -> tuple[object, ...]:
    return snapshot.account, snapshot.holdings, snapshot.orders, snapshot.fills


def _fields(held: object) -> list[Any]:
    # The values of a credential's class.
    return list(attrs.asdict(held, recurse=False).values()) if attrs.has(type(held)) else []  # type: ignore[arg-type]
