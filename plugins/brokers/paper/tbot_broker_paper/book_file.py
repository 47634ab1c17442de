"""The file of a paper account's books: cash, positions, the session's orders and events; one transaction a call."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEvent
from tbot_core.errors import BrokerError
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.model.calendar import Session
from tbot_core.model.json_document import parse_json
from tbot_core.trading.matching import RestingOrder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.model.types import Order

_APPLICATION_ID: Final = 0x7462_7062
_VERSION: Final = 1
_LOCK_S: Final = 0.2  # no other process writes to it
_SCHEMA: Final = """
CREATE TABLE account (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL) STRICT;
CREATE TABLE orders (number INTEGER PRIMARY KEY, time TEXT NOT NULL, document TEXT NOT NULL) STRICT;
CREATE TABLE events (number INTEGER PRIMARY KEY, time TEXT NOT NULL, document TEXT NOT NULL) STRICT;
"""


@attrs.frozen(kw_only=True)
class AccountState:
    """An account after a call.

    `cash` in dollars; `positions` are signed units and the last price in ticks, by symbol. `session`: the open session,
    or the last one, None before the first; `is_open`: whether it is not closed yet. `observed`: its last minute that
    was matched, -1 before the first. `count`: the number of its events.
    """

    cash: Decimal
    positions: Mapping[str, tuple[int, int]] = attrs.field(factory=dict)
    session: Session | None = None
    is_open: bool = False
    observed: int = -1
    count: int = 0
    resting: Sequence[RestingOrder] = ()


class BookFile:
    """A file of books; raises BrokerError when it cannot be used."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it."""
        self._path = path
        with self._using():
            self._connection = sqlite3.connect(path, timeout=_LOCK_S, isolation_level=None)
            found = self._connection.execute("PRAGMA application_id").fetchone()[0]
            if not found and not self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                self._connection.executescript(
                    f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID};"
                    f"PRAGMA user_version = {_VERSION}; {_SCHEMA} COMMIT;"
                )
                found = _APPLICATION_ID
            self._connection.execute("PRAGMA synchronous = FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if found != _APPLICATION_ID or version != _VERSION:
            self._connection.close()
            raise BrokerError(f"{path} holds no books of this paper broker.", "Move it away, or use another --home.")

    def account(self) -> AccountState | None:
        """The account after the last call; None before the first."""
        with self._using():
            row = self._connection.execute("SELECT document FROM account").fetchone()
            return None if row is None else _account_of(parse_json(row[0]))

    def orders(self) -> list[tuple[dt.datetime, Order]]:
        """The accepted orders of the session with their times, in order."""
        with self._using():
            rows = self._connection.execute("SELECT time, document FROM orders ORDER BY number").fetchall()
            return [(dt.datetime.fromisoformat(time), _order_of(parse_json(text))) for time, text in rows]

    def events(self) -> list[tuple[dt.datetime, BrokerEvent]]:
        """The events of the session with their times, in order."""
        with self._using():
            rows = self._connection.execute("SELECT time, document FROM events ORDER BY number").fetchall()
            return [(dt.datetime.fromisoformat(time), _event_of(parse_json(text))) for time, text in rows]

    def write(
        self,
        account: AccountState,
        now: dt.datetime,
        orders: Sequence[Order] = (),
        events: Sequence[BrokerEvent] = (),
        *,
        new_session: bool = False,
    ) -> None:
        """Write the result of one call, durably; with `new_session`, without the orders and events before it."""
        time = now.isoformat()
        with self._using():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if new_session:
                    self._connection.execute("DELETE FROM orders")
                    self._connection.execute("DELETE FROM events")
                text = json.dumps(_account_document(account))
                self._connection.execute("INSERT OR REPLACE INTO account (id, document) VALUES (1, ?)", (text,))
                for name, texts in (
                    ("orders", [json.dumps(_order_document(order)) for order in orders]),
                    ("events", [json.dumps(_event_document(event)) for event in events]),
                ):
                    query = f"INSERT INTO {name} (time, document) VALUES (?, ?)"  # noqa: S608  two constants
                    self._connection.executemany(query, [(time, text) for text in texts])
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise BrokerError(
                f"The books of the paper broker, {self._path}, cannot be used: {error}.",
                "Check the disk; put the file back from a backup if it is damaged.",
            ) from error


def _account_document(account: AccountState) -> dict[str, Any]:
    session = account.session
    hours = None if session is None else [session.date.isoformat(), session.open.isoformat(), session.close.isoformat()]
    return {
        "cash": str(account.cash),
        "positions": {symbol: list(one) for symbol, one in account.positions.items()},
        "session": hours,
        "is_open": account.is_open,
        "observed": account.observed,
        "count": account.count,
        "resting": [_resting_document(order) for order in account.resting],
    }


def _account_of(document: Mapping[str, Any]) -> AccountState:
    hours = document["session"]
    session = None
    if hours is not None:
        opens, closes = map(dt.datetime.fromisoformat, hours[1:])
        session = Session(date=dt.date.fromisoformat(hours[0]), open=opens, close=closes)
    return AccountState(
        cash=Decimal(document["cash"]),
        positions={symbol: (units, ticks) for symbol, (units, ticks) in document["positions"].items()},
        session=session,
        is_open=document["is_open"],
        observed=document["observed"],
        count=document["count"],
        resting=[_resting_of(order) for order in document["resting"]],
    )


def _resting_document(one: RestingOrder) -> dict[str, Any]:
    numbers = {name: getattr(one, name) for name in ("remaining", "live_from", "stop", "limit", "filled", "triggered")}
    return {"order": _order_document(one.order), **numbers}


def _resting_of(document: Mapping[str, Any]) -> RestingOrder:
    numbers = {name: value for name, value in document.items() if name != "order"}
    return RestingOrder(order=_order_of(document["order"]), row=0, **numbers)


def _order_document(order: Order) -> dict[str, Any]:
    protection = [_order_document(one) for one in order.protection]
    return {**codec.write(OrderIntended.of(order)), "id": order.client_order_id, "protection": protection}


def _order_of(document: Mapping[str, Any]) -> Order:
    protection = tuple(_order_of(order) for order in document["protection"])
    return attrs.evolve(records.order_of(document["id"], document), protection=protection)


def _event_document(event: BrokerEvent) -> dict[str, Any]:
    return {
        "kind": str(event.kind),
        "event_id": event.event_id,
        "client_order_id": event.client_order_id,
        "report": codec.write(OrderReported.of(event)),
    }


def _event_of(document: Mapping[str, Any]) -> BrokerEvent:
    cid, report = document["client_order_id"], document["report"]
    return BrokerEvent(
        kind=document["kind"],
        event_id=document["event_id"],
        client_order_id=cid,
        fill=records.fill_of(cid, report),
        words=report["words"],
    )
