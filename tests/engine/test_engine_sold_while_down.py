"""A position that a person sold while the bot was down: after the start no exit sells it once more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.journal import records
from tbot_core.rehearsal.lifecycle import LifecycleBroker, simulated_instance

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import AccountSnapshot, BrokerCapabilities
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.rehearsal.world import World


class Dead(Exception):
    """The process is no more."""


class Sold(LifecycleBroker):
    """A broker at which a person has sold everything once it is `gone`; a reading takes as long as it says."""

    def __init__(self, world: World, *, brackets: bool, takes_s: float) -> None:
        super().__init__(world)
        self._clock = world.clock
        self._brackets, self._takes_s = brackets, takes_s
        self.gone = False

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Those of the venue, or without brackets."""
        found: BrokerCapabilities = self._client.capabilities
        return found if self._brackets else attrs.evolve(found, brackets=False)

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """A reading."""
        await self._clock.sleep(self._takes_s)
        found: AccountSnapshot = await self._client.snapshot(since)
        return attrs.evolve(found, holdings=()) if self.gone else found


@pytest.mark.first(1)
@pytest.mark.parametrize("brackets", [True, False], ids=["its stop works", "its stop never left"])
@pytest.mark.parametrize("takes_s", [0.0, 0.8, 3.0])
def test_what_was_sold_while_the_bot_was_down_is_not_sold_again(
    tmp_path: Path, takes_s: float, *, brackets: bool
) -> None:
    """Nothing lists the sale: readings contradict the books, which are believed for minutes, and nothing is closed."""
    with simulated_instance(tmp_path) as scene:
        scene.broker = broker = Sold(scene.world, brackets=brackets, takes_s=takes_s)
        clock = scene.world.clock

        def dies(run: TradingSession, _minute: int) -> None:
            if run.books.positions:
                raise Dead

        async def lives() -> int:
            scene.watch = dies
            with pytest.raises(Dead):
                await scene.life(once=False).run()
            scene.watch = lambda _run, _minute: None
            broker.gone = True
            await clock.sleep(35)
            last, _ = scene.journal.head
            control.write_request(scene.folder, ControlVerb.STOP_FLATTEN, actor="me", now=clock.now())
            alive = asyncio.ensure_future(scene.life(once=False).run())
            await clock.sleep(120)
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            return last

        last = scene.world.run(lives)
        sent = [one for one in scene.events(records.INTENDED) if one.seq > last and one.payload["leg"] == "exit"]
        assert sent == []
        assert [one.payload["theirs"] for one in scene.events(records.DISPUTED)] == ["0"]
        assert scene.events(records.ADJUSTMENT) == []
