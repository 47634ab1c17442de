"""Every saved reply of the vendor is read, or is refused with a reason; and what the pure parser promises."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca import market_data, option_data, parse
from tbot_broker_alpaca.rejections import UnknownOrder, rejection, stream_error

from tbot_core.contracts import AccountActivityKind, BrokerEventKind, HaltStatus, Heartbeat, OrderStatus
from tbot_core.errors import BrokerError, LoginNeeded, Rejected, Unavailable
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.option_symbols import is_occ_symbol
from tbot_core.testing.trades import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SYMBOL = "AAPL"


@attrs.frozen
class Saved:
    """A saved reply: its file and name, its path where the file says it, and its document."""

    name: str
    path: str
    status: int
    document: Any


def saved_in(folder: Path) -> Iterator[Saved]:
    """Every reply of every file."""
    for file in sorted(folder.glob("*/*.json")):
        for one in json.loads(file.read_text()):
            name = f"{file.stem} {one.get('test') or one['path']} {one.get('name')}"
            yield Saved(name, one.get("path", ""), int(one.get("status", 200)), one["payload"])


@attrs.frozen(kw_only=True)
class Reply:
    """An answer, as the plugin receives it."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def result_of(saved: Saved) -> object:
    """What the plugin makes of a reply; Unavailable for one that it refuses, and why it would never ask for it."""
    document = saved.document
    if saved.status >= 400 or (isinstance(document, dict) and {"code", "message"} <= document.keys()):
        return rejection(Reply(status=max(saved.status, 422), body=json.dumps(document).encode()))  # type: ignore[arg-type]  # only these two are read
    rows = document if isinstance(document, list) else [document]
    for fits, read in READERS:
        if rows and all(isinstance(row, dict) and fits(row) for row in rows):
            with parse.readable("reply"):
                return [read(row) for row in rows]
    return f"not one of the replies that the plugin asks for: {'empty' if not rows else sorted(rows[0])[:4]}"


def whole(rows: list[Any]) -> tuple[Any, ...]:
    """Orders, each of which must be readable."""
    reports, unreadable = parse.orders(rows)
    if unreadable:
        raise ValueError(unreadable)
    return reports


def bars(document: Any) -> object:
    """The bars of a reply, of several symbols or of one."""
    found = document.get("bars") or {}
    if isinstance(found, list):
        found = {SYMBOL: found}
    rows = {
        name: own if isinstance(own, list) else [own] for name, own in found.items() if isinstance(own, dict | list)
    }
    return [market_data.minute_bar(name, row) for name, own in rows.items() for row in own if "o" in row]


def quotes(document: Any) -> object:
    """The quotes of a reply, of options where the symbols are theirs."""
    rows = {name: own if isinstance(own, list) else [own] for name, own in document["quotes"].items()}
    return [
        option_data.quote(name, row, "opra") if is_occ_symbol(name) else market_data.quote(name, row)
        for name, own in rows.items()
        for row in own
    ]


def contracts(document: Any) -> object:
    """The contracts of a reply, each read as one of a chain of its own underlying."""
    calendar = ExchangeCalendar()
    return [option_data.listing(row, row["underlying_symbol"], calendar) for row in document["option_contracts"]]


def values(document: Any) -> object:
    """The index values of a reply."""
    rows = {name: own if isinstance(own, list) else [own] for name, own in document["values"].items()}
    return [market_data.index_value(row) for own in rows.values() for row in own]


def is_snapshot(row: Any) -> bool:
    """Whether a document is the snapshots of some symbols."""
    return bool(row) and all(isinstance(own, dict) and "latestQuote" in own for own in row.values())


READERS: list[tuple[Callable[[Any], bool], Callable[[Any], object]]] = [
    (lambda row: "filled_qty" in row, lambda row: whole([row])),
    (lambda row: "account_number" in row, lambda row: parse.account(row, "paper")),
    (lambda row: "avg_entry_price" in row, parse.position),
    (lambda row: "easy_to_borrow" in row, parse.instrument),
    (lambda row: "bars" in row, bars),
    (lambda row: isinstance(row.get("quotes"), dict), quotes),
    (lambda row: "values" in row, values),
    (lambda row: "option_contracts" in row, contracts),
    (lambda row: "snapshots" in row, lambda row: [market_data.price(own) for own in row["snapshots"].values()]),
    (is_snapshot, lambda row: [market_data.price(own) for own in row.values()]),
]


