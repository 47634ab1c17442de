"""Which symbols pass before the bell, for each strategy, and why the others do not: as a session would choose them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import FeedRequest, LiveSession
from tbot_core.engine.assembly import feed_source
from tbot_core.engine.session.broker_login import log_out
from tbot_core.engine.session.universe_selection import limited_universe, not_offered, universe_selector
from tbot_core.errors import DataError
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.types import is_symbol
from tbot_core.trading.proposals import screen
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from tbot_core.contracts import Broker, FeedSession
    from tbot_core.engine.assembly import Assembly


@attrs.frozen(kw_only=True, eq=False)
class ScreenedSymbols:
    """The symbols of a session with their facts, and for each strategy the reason that denies each, None for none.

    `universe` says what a limit would leave out; `source` is the plugin of the bars. `unknown`: the symbols of UNIVERSE
    that it does not offer.
    """

    source: str
    session: Session
    symbols: tuple[str, ...]
    day: DayFacts
    reasons: Mapping[str, tuple[Reason | None, ...]]
    universe: Universe
    unknown: tuple[str, ...] = ()

    def passed(self, strategy: str) -> tuple[str, ...]:
        """The symbols that a strategy may enter."""
        return tuple(name for name, reason in zip(self.symbols, self.reasons[strategy], strict=True) if reason is None)


async def screen_symbols(assembly: Assembly, source: str) -> ScreenedSymbols:
    """Screen the symbols of UNIVERSE, else all of the source, for its next session; logs in and out, sends no order.

    Raises BrokerError if the source does not answer, and DataError for a source without a session.
    """
    broker: Broker = assembly.broker(source)
    quality, settings = assembly.quality(source), assembly.settings
    try:
        if quality is not None:
            await broker.connect()
        request = FeedRequest(
            kind="demo" if quality is None else "live",
            symbols=settings.trading.universe,
            sessions=1,
            seed=settings.simulation.seed,
            bars=settings.instance.bars,
            calendar=assembly.calendar,
        )
        async for session in feed_source(broker, source).feed(request).sessions():
            return await screened_session(assembly, source, broker, session)
        raise DataError(f"{source} has no session.", "Try again later.")
    finally:
        await log_out({source: broker}, settings.trading.api_timeout)


async def screened_session(
    assembly: Assembly, source: str, broker: Broker, session: FeedSession | LiveSession
) -> ScreenedSymbols:
    """Screen the symbols of a session that the source has opened; raises BrokerError if the source does not answer."""
    rules, entrants = assembly.rules(broker.capabilities), assembly.entrants(session.session)
    symbols = tuple(filter(is_symbol, session.symbols))
    if isinstance(session, LiveSession):
        selector = universe_selector(assembly, FeedRequest(kind="live"), broker.capabilities, [broker])
        day = await selector.daily_facts(session, symbols)
        universe = limited_universe(session, symbols, day, rules, entrants)
        universe = attrs.evolve(universe, not_offered=not_offered(session, assembly.settings.trading.universe))
    else:  # a simulator's symbols are all subscribed
        day = session.day
        universe = Universe(symbols=symbols, day=day, not_offered={})
    reasons = {
        one.name: tuple(map(_denial, screen(one, rules, day, symbols, session.session.minutes).reasons.tolist()))
        for one in entrants
    }
    return ScreenedSymbols(
        source=source,
        session=session.session,
        symbols=symbols,
        day=day,
        reasons=reasons,
        universe=universe,
        unknown=tuple(sorted({*assembly.settings.trading.universe} - {*symbols})),
    )


def _denial(code: int) -> Reason | None:
    reason = REASON_BY_CODE[code]
    return None if reason is Reason.ALLOWED else reason
