"""Extension `fred`: the effective federal funds rate and the closes of the VIX, from FRED."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import DailyValue, Host, Plugin, PluginNeeds
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.series import RATES, VIX, csv_day, csv_number, csv_rows
from tbot_core.contracts.setting import NoSettings

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["GRAPH", "IDS", "NEEDS", "FredSeries", "create", "parse_values"]

GRAPH: Final = "/fredgraph.csv"
IDS: Final = {RATES: "DFF", VIX: "VIXCLS"}
"""FRED's name of each series: the effective federal funds rate, in percent, and the close of the VIX."""

CODE: Final = "US"
NO_VALUE: Final = frozenset({"", "."})
"""What stands in place of a value on holidays."""

_PERCENT: Final = 100
_DECIMALS: Final = 9
NEEDS: Final = PluginNeeds(hosts={"data": Host("https://fred.stlouisfed.org/graph")})


@hookimpl
def tbot_extension() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="fred",
        summary="Federal funds rate, and closes of the VIX, from FRED",
        config=NoSettings,
        create=create,
        needs=NEEDS,
        series=(RATES, VIX),
        venue=_venue,
    )


def create(_config: NoSettings, context: Context) -> FredSeries:
    """Make the source; nothing is connected before the first request."""
    return FredSeries(context)


class FredSeries:
    """FRED's files of single series."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def daily_series(self, name: str) -> list[DailyValue]:
        """The values of a series; raises Unavailable for an answer that is not its file."""
        answer = await self._context.connect.http("data").get(GRAPH, {"id": IDS[name]})
        return parse_values(answer.text, name)


def parse_values(text: str, name: str) -> list[DailyValue]:
    """The values in FRED's file of a series; a rate as a fraction. Raises Unavailable for any other text."""
    rows = csv_rows(text, ("observation_date", IDS[name]))
    days = [(csv_day(day, "YYYY-MM-DD"), csv_number(value)) for day, value in rows if value not in NO_VALUE]
    if name == RATES:
        return [DailyValue(day=day, value=round(value / _PERCENT, _DECIMALS), code=CODE) for day, value in days]
    return [DailyValue(day=day, value=value) for day, value in days]


def _venue(*place: Any) -> Any:
    from tbot_extension_fred.venue import open_venue

    return open_venue(*place)
