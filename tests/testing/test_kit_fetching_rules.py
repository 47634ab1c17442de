"""The cases of filters that fetch, at a vendor without connections: which fault each of them finds."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.errors import LoginNeeded, Unavailable
from tbot_core.testing.fetching import CASES
from tbot_core.testing.scripted_server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence


@attrs.define(eq=False)
class Vendor:
    """Venue, server and filter in one: it rates AAA and BBB; the fields are its faults."""

    rates_all: bool = False
    forgets: bool = False
    hides: bool = False
    asks: int = 1
    fault: ServerFault | None = None
    requests: list[object] = attrs.field(factory=list)
    facts = {"rating": 7}  # noqa: RUF012  -- a fake's constant
    symbols = ("AAA", "BBB")
    day = dt.date(2026, 11, 24)

    @property
    def filter(self) -> Any:
        """Itself."""
        return self

    @property
    def server(self) -> Any:
        """Itself."""
        return self

    def fail(self, fault: ServerFault, times: int | None) -> None:
        """Fail from now on."""
        assert times is None
        self.fault = fault

    def recover(self) -> None:
        """Fail no more."""
        self.fault = None

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return asyncio.run(call)

    async def refresh(self, _day: dt.date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The ratings."""
        self.requests += [symbols] * self.asks
        if self.fault is not None and not self.hides:
            raise (LoginNeeded("no key") if self.fault is ServerFault.LOGIN else Unavailable("down"))
        known = symbols if self.rates_all else [one for one in symbols if one in self.symbols]
        return {one: {} if self.forgets else {"rating": 4.0} for one in known}


@pytest.mark.parametrize(
    ("vendor", "found"),
    [
        (Vendor(), set()),
        (Vendor(forgets=True), {"r01", "r02"}),
        (Vendor(rates_all=True), {"r02"}),
        (Vendor(hides=True), {"r03", "r04"}),
        (Vendor(asks=2), {"r04"}),
    ],
)
def test_each_case_finds_its_fault(vendor: Vendor, found: set[str]) -> None:
    """An honest filter passes all; each fault fails the cases that look for it, and no other."""
    failed = set()
    for case in CASES:
        try:
            case(vendor)
        except AssertionError:
            failed.add(case.__name__[:3])
    assert failed == found
