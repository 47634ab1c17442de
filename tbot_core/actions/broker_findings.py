"""Tests a broker with the stored credentials, for `tbot broker test` and `tbot check`; no order is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tbot_core.actions.assembly import assemble_action
from tbot_core.actions.notices import discard
from tbot_core.contracts import FeedRequest
from tbot_core.engine.assembly import feed_source
from tbot_core.engine.live.broker_check import BrokerFinding, check_broker
from tbot_core.instance import load_settings
from tbot_core.instance.secrets import account_mode
from tbot_core.model.formatting import request_words

SHORTS: Final = "shorts"
_SWITCH_OFF: Final = (
    "the account may sell short, and no strategy of STRATEGY_SEQUENCE does: switch short sales off in the account's "
    "configuration at the broker, so that no order can open a short position; the broker's page in docs/brokers names "
    "the setting"
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.actions.notices import Notify
    from tbot_core.engine.assembly import Assembly
    from tbot_core.instance import Instance, Settings
    from tbot_core.model.types import Account


def connect_broker(instance: Instance, name: str = "", notify: Notify = discard) -> tuple[str, list[BrokerFinding]]:
    """The name of the broker (default: BROKER_NAME) and what was found there, in the mode of its credentials.

    `notify` gets what `action_clock` says. Raises what `assemble_action` raises.
    """
    live = account_mode(load_settings(instance.home, mode="replay"), name) == "live"
    assembly = assemble_action(instance.home, "live" if live else "paper", notify=notify)
    chosen = name or assembly.settings.trading.broker_name
    return chosen, asyncio.run(assembly.closing(_tested(assembly, chosen)))


async def _tested(assembly: Assembly, name: str) -> list[BrokerFinding]:
    plugin, clock = assembly.broker(name), assembly.clock
    broker = plugin.for_session(clock)  # it refuses what a run does, as an account in another currency
    if broker.capabilities.simulated:
        return [BrokerFinding(level="ok", subject="login", words=f"{name} is a simulation: there is no login")]
    feed = None
    if assembly.quality(name) is not None:
        request = FeedRequest(kind="live", symbols=assembly.settings.trading.universe, calendar=assembly.calendar)
        feed = feed_source(plugin, name).feed(request)
    found = await check_broker(broker, assembly.calendar.current(clock.now()), clock, feed)
    if broker.reported_account is None:
        return found
    return [*found, *_shorts(broker.reported_account, assembly.settings), *_requests(assembly)]


def _shorts(account: Account, settings: Settings) -> Iterator[BrokerFinding]:
    # What an account may do and no strategy does is better switched off there.
    sells_short = any(settings.frames[name].short_type.lower() == "shortsell" for name in settings.strategies)
    if account.shorting_allowed and not sells_short:
        yield BrokerFinding(level="warn", subject=SHORTS, words=_SWITCH_OFF)


def _requests(assembly: Assembly) -> Iterator[BrokerFinding]:
    # The vendor's limits at the hosts that were reached.
    for host, left, per_minute, _ in assembly.budgets.left():
        words = f"{host}: {request_words(per_minute, left)}"
        yield BrokerFinding(level="ok", subject="requests", words=words)
