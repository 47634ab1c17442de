"""A start beside another tbot install: only its open orders refuse the start."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import attrs
import pytest

from tbot_core.contracts import OrderStatus, OrderStatusReport
from tbot_core.errors import SettingsError
from tbot_core.execution.sole_install import SoleInstallCheck
from tbot_core.model.types import Leg, SignalId
from tbot_core.trading.orders import ClientOrderIds, install_mark

SIGNAL = SignalId(session=dt.date(2026, 11, 23), strategy="open", symbol="AAA", minute=5, rule="break")


def made_by(install_id: str, length: int = 48) -> str:
    """A client order id as an install makes it."""
    naming = ClientOrderIds(install_id=install_id, identity="", account_id="A1", length=length)
    return naming.client_order_id(SIGNAL, Leg.STOP)


def report(client_order_id: str, kind: OrderStatus = OrderStatus.WORKING) -> OrderStatusReport:
    """An order that is not in the books."""
    return OrderStatusReport(
        client_order_id=client_order_id,
        broker_order_id="b1",
        kind=kind,
        symbol="AAA",
        buy=False,
        quantity=Decimal(10),
        filled=Decimal(4),
        time=dt.datetime(2026, 11, 23, 14, 0, tzinfo=dt.UTC),
    )


@pytest.mark.parametrize("length", [20, 36, 48, 128])
def test_an_open_order_of_another_install_refuses_the_start(length: int) -> None:
    """Exit 3; the message names broker, account, order, both marks, and what to do."""
    cid = made_by("other", length)
    with pytest.raises(SettingsError) as caught:
        SoleInstallCheck(install_id="own").check("alpaca", "A1", [report(made_by("own", length)), report(cid)])
    assert caught.value.exit_code == 3
    assert f"1 open order at alpaca, account A1: sell 6 AAA, client order id {cid}" in caught.value.message
    assert f"is {install_mark('other')}, of this one {install_mark('own')}" in caught.value.message
    assert "`tbot stop --flatten --home" in caught.value.remedy


@pytest.mark.parametrize(
    "client_order_id",
    ["", "manual-1", "tb-trailing-stop-of-mine", "TBABCDEFGHIJKLMNOPQRST", "tbone", made_by("own")],
)
def test_orders_of_others_without_a_mark_do_not(client_order_id: str) -> None:
    """They are external, as orders of this install that its journal does not know."""
    SoleInstallCheck(install_id="own").check("alpaca", "A1", [report(client_order_id)])


@pytest.mark.parametrize("kind", [one for one in OrderStatus if one is not OrderStatus.WORKING])
def test_an_ended_order_does_not(kind: OrderStatus) -> None:
    """An account may have been traded by another install before."""
    SoleInstallCheck(install_id="own").check("alpaca", "A1", [report(made_by("other"), kind)])


def test_each_account_is_checked_once_a_run() -> None:
    """A later order ends no run that may hold positions; a standby's account has its own first reading."""
    check, order = SoleInstallCheck(install_id="own"), report(made_by("other"))
    check.check("alpaca", "A1", [])
    check.check("alpaca", "A1", [order])
    with pytest.raises(SettingsError, match="at tradier, account A1"):
        check.check("tradier", "A1", [order])


def test_only_the_first_orders_are_listed() -> None:
    """The others are counted."""
    orders = [attrs.evolve(report(made_by("other")), symbol=f"S{number}") for number in range(7)]
    with pytest.raises(SettingsError, match=r"7 open orders.*S4, client order id [a-z2-7]+; and 2 more"):
        SoleInstallCheck(install_id="own").check("alpaca", "A1", orders)
