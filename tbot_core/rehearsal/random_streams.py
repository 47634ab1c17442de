"""Named random streams: each purpose has its own numbers, so that further draws of one do not change another."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from tbot_core.system import random

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    Item = TypeVar("Item")


class RandomStreams:
    """The random streams of one seed; a name always gives the same numbers."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, RandomStream] = {}

    def stream(self, name: str) -> RandomStream:
        """The stream of that name, at its current position."""
        if name not in self._streams:
            digest = sha256(f"{self.seed}/{name}".encode()).digest()
            self._streams[name] = RandomStream(int.from_bytes(digest[:8]))
        return self._streams[name]


class RandomStream:
    """Random numbers for one purpose."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.generator(seed)

    @cached_property
    def arrays(self) -> np.random.Generator:
        """A generator of arrays, independent of the other draws."""
        return np.random.default_rng(self._seed)

    def happens(self, probability: float) -> bool:
        """True with that probability; draws once, also for 0 and 1."""
        return self._random.random() < probability

    def between(self, low: float, high: float) -> float:
        """A uniform number from the range."""
        return self._random.uniform(low, high)

    def whole(self, low: int, high: int) -> int:
        """An integer from the range, both ends included."""
        return self._random.randint(low, high)

    def one(self, items: Sequence[Item]) -> Item:
        """A random item."""
        return self._random.choice(items)
