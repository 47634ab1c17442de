"""A journal in which trades are closed, for what follows it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerEvent
from tbot_core.instance import Instance
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.store import Journal, NewEvent, open_journal
from tbot_core.model.types import ExitReason, Leg
from tbot_core.testing.trades import fill, order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FEE = Decimal("0.013")
TIME = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)


class Trader:
    """Writes runs, sessions and trades into the journal of an instance."""

    def __init__(self, home: Path, path: Path | None = None) -> None:
        self.instance = Instance.at(home)
        self.path = path or self.instance.journal
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.journal: Journal = open_journal(self.path)
        self._executions = 0
        self._cash = Decimal(1000)

    def write(self, kind: str, payload: dict[str, Any], cid: str | None = None) -> None:
        """Write an event."""
        self.journal.append([NewEvent(kind=kind, payload=payload, time=TIME, cid=cid)])

    def start(self, mode: str = "paper", identity: str = "AB_US_ACME_01") -> None:
        """A run begins."""
        self.write(records.RUN_STARTED, {"equity": str(self._cash), "mode": mode, "identity": identity})

    def open(self, day: str = "2026-01-05") -> None:
        """A session begins."""
        opening = {"date": day, "symbols": 3, "equity": str(self._cash), "account": "PA1", "primary": "acme"}
        self.write(records.SESSION_OPENED, opening)

    def close(self) -> None:
        """A session ends."""
        self.write(records.SESSION_CLOSED, {"equity": str(self._cash), "cash": str(self._cash), "open": []})

    def trade(self, symbol: str = "AAA", price: str = "11") -> None:
        """A trade from entry to exit."""
        self._cash += 100 * (Decimal(price) - 10) - 2 * FEE
        for leg, paid in ((Leg.ENTRY, "10"), (Leg.EXIT, price)):
            one = order(leg, f"{leg.value} {symbol}", symbol=symbol, reason=ExitReason.TIME)
            one = attrs.evolve(one, reason=None) if leg is Leg.ENTRY else one
            self.write(records.INTENDED, codec.write(OrderIntended.of(one)), one.client_order_id)
            self.write(records.SENDING, {}, one.client_order_id)
            self._executions += 1
            self.report(symbol, "fill", paid, leg=leg, execution=str(self._executions))

    def report(self, symbol: str, kind: str, price: str, *, leg: Leg = Leg.EXIT, execution: str = "2") -> None:
        """A broker's word on an order."""
        one = order(leg, f"{leg.value} {symbol}", symbol=symbol)
        event = BrokerEvent(
            kind=kind,
            event_id="1",
            client_order_id=one.client_order_id,
            fill=fill(one, price, execution=execution, fees=str(FEE)),
        )
        self.write(kind, codec.write(OrderReported.of(event)), one.client_order_id)


@pytest.fixture
def trader(tmp_path: Path) -> Iterator[Trader]:
    """A trader with an open paper session."""
    made = Trader(tmp_path)
    made.start()
    made.open()
    yield made
    made.journal.close()
