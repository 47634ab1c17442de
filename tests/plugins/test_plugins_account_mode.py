"""The mode of a run against what the broker reports of its account."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, cast

import attrs
import pytest

from tbot_core.contracts import AccountSnapshot, Broker, BrokerCapabilities
from tbot_core.engine.session.broker_login import log_in, log_in_within
from tbot_core.errors import AccountRefused, BrokerError, SettingsError
from tbot_core.execution.broker_port import open_port
from tbot_core.model.types import Account, AccountRestriction
from tbot_core.plugins.account_mode import account_mode_error
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.testing.trades import session

ENTRY = EntryPointInfo(kind="broker", name="acme", dist="tbot-broker-acme", version="1", target="acme")
SILENT = Account(account_id="A-1", equity=Decimal(1000), cash=Decimal(1000))
LIVE = attrs.evolve(SILENT, live=True, evidence="host api.acme.example serves live accounts only")
PAPER = attrs.evolve(SILENT, live=False, evidence="host paper.acme.example serves paper only")


class Reporting:
    """A broker whose account a test sets."""

    capabilities = BrokerCapabilities()

    def __init__(self, account: Account) -> None:
        self.reported = account

    async def connect(self) -> Account:
        """Log in."""
        return self.reported

    async def account(self) -> Account:
        """The account."""
        return self.reported

    async def snapshot(self, _since: object) -> AccountSnapshot:
        """The account alone."""
        return AccountSnapshot(account=self.reported)


def guarded(account: Account, *, live: bool | None) -> tuple[Reporting, Any]:
    """A broker, and what the core gets of it in a mode."""
    broker = Reporting(account)
    return broker, open_port(ENTRY, broker, CallGuard(strict=False), live=live)


@pytest.mark.parametrize(
    ("account", "live", "words"),
    [
        (LIVE, True, ""),
        (PAPER, True, "holds no live money (host paper.acme.example serves paper only)"),
        (SILENT, True, "it is not known whether the account A-1 at acme holds live money"),
        (attrs.evolve(LIVE, evidence=" "), True, "it is not known whether"),
        (attrs.evolve(SILENT, evidence="a guess"), True, "it is not known whether"),
        (LIVE, False, "holds live money (host api.acme.example serves live accounts only)"),
        (attrs.evolve(LIVE, evidence=""), False, "holds live money (the broker reports it)"),
        (PAPER, False, ""),
        (SILENT, False, ""),
    ],
)
def test_the_mode_is_checked_against_the_evidence(account: Account, live: bool, words: str) -> None:
    """Live needs live money with evidence, paper refuses it; every refusal has a remedy and exit code 3."""
    fault = account_mode_error(account, "acme", live=live)
    if not words:
        assert fault is None
        return
    assert fault is not None
    assert words in fault.message
    assert fault.remedy
    assert fault.exit_code == 3


def test_what_the_plugin_must_report_is_named() -> None:
    """An author who lets live trading be refused is told which fields are missing."""
    fault = account_mode_error(SILENT, "acme", live=True)
    assert fault is not None
    assert "The plugin must report Account.live and Account.evidence" in fault.remedy


@pytest.mark.parametrize("opened", [None, {"accounts": {"acme": {"account": "A-1", "equity": "500"}}}])
def test_a_login_to_an_account_of_another_mode_ends_the_start(opened: dict[str, Any] | None) -> None:
    """Also after a restart, and at a standby: it is no silence that is waited for."""
    event: Any = None if opened is None else type("Opened", (), {"payload": opened})
    _, broker = guarded(LIVE, live=False)
    with pytest.raises(SettingsError, match="The mode is paper"):
        asyncio.run(log_in(cast("Broker", broker), "acme", event))
    with pytest.raises(SettingsError, match="The mode is paper"):
        asyncio.run(log_in_within(1.0, cast("Broker", broker), "acme", event))


def test_an_account_that_becomes_another_one_is_not_read() -> None:
    """In a session the refusal is a BrokerError, which blocks entries and ends no run."""
    broker, core = guarded(PAPER, live=False)
    assert asyncio.run(core.account()) is PAPER
    broker.reported = LIVE
    for call in (core.account, core.connect, lambda: core.snapshot(session().open)):
        with pytest.raises(AccountRefused):
            asyncio.run(call())
    assert issubclass(AccountRefused, BrokerError)


def test_without_a_mode_no_account_is_judged() -> None:
    """A dry run or a simulation trades no account."""
    _, core = guarded(LIVE, live=None)
    assert asyncio.run(core.connect()) is LIVE


@pytest.mark.parametrize(
    ("restricted", "flags", "words"),
    [
        ("", [], ""),
        ("margin call of 100 USD", ["trading blocked"], "margin call of 100 USD"),
        ("", ["trading blocked", "account blocked"], "account blocked, trading blocked"),
        ("", ["transfers blocked"], ""),
    ],
)
def test_a_restriction_blocks_with_the_brokers_word(restricted: str, flags: list[str], words: str) -> None:
    """Its own words come first; blocked transfers concern no order."""
    account = attrs.evolve(SILENT, restricted=restricted, restrictions=cast("Any", flags))
    assert account.blocking_words == words
    assert account.restrictions == {AccountRestriction(flag) for flag in flags}


def test_an_unknown_restriction_is_no_flag() -> None:
    """A text that the core does not know is refused, since it may mean anything."""
    with pytest.raises(ValueError, match="asleep"):
        attrs.evolve(SILENT, restrictions=cast("Any", ["asleep"]))