def test_a16_every_saved_reply_is_read_or_refused_with_a_reason(shared: Path) -> None:
    """No reply ends in anything but values, a rejection in the vendor's words, or Unavailable with the reason."""
    folder = shared / "payloads" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    read, refused, others = list[str](), list[str](), list[str]()
    for one in saved_in(folder):
        try:
            found = result_of(one)
        except Unavailable as fault:
            refused.append(f"{one.name}: {fault.message}")
        else:
            (read if isinstance(found, list | BrokerError) else others).append(f"{one.name}: {found}")
    assert (len(read) > 100, len(refused)) == (True, 0), refused
    assert all("not one of the replies" in one for one in others)


ORDER = {
    "id": "A",
    "client_order_id": "kit-1",
    "asset_class": "us_equity",
    "symbol": SYMBOL,
    "side": "buy",
    "qty": "10",
    "filled_qty": "0",
    "filled_avg_price": None,
    "status": "new",
    "created_at": "2026-01-05T15:00:00.123456789Z",
}


OTHER = ORDER | {"id": "B", "client_order_id": "kit-2"}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "reviewed"},
        {"filled_qty": None},
        {"filled_qty": "-1"},
        {"filled_avg_price": "-3", "filled_qty": "1"},
        {"qty": "NaN"},
        {"qty": "1E+999999"},
        {"created_at": None},
    ],
)
def test_g08_an_order_that_cannot_be_read_is_alone_unknown(change: dict[str, Any]) -> None:
    """One with an unknown status, without a field, or with an absurd number is named, and all others are read."""
    reports, unreadable = parse.orders([ORDER | change, OTHER])
    assert ([one.client_order_id for one in reports], [*unreadable]) == (["kit-2"], ["kit-1"])


@pytest.mark.parametrize("field", ["id", "client_order_id", "status", "symbol", "side", "filled_qty"])
def test_g08_an_order_without_a_field_is_alone_unknown(field: str) -> None:
    """Where its own id is missing, too, the others are read, and one without a name is unknown."""
    reports, unreadable = parse.orders([{name: ORDER[name] for name in ORDER.keys() - {field}}, OTHER])
    assert [one.client_order_id for one in reports] == ["kit-2"]
    assert [*unreadable] == ["" if field == "client_order_id" else "kit-1"]
    assert [*parse.orders([ORDER | {"client_order_id": None}, OTHER])[1]] == [""]


def test_a_replaced_order_is_unknown_as_its_replacement_is() -> None:
    """A chain of which a part cannot be read is neither the old order nor the new one."""
    new = OTHER | {"client_order_id": "kit-1~1", "replaces": "A", "status": "reviewed"}
    for damaged in (new, {name: new[name] for name in new.keys() - {"id"}}):
        reports, unreadable = parse.orders([ORDER | {"status": "replaced", "replaced_by": "B"}, damaged])
        assert (reports, [*unreadable]) == ((), ["kit-1"])


@pytest.mark.parametrize("change", [{"filled_avg_price": None}, {"filled_avg_price": ""}, {}])
def test_an_average_price_that_is_not_given_is_not_known(change: dict[str, Any]) -> None:
    """What has filled counts, and its price is neither 0 nor a reason to read nothing."""
    order = {name: ORDER[name] for name in ORDER.keys() - {"filled_avg_price"}} | {"filled_qty": "4"}
    (found,) = whole([order | change])
    assert (found.filled, found.average_price) == (4, None)


STEPS = (
    *("accepted", "accepted_for_bidding", "held", "stopped", "calculated", "done_for_day"),
    *("pending_new", "pending_cancel", "pending_replace"),
)
"""On the way to another status: a cancel or a change that was requested has not happened yet."""

WORKING = (*STEPS, "new", "partially_filled", "suspended", "replaced")

ENDED = {
    "canceled": OrderStatus.CANCELLED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
    "filled": OrderStatus.FILLED,
}


@pytest.mark.parametrize(("status", "kind"), [*((word, OrderStatus.WORKING) for word in WORKING), *ENDED.items()])
def test_each_status_is_one_of_the_cores(status: str, kind: OrderStatus) -> None:
    """What is on its way still works; only four statuses of the seventeen are an end."""
    assert len({*WORKING, *ENDED}) == 17
    assert [one.kind for one in whole([ORDER | {"status": status}])] == [kind]


