"""The kit for daily series finds what it is for: each deliberately broken extension fails its case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import DailyValue, Host, PluginNeeds
from tbot_core.contracts.series import RATES, VIX, csv_day, csv_number, csv_rows
from tbot_core.errors import BrokerError
from tbot_core.testing.contract import run_cases
from tbot_core.testing.scripted_server import ServerReply
from tbot_core.testing.series import CASES, SeriesContract, drawn_days, series_venue

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from tbot_core.contracts import Context
    from tbot_core.testing.scripted_server import ServerRequest
    from tbot_core.testing.series import SeriesVenue

pytestmark = pytest.mark.usefixtures("loopback")

NEEDS = PluginNeeds(hosts={"data": Host("https://data.example.com")})


def answer(request: ServerRequest, today: dt.date) -> ServerReply:
    """The file of a series."""
    days = drawn_days(request.path.removeprefix("/"), today)
    return ServerReply(body="".join(["day,value\n", *(f"{day},{value:g}\n" for day, value in days.items())]).encode())


class Honest:
    """It publishes what the server has."""

    def __init__(self, context: Context) -> None:
        self._http = context.connect.http("data")

    async def daily_series(self, name: str) -> Sequence[DailyValue]:
        """The values of a series."""
        rows = csv_rows((await self._http.get(f"/{name}")).text, ("day", "value"))
        return [DailyValue(day=csv_day(day, "YYYY-MM-DD"), value=csv_number(value)) for day, value in rows]


class Reversed(Honest):
    """The latest day comes first."""

    async def daily_series(self, name: str) -> Sequence[DailyValue]:
        """The values of a series."""
        return [*await super().daily_series(name)][::-1]


class Hiding(Honest):
    """It hides every fault behind what it had."""

    before: Sequence[DailyValue] = ()

    async def daily_series(self, name: str) -> Sequence[DailyValue]:
        """The values of a series."""
        try:
            Hiding.before = await super().daily_series(name)
        except BrokerError:
            return self.before
        return self.before


def opened(kind: type[Any], names: Sequence[str] = (VIX, RATES)) -> Any:
    """The venue of an extension."""
    return series_venue(answer, kind, NEEDS, names=names)


class TestContract(SeriesContract):
    """The honest one keeps it."""

    @pytest.fixture
    def venue(self) -> Iterator[SeriesVenue]:
        """Its server."""
        with opened(Honest) as found:
            yield found


@pytest.mark.parametrize(
    ("kind", "names", "failed"),
    [(Reversed, (VIX,), ["s01"]), (Hiding, (RATES,), ["s02", "s03"]), (Honest, (), ["s01", "s02", "s03"])],
)
def test_a_broken_extension_fails_its_case(kind: type[Any], names: Sequence[str], failed: list[str]) -> None:
    """Days in another order, hidden faults, and no series at all."""
    results = run_cases(CASES, lambda: opened(kind, names))
    assert [one.number for one in results if one.outcome == "failed"] == failed
