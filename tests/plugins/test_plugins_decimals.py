"""A plugin that changes the decimal context, as some libraries do, changes nothing of how the core computes money."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Context, getcontext, localcontext, setcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import contracts
from tbot_core.contracts import BrokerCapabilities
from tbot_core.execution.broker_port import open_port
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.plugins.call_guard import CallGuard, GuardSession
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.guarded import GuardedVix
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader, build_plugin
from tbot_core.system import log
from tbot_core.system.isolated_calls import IsolatedCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

NOW = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)
ENTRY = EntryPointInfo(kind="broker", name="acme", dist="tbot-broker-acme", version="1", target="acme")
MODULE = """
import attrs
from decimal import getcontext
from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
@attrs.frozen
class Config: pass
def create(config, context):
    getcontext().prec = 3
    return Made()
class Made: pass
getcontext().prec = 3
@hookimpl
def tbot_extension():
    getcontext().prec = 3
    return Plugin(name="coarse", summary="", config=Config, create=create)
"""


@pytest.fixture(autouse=True)
def _own_context() -> Iterator[None]:
    with localcontext(Context(prec=28)):
        yield


def coarse(*_: object) -> None:
    """Change the present context, and put another in its place."""
    getcontext().prec = 3
    setcontext(Context(prec=4))


class Coarse:
    """A broker that computes with few digits in all that it does."""

    @property
    def capabilities(self) -> BrokerCapabilities:
        """None beside events."""
        coarse()
        return BrokerCapabilities(simulated=True)

    async def cancel(self, _cid: str) -> None:
        """Compute before and after a wait."""
        coarse()
        await asyncio.sleep(0)
        coarse()

    async def vix_close(self, _day: dt.date) -> float:
        """A VIX."""
        coarse()
        return 17.0

    async def events(self) -> AsyncIterator[Any]:
        """Two items."""
        for _ in range(2):
            coarse()
            yield contracts.Gap(words="connected")

    def close_session(self) -> None:
        """End the session."""
        coarse()


def _guard(*, strict: bool = False) -> CallGuard:
    guard = CallGuard(strict=strict)
    guard.open_session(GuardSession(clock=ManualClock(NOW), on_failure=lambda _failed: None))
    return guard


@pytest.mark.parametrize(
    "call",
    [
        lambda: _guard().call(ENTRY, "scan", coarse),
        lambda: _guard(strict=True).call(ENTRY, "scan", coarse),
        lambda: IsolatedCalls(lambda: 0.0).call("observer", coarse),
        lambda: IsolatedCalls(lambda: 0.0).call("observer", coarse, 9.0),
        lambda: open_port(ENTRY, Coarse(), _guard()).close_session(),
    ],
    ids=["call", "simulated call", "observer", "bounded observer", "venue"],
)
def test_a_call_leaves_the_decimal_context_as_it_was(call: Callable[[], object]) -> None:
    """Amounts keep their 28 digits, whatever precision a strategy, filter, observer or venue has set."""
    call()
    assert getcontext().prec == 28


def test_loading_leaves_the_decimal_context_as_it_was(plant: Callable[..., EntryPointInfo]) -> None:
    """A precision that a module sets when it is imported, offered or created is not the core's."""
    loaded = PluginLoader().load(plant("coarse", MODULE, kind="extension"))
    assert isinstance(loaded, LoadedPlugin)
    context = contracts.Context(clock=SystemClock(), log=log.logger("test"), data_dir=Path("nowhere"))
    assert type(build_plugin(loaded, loaded.plugin.config(), context)).__name__ == "Made"
    assert getcontext().prec == 28


def test_what_waits_leaves_the_decimal_context_as_it_was() -> None:
    """Requests of a broker, its events and what a plugin fetches; also between two events."""

    async def main() -> list[int]:
        broker = open_port(ENTRY, Coarse(), _guard())
        await broker.cancel("c1")
        await GuardedVix(entry=ENTRY, inner=Coarse(), guard=_guard()).vix_close(NOW.date())
        found = [getcontext().prec async for _ in broker.events()]
        return [*found, getcontext().prec]

    assert asyncio.run(main()) == [28, 28, 28]
