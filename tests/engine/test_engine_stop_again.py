"""A stop that meets a restart in mid-session: what is held is managed to its end, or kept as it was asked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.engine.session.requests import CARRIED_OUT
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession
    from tbot_core.rehearsal.prices import PricePath as Prices


class Died(Exception):
    """The process is no more."""


@attrs.define(eq=False)
class Two:
    """Two lives: the first is asked for `before` in a minute in which something is held, and dies in the next one.

    Meanwhile nobody trades, so that no exit is filled.
    """

    scene: SimulatedInstance
    before: ControlVerb | None = None
    asked_at: int | None = None
    died: bool = False
    depths: list[list[int]] = attrs.field(factory=list)

    def watch(self, run: TradingSession, minute: int) -> None:
        """Ask, and die."""
        if self.died or not run.books.positions:
            return
        if self.asked_at is None:
            self.asked_at = minute
            if self.before is not None:
                self.depths = [path.depth[:] for path in self._paths]
                for path in self._paths:
                    path.depth[:] = [0] * len(path.depth)
                self.ask(self.before)
        elif minute > self.asked_at:
            self.died = True
            for path, depth in zip(self._paths, self.depths, strict=False):
                path.depth[:] = depth
            raise Died

    @property
    def _paths(self) -> list[Prices]:
        return list(self.scene.world.market.paths.values())

    def ask(self, verb: ControlVerb) -> None:
        """Somebody asks."""
        control.write_request(self.scene.folder, verb, actor="ann", now=self.scene.world.clock.now())

    def live(self, between: Callable[[], object] = lambda: None) -> list[str]:
        """Run twice, with something done while no process runs; what is held at the end."""
        self.scene.watch = self.watch

        async def lives() -> None:
            with pytest.raises(Died):
                await self.scene.life().run()
            between()
            await self.scene.world.clock.sleep(5.0)
            assert await self.scene.life().run()

        self.scene.world.run(lives)
        return fold_events(self.scene.journal.events()).portfolio.symbols


@pytest.mark.first(1)
@pytest.mark.parametrize("verb", [ControlVerb.STOP, ControlVerb.STOP_FLATTEN])
@pytest.mark.parametrize("dead", [False, True])
def test_a_stop_is_over_when_nothing_is_held(tmp_path: Path, verb: ControlVerb, dead: bool) -> None:
    """Whether it was asked for before the death or after it, the next start logs in, closes and only then ends."""
    with simulated_instance(tmp_path) as scene:
        two = Two(scene, None if dead else verb)
        assert two.live(partial(two.ask, verb) if dead else lambda: None) == []
        told = [one.payload["words"] for one in scene.events(records.STATE) if one.payload["cause"] == "STOP_COMMAND"]
        assert told[-1] == CARRIED_OUT


def test_the_file_stop_ends_a_session_that_is_under_way_in_order(tmp_path: Path) -> None:
    """A start that finds it manages what is held to its end."""
    with simulated_instance(tmp_path) as scene:
        control.prepare_folder(scene.folder)
        assert Two(scene).live((scene.folder / "stop").touch) == []


def test_a_stop_that_keeps_positions_ends_at_the_start(tmp_path: Path) -> None:
    """Requested while no process ran, it needs no session: what is held is kept."""
    with simulated_instance(tmp_path) as scene:
        two = Two(scene)
        assert two.live(partial(two.ask, ControlVerb.STOP_KEEP)) != []


@pytest.mark.first(1)
@pytest.mark.parametrize(("flattens", "held"), [(True, False), (False, True)])
def test_a_signal_at_the_start_follows_the_policy(tmp_path: Path, flattens: bool, held: bool) -> None:
    """With STOP_POLICY=flatten a session that is under way is closed first, with keep it is left as it is."""
    with simulated_instance(tmp_path) as scene:
        scene.signals = ProcessSignals(flattens=flattens)
        assert bool(Two(scene).live(scene.signals.stop.set)) is held
