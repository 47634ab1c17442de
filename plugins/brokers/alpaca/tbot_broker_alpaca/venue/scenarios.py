"""The scenarios of the venue: each fault by the kind of order and the time of day, late readings, acts by others."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from tbot_broker_alpaca.venue import others
from tbot_broker_alpaca.venue.faults import (
    SENT,
    Act,
    Endpoint,
    EventFault,
    Fault,
    Moment,
    ReadingFault,
    RequestFault,
    When,
)
from tbot_core.testing.scripted_server import ServerReply
from tbot_core.testing.venue import Kill, VenueScenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tbot_broker_alpaca.venue.server import AlpacaServer

_Plan: TypeAlias = "Callable[[AlpacaServer, Kill], None]"

_DOWN_S: Final = 2.0
_LATE_S: Final = (1, 4, 12, 30)
_LAG_LASTS_S: Final = 240.0
_EMPTY_LASTS_S: Final = 180.0
_HIDDEN_S: Final = 12.0
_SILENT_S: Final = 20.0
_LATER_S: Final = 25.0
"""When others act, after the stop works."""

_PAST_DAYS: Final = 30
"""The bars of more past days have no effect here, and each day asks for them."""


def _refused(status: int, code: int = 0, message: str = "", **headers: str) -> ServerReply:
    document = {"code": code, "message": message} if message else None
    return ServerReply(status=status, document=document, headers=headers)


_UNAVAILABLE: Final = ServerReply(status=503, body=b"<html>503 Service Temporarily Unavailable</html>")
_GATEWAY_TIMEOUT: Final = ServerReply(status=504, body=b"<html>504 Gateway Time-out</html>")
_TOO_MANY: Final = _refused(429, 42910000, "too many requests.", **{"retry-after": "2"})
_REDIRECT: Final = _refused(307, location="/v2/orders")
_DUPLICATE: Final = _refused(422, 40010001, "client_order_id must be unique")

_FAILURES: Final[Mapping[str, RequestFault]] = {
    "503, not booked": RequestFault(booked=False, reply=_UNAVAILABLE),
    "503, booked": RequestFault(reply=_UNAVAILABLE),
    "504, booked": RequestFault(reply=_GATEWAY_TIMEOUT),
    "429, not booked": RequestFault(booked=False, reply=_TOO_MANY),
    "429, booked": RequestFault(reply=_TOO_MANY),
    "307": RequestFault(booked=False, reply=_REDIRECT),
    "cut, not booked": RequestFault(booked=False, is_cut=True),
    "cut, booked": RequestFault(is_cut=True),
    "silent, not booked": RequestFault(booked=False, after_s=_SILENT_S, reply=_GATEWAY_TIMEOUT),
    "silent, then booked": RequestFault(after_s=_SILENT_S),
}
_SIMILAR: Final = frozenset({"503, booked", "429, not booked", "cut, not booked", "silent, not booked"})
"""Failures that differ little from others."""

_ORDER_FAILURES: Final[Mapping[str, RequestFault]] = {
    "503, booked and hidden": RequestFault(reply=_UNAVAILABLE, hidden_s=_HIDDEN_S),
    "an unknown duplicate": RequestFault(booked=False, reply=_DUPLICATE),
}
_REFUSED_EXITS: Final = {
    "day trade": _refused(403, 40310100, "trade denied due to pattern day trading protection"),
    "buying power": _refused(403, 40310000, "insufficient buying power"),
    "forbidden": _refused(403, 40310000, "forbidden"),
}
_FROM_THE_FILL: Final = When(since=Moment.ENTRY_FILLED, times=None)
_EVENTS: Final[Mapping[str, EventFault]] = {
    "never sent from the fill on": EventFault(copies=0, when=_FROM_THE_FILL),
    "late by 12 s from the fill on": EventFault(late_s=12.0, when=_FROM_THE_FILL),
    "sent twice": EventFault(copies=2),
    "sent twice with an unknown one between": EventFault(copies=2, between="order_reviewed"),
}
_UPDATES: Final = "updates"
_LOOKUPS: Final = "look-ups"
_READINGS: Final[Mapping[str, frozenset[Endpoint]]] = {
    "positions": frozenset({Endpoint.POSITIONS}),
    "orders": frozenset({Endpoint.ORDERS}),
    _LOOKUPS: frozenset({Endpoint.LOOKUP}),
    "account": frozenset({Endpoint.ACCOUNT}),
    "activities": frozenset({Endpoint.ACTIVITIES}),
}
_MAIN_LATE_S: Final = {"positions": (4, 12), "orders": (4, 12), _LOOKUPS: (12,), _UPDATES: (12,)}
"""The readings and lags that are not full."""

_CLOSING: Final = frozenset({Act.STOP, Act.EXIT})
_PHASES: Final = (
    Moment.ENTRY_SENT,
    Moment.ENTRY_FILLED,
    Moment.STOP_ACKNOWLEDGED,
    Moment.REPLACE_SENT,
    Moment.CANCEL_SENT,
    Moment.EXIT_SENT,
    Moment.EXIT_FILLED,
    Moment.RESTART,
)
_OPEN, _MIDDAY, _LAST = "at the open", "midday", "in the last five minutes"


@attrs.frozen(kw_only=True)
class _Shape:
    # The times of a day, as in VenueScenario.
    enters: int
    holds: int
    minutes: int
    flattens: int = 5


_SHAPES: Final = {
    _OPEN: _Shape(enters=1, holds=3, minutes=12),
    _MIDDAY: _Shape(enters=4, holds=3, minutes=15),
}
_LATE_EXIT: Final = _Shape(enters=1, holds=6, minutes=9, flattens=4)
"""The exit is that of flattening, four minutes before the close."""

_LATE_ENTRY: Final = _Shape(enters=5, holds=2, minutes=10, flattens=2)
"""The entry is sent four minutes before the close."""

_TIMES: Final = (_OPEN, _MIDDAY, _LAST)


def scenarios() -> Iterator[VenueScenario]:
    """All scenarios of the venue."""
    yield from _request_scenarios()
    yield from _event_scenarios()
    yield from _killed_scenarios()
    yield from _late_scenarios()
    yield from _list_scenarios()
    yield from _document_scenarios()
    yield from _foreign_scenarios()
    yield from _short_scenarios()


def _request_scenarios() -> Iterator[VenueScenario]:
    # Order requests that fail, by act, failure and time of day.
    for act in Act:
        hidden = {} if act is Act.CANCEL else _ORDER_FAILURES
        lasting = RequestFault(booked=False, reply=_UNAVAILABLE, when=When(since=SENT[act], lasts_s=60.0, times=None))
        for name, fault in {**_FAILURES, **hidden, "503 for 60 s": lasting}.items():
            for time in _TIMES:
                plan = _adding(attrs.evolve(fault, acts=frozenset({act})))
                scenario = _scenario(f"{act}: {name}, {time}", plan, act, time)
                yield attrs.evolve(scenario, full=_is_full(act, name, time))
    for name, reply in _REFUSED_EXITS.items():
        refused = RequestFault(acts=frozenset({Act.EXIT}), booked=False, reply=reply, when=When(times=2))
        for time in _TIMES:
            yield _scenario(f"exit: refused twice ({name}), {time}", _adding(refused), Act.EXIT, time)
    ignored = RequestFault(acts=frozenset({Act.CANCEL}), booked=False, reply=ServerReply(status=204))
    ended = RequestFault(acts=frozenset({Act.STOP}), ends_after_s=_LATER_S)
    for time in _TIMES:
        yield _scenario(f"cancel: 204 and ignored, {time}", _adding(ignored), Act.CANCEL, time)
        yield _scenario(f"stop: cancelled by the venue, {time}", _adding(ended), Act.STOP, time)
        twice = attrs.evolve(ended, when=When(times=2))
        yield _scenario(f"stop: cancelled by the venue twice, {time}", _adding(twice), Act.STOP, time)
        outage = RequestFault(
            booked=False, reply=_UNAVAILABLE, when=When(since=Moment.STOP_SENT, lasts_s=60.0, times=None)
        )
        yield _scenario(f"all orders: 503 for 60 s from the stop on, {time}", _adding(outage), Act.STOP, time)


def _is_full(act: Act, failure: str, time: str) -> bool:
    # Stops and exits fail at all times of day, the others and similar failures at midday.
    main = act in _CLOSING, failure not in _SIMILAR
    return not (any(main) if time == _MIDDAY else all(main))


def _event_scenarios() -> Iterator[VenueScenario]:
    # Trade updates that do not come as they should.
    for name, fault in _EVENTS.items():
        for time in _TIMES:
            yield _scenario(f"updates: {name}, {time}", _adding(fault), Act.STOP, time)


def _killed_scenarios() -> Iterator[VenueScenario]:
    # kill -9 while a request is on its way, which arrives or is lost.
    for act in Act:
        for arrives in (True, False):
            lost = RequestFault(acts=frozenset({act}), booked=False, is_cut=True)
            faults = () if arrives else (lost,)
            for time in _TIMES if act in _CLOSING else (_MIDDAY,):
                name = f"{act}: kill -9, the request {'arrives' if arrives else 'is lost'}, {time}"
                yield _scenario(name, _adding(*faults, kill_at=SENT[act]), act, time)


def _late_scenarios() -> Iterator[VenueScenario]:
    # Readings that lag behind, by endpoint, lag and phase.
    for late_s in _LATE_S:
        for phase in _PHASES:
            when = When(since=phase, lasts_s=_LAG_LASTS_S, times=None)
            late = {name: (ReadingFault(endpoints=of, when=when, late_s=late_s),) for name, of in _READINGS.items()}
            # An answer that is lost makes the client look the order up.
            lost = RequestFault(acts=frozenset(Act) - {Act.CANCEL}, when=when, reply=_GATEWAY_TIMEOUT)
            faults: dict[str, tuple[Fault, ...]] = {
                **late,
                _LOOKUPS: (*late[_LOOKUPS], lost),
                _UPDATES: (EventFault(when=when, late_s=late_s),),
            }
            for name, planned in faults.items():
                full = late_s not in _MAIN_LATE_S.get(name, ())
                scenario = _in_phase(f"{name}: late by {late_s} s", phase, *planned)
                yield attrs.evolve(scenario, full=full)
    for phase in _PHASES:
        when = When(since=phase, lasts_s=_LAG_LASTS_S, times=None)
        endpoints = frozenset({Endpoint.ORDERS, Endpoint.LOOKUP, Endpoint.ACTIVITIES})
        both = ReadingFault(endpoints=endpoints, when=when, late_s=12.0), EventFault(when=when, late_s=12.0)
        yield _in_phase("orders and updates: late by 12 s", phase, *both)


def _in_phase(name: str, phase: Moment, *faults: Fault) -> VenueScenario:
    # Faults from a phase on; an entry that is not confirmed may be cancelled.
    act = Act.ENTRY if phase is Moment.ENTRY_SENT else Act.REPLACE if phase is Moment.REPLACE_SENT else Act.STOP
    return _scenario(f"{name}, {phase}", _adding(*faults, restarts=phase is Moment.RESTART), act, _OPEN)


def _list_scenarios() -> Iterator[VenueScenario]:
    # Lists that are empty for three minutes, lack a page once, or are a minute old once.
    once = When(since=Moment.STOP_ACKNOWLEDGED)
    for name in ("positions", "orders", "activities"):
        endpoints, full = _READINGS[name], name == "activities"
        for phase in (Moment.ENTRY_FILLED, Moment.STOP_ACKNOWLEDGED, Moment.CANCEL_SENT, Moment.RESTART):
            when = When(since=phase, lasts_s=_EMPTY_LASTS_S, times=None)
            empty = ReadingFault(endpoints=endpoints, when=when, change=lambda _rows: [])
            plan = _adding(empty, restarts=phase is Moment.RESTART)
            yield attrs.evolve(_scenario(f"{name}: empty for 180 s, {phase}", plan, Act.STOP, _MIDDAY), full=full)
        missing = ReadingFault(endpoints=endpoints, when=once, change=lambda _rows: [])
        old = ReadingFault(endpoints=endpoints, when=once, late_s=60.0)
        for what, fault in (("missing", missing), ("old", old)):
            yield attrs.evolve(_scenario(f"{name}: a page is {what} once", _adding(fault), Act.STOP, _OPEN), full=full)


def _document_scenarios() -> Iterator[VenueScenario]:
    # Documents whose fields are not as stated.
    orders = frozenset({Endpoint.ORDERS, Endpoint.LOOKUP})
    fields: dict[str, tuple[frozenset[Endpoint], str, tuple[Any, ...]]] = {
        "order": (orders, "filled_avg_price", (_ABSENT, None)),
        "order's quantity": (orders, "filled_qty", ("NaN", "1E+999999", "-1")),
        "order's status": (orders, "status", ("reviewed",)),
        "position": (_READINGS["positions"], "qty", ("NaN", "1E+999999", "-1", "99999999", None)),
        "account": (_READINGS["account"], "equity", ("NaN", "1E+999999", "-1", None)),
    }
    for what, (endpoints, field, values) in fields.items():
        for value in values:
            for times in (1, None):
                when = attrs.evolve(_FROM_THE_FILL, times=times)
                change = _with(field, value)
                text = "omitted" if value is _ABSENT else str(value).lower()
                name = f"{what}: {field} {text}, {'once' if times else 'always'}"
                fault = ReadingFault(endpoints=endpoints, when=when, change=change)
                yield attrs.evolve(_scenario(name, _adding(fault), Act.STOP, _OPEN), full=times is None)
    for name, dated in (("dates", True), ("date-times", False)):
        refusing = ReadingFault(
            endpoints=frozenset({Endpoint.CALENDAR}),
            reply=_refused(400, 40010000, "invalid time"),
            refuses=_queries(dated=dated),
        )
        yield attrs.evolve(_scenario(f"calendar: refuses {name}", _adding(refusing), Act.STOP, _OPEN), trades=not dated)


def _foreign_scenarios() -> Iterator[VenueScenario]:
    # What others do while a stop rests.
    half = Decimal("0.5")
    acts: dict[str, Callable[[AlpacaServer, str], None]] = {
        "a person closes the position": lambda venue, symbol: others.close_by_hand(venue.account, symbol),
        "a person closes half": lambda venue, symbol: others.close_by_hand(venue.account, symbol, half),
        "a person cancels the stop": lambda venue, symbol: others.cancel_by_hand(venue.account, symbol),
        "a liquidation of all": lambda venue, symbol: others.liquidate(venue.account, symbol),
        "a liquidation of half": lambda venue, symbol: others.liquidate(venue.account, symbol, half),
        "a margin call for a fifth": lambda venue, symbol: others.liquidate(venue.account, symbol, Decimal("0.2")),
    }
    for name, act in acts.items():
        for time in _TIMES:
            scenario = _scenario(f"others: {name}, {time}", _doing(act), Act.STOP, time)
            yield attrs.evolve(scenario, foreign=True)


def _short_scenarios() -> Iterator[VenueScenario]:
    # A short position, which is bought back.
    for act in (Act.STOP, Act.EXIT):
        for name in ("503, not booked", "504, booked", "cut, not booked"):
            plan = _adding(attrs.evolve(_FAILURES[name], acts=frozenset({act})))
            yield attrs.evolve(_scenario(f"short {act}: {name}", plan, act, _OPEN), short=True)
    when = When(since=Moment.STOP_ACKNOWLEDGED, lasts_s=_EMPTY_LASTS_S, times=None)
    empty = ReadingFault(endpoints=_READINGS["positions"], when=when, change=lambda _rows: [])
    yield attrs.evolve(_scenario("short: positions empty for 180 s", _adding(empty), Act.STOP, _OPEN), short=True)


class _Exchange(Protocol):
    @property
    def venue(self) -> AlpacaServer: ...


def _scenario(name: str, plan: _Plan, act: Act, time: str) -> VenueScenario:
    def planned(exchange: _Exchange, kill: Kill) -> None:
        exchange.venue.market.past_days = _PAST_DAYS
        plan(exchange.venue, kill)

    late = _LATE_EXIT if act in {Act.EXIT, Act.CANCEL} else _LATE_ENTRY
    shape = _SHAPES.get(time, late)
    return VenueScenario(
        name=name,
        plan=planned,
        enters=shape.enters,
        holds=shape.holds,
        minutes=shape.minutes,
        flattens=shape.flattens,
        rises=act is Act.REPLACE,
        trades=act is not Act.ENTRY,
    )


def _adding(*faults: Fault, kill_at: Moment | None = None, restarts: bool = False) -> _Plan:
    # Plans faults, and kill -9 at a moment, or some seconds after the stop works.
    def plan(venue: AlpacaServer, kill: Kill) -> None:
        venue.faults.add(*faults)
        if kill_at is not None:
            venue.faults.act_at(kill_at, lambda: kill(_DOWN_S))
        if restarts:
            venue.faults.act_at(Moment.STOP_ACKNOWLEDGED, lambda: kill(_DOWN_S), after_s=_LATER_S)

    return plan


def _doing(act: Callable[[AlpacaServer, str], None]) -> _Plan:
    # Plans what others do some seconds after the stop works.
    def plan(venue: AlpacaServer, _kill: Kill) -> None:
        def do() -> None:
            for symbol in [*venue.account.held]:
                act(venue, symbol)

        venue.faults.act_at(Moment.STOP_ACKNOWLEDGED, do, after_s=_LATER_S)

    return plan


_ABSENT: Final = object()


def _with(field: str, value: object) -> Callable[[Any], Any]:
    # Changes a field of a document, or of each one of a list.
    def change(document: Any) -> Any:
        if isinstance(document, list):
            return [change(one) for one in document]
        rest = {name: given for name, given in document.items() if name != field}
        return rest if value is _ABSENT else {**rest, field: value}

    return change


def _queries(*, dated: bool) -> Callable[[Mapping[str, str]], bool]:
    # Queries with a date, or with a date and time.
    def fits(query: Mapping[str, str]) -> bool:
        return any(("T" not in query[name]) is dated for name in ("start", "end") if name in query)

    return fits