def test_the_fills_of_a_chain_add_up() -> None:
    """What each order of a chain filled counts once, at its average price."""
    first = ORDER | {"status": "replaced", "filled_qty": "4", "filled_avg_price": "20", "replaced_by": "B"}
    second = ORDER | {"id": "B", "client_order_id": "kit-1~1", "replaces": "A", "qty": "6", "filled_qty": "2"}
    (found,) = whole([second | {"filled_avg_price": "23"}, first])
    assert (found.client_order_id, found.broker_order_id) == ("kit-1", "B")
    assert [found.quantity, found.filled, found.average_price] == [10, 6, 21]


@pytest.mark.parametrize("price", ["0.0001", "10.10", "1E+1", "1234567.89"])
def test_g11_prices_and_quantities_are_text(price: str) -> None:
    """Every digit is sent, and no exponent."""
    document = parse.request(order_of(name="kit-1", limit=price, quantity="1E+2"))
    assert document["limit_price"] == f"{Decimal(price):f}"
    assert (document["qty"], document["type"], document["time_in_force"]) == ("100", "limit", "day")


@pytest.mark.parametrize(
    ("word", "more", "kind"),
    [
        ("new", {}, BrokerEventKind.ACKNOWLEDGED),
        *(
            (word, {}, None)
            for word in WORKING
            if word.startswith(("pending", "accepted", "held", "stop", "calc", "do"))
        ),
        ("new", {"replaces": "0"}, None),
        ("canceled", {}, BrokerEventKind.CANCELLED),
        ("expired", {}, BrokerEventKind.EXPIRED),
        ("replaced", {}, BrokerEventKind.REPLACED),
        ("rejected", {}, BrokerEventKind.REJECTED),
        ("rejected", {"replaces": "0"}, BrokerEventKind.CANCEL_REFUSED),
        ("order_cancel_rejected", {}, BrokerEventKind.CANCEL_REFUSED),
        ("order_replace_rejected", {}, BrokerEventKind.CANCEL_REFUSED),
        ("suspended", {}, "suspended"),
        ("fill", {"asset_class": "crypto"}, None),
        ("trade_bust", {}, BrokerEventKind.BUSTED),
        ("trade_correct", {}, BrokerEventKind.CORRECTED),
        ("partial_fill", {}, BrokerEventKind.FILL),
    ],
)
def test_a10_each_trade_update_is_an_event_or_a_step(word: str, more: dict[str, str], kind: str | None) -> None:
    """A step on the way is silent, what is not known keeps its word, and a replacement's rejection is no end."""
    execution = {"execution_id": "E2", "previous_execution_id": "E1"} if word.startswith("trade") else {}
    document = {
        "event": word,
        "execution_id": "E1",
        **execution,
        "timestamp": "2026-01-05T15:00:01.5Z",
        "qty": "-3",
        "price": 20.5,
        "order": ORDER | more,
    }
    found = parse.event(document, "kit-1")
    assert (found and found.kind) == kind
    if found is not None and found.fill is not None:
        assert (found.fill.execution_id, found.fill.quantity, found.fill.price) == ("E1", Decimal(3), Decimal("20.5"))


@pytest.mark.parametrize(
    ("asset", "easy"),
    [
        ({"borrow_status": "easy_to_borrow"}, True),
        ({"borrow_status": "hard_to_borrow", "easy_to_borrow": True}, False),
        ({"easy_to_borrow": True}, True),
        ({}, None),
    ],
)
def test_what_is_not_said_about_borrowing_is_not_known(asset: dict[str, Any], easy: bool | None) -> None:
    """The newer field counts before the older one, and neither of them denies short sales."""
    row = {"symbol": SYMBOL, "tradable": True, "status": "active", "shortable": True, **asset}
    found = parse.instrument(row)
    assert (found.easy_to_borrow, found.tradable, found.fractionable) == (easy, True, False)
    assert parse.instrument(row | {"status": "inactive"}).tradable is False


def test_an_account_that_may_not_trade_says_so() -> None:
    """A status other than ACTIVE and the owner's own suspension are words; blocks are flags."""
    whole = {"account_number": "PA1", "equity": "1", "cash": "1", "status": "ACTIVE", "multiplier": "1"}
    found = parse.account(whole | {"trading_blocked": True, "transfers_blocked": True}, "paper")
    assert sorted(found.restrictions) == ["trading blocked", "transfers blocked"]
    assert not found.restricted
    assert (found.margin, found.shorting_allowed, found.buying_power) == (False, False, None)
    assert "suspended" in parse.account(whole | {"trade_suspended_by_user": True}, "paper").restricted
    assert "ONBOARDING" in parse.account(whole | {"status": "ONBOARDING"}, "paper").restricted


