"""How often a broker that does not answer is asked again, and how long is waited in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import attrs

from tbot_core.seams import chance

FIRST_S: Final = 0.5
CYCLE_S: Final = 10.0
"""The waits of one request add up to less: an answer that comes later is too late for its minute."""


async def _at_once(_seconds: float) -> None:
    """Wait not at all."""


@attrs.frozen(kw_only=True, eq=False)
class Patience:
    """API_RETRY_LIMIT as `retries`; `pause` waits so many seconds, `dice` (0 to 1) spreads the waits of many bots."""

    retries: int = 0
    pause: Callable[[float], Awaitable[None]] = _at_once
    dice: Callable[[], float] = attrs.field(factory=lambda: chance.generator(0).random)

    def waits(self) -> Iterator[float]:
        """The seconds before each further attempt: about twice as long each time, from half a second on."""
        longest, left = FIRST_S, CYCLE_S
        for _ in range(self.retries):
            wait = longest * (0.5 + self.dice() / 2)
            longest, left = 2 * longest, left - wait
            if left < 0:
                return
            yield wait