def test_an_activity_is_dated_and_named() -> None:
    """A day alone is its midnight in New York; a trade is no activity, nor is one that was cancelled."""
    row = {"id": "1", "activity_type": "JNLC", "date": "2026-01-05", "net_amount": "-10"}
    found = parse.activity(row)
    assert found is not None
    assert (found.kind, found.cash) == (AccountActivityKind.TRANSFER, Decimal(-10))
    assert found.time == dt.datetime(2026, 1, 5, 5, tzinfo=dt.UTC)
    assert parse.activity(row | {"activity_type": "FILL"}) is None
    assert parse.activity(row | {"status": "canceled"}) is None


def test_only_the_vendors_own_answer_says_that_an_order_is_absent() -> None:
    """A page of another server with the status 404 says nothing about an order."""
    body = {"code": 40410000, "message": "order not found"}
    assert type(rejection(Reply(status=404, body=json.dumps(body).encode()))) is UnknownOrder  # type: ignore[arg-type]
    for other in (b"<html>404</html>", b"[]", b""):
        assert type(rejection(Reply(status=404, body=other))) is Rejected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"sc": "H", "rc": "T1"}, [("AAPL", True, 0)]),
        ({"sc": "2", "rc": "M"}, [("AAPL", True, 0)]),
        ({"sc": "P", "rc": "LUDP"}, [("AAPL", True, 0)]),
        ({"sc": "T", "rc": ""}, [("AAPL", False, 0)]),
        ({"sc": "3"}, [("AAPL", False, 0)]),
        ({"sc": "H", "rc": "MWC2"}, [("", True, 2), ("AAPL", True, 0)]),
        ({"sc": "2", "rc": "1"}, [("", True, 1), ("AAPL", True, 0)]),
        ({"sc": "T", "rc": "MWCQ"}, [("", False, 0), ("AAPL", False, 0)]),
        ({"sc": "5", "rc": "D"}, []),
    ],
)
def test_a_status_halts_a_symbol_or_the_market(row: dict[str, str], found: list[tuple[str, bool, int]]) -> None:
    """Both tapes have codes of their own; a price indication halts nothing."""
    messages = list(market_data.stream_messages({"T": "s", "S": SYMBOL, **row}))
    halts = [(one.symbol, one.halted, one.level) for one in messages if isinstance(one, HaltStatus)]
    assert (halts, len(messages)) == (found, len(found) or 1)


def test_other_messages_of_the_stream_are_signs_of_life() -> None:
    """A message that is not known is a heartbeat, and one that reports an error ends the connection."""
    assert list(market_data.stream_messages({"T": "x", "S": SYMBOL})) == [Heartbeat()]
    with pytest.raises(Unavailable, match="407 slow client"):
        list(market_data.stream_messages({"T": "error", "code": 407, "msg": "slow client"}))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(402, LoginNeeded), (406, Unavailable), (405, Rejected), (409, Rejected), (500, Unavailable)],
)
def test_a13_an_error_of_the_data_stream_has_its_kind(code: int, kind: type[BrokerError]) -> None:
    """A key that is refused, a plan that does not allow it, and a connection that is taken are different things."""
    assert type(stream_error({"code": code, "msg": "words"})) is kind


def test_a_frame_that_is_no_json_is_no_message() -> None:
    """Half a message is not passed over, since it may have been a fill."""
    with pytest.raises(Unavailable, match="cannot be read"):
        parse.messages('[{"T": "b", "S"')
    assert parse.messages(b'[{"T": "x"}, 1]') == [{"T": "x"}]


def test_the_price_of_a_snapshot_is_the_middle_of_its_quote() -> None:
    """A quote of which a side is empty gives way to the last trade; without both there is no price."""
    assert market_data.price({"latestQuote": {"bp": 20, "ap": 20.5}, "latestTrade": {"p": 19}}) == 20.25
    assert market_data.price({"latestQuote": {"bp": 0, "ap": 20.5}, "latestTrade": {"p": 19}}) == 19.0
    assert market_data.price({"latestQuote": None}) is None
