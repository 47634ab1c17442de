"""Extension `cboe`: the closes of the VIX, from the exchange's own file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import DailyValue, Host, Plugin, PluginNeeds
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.series import VIX, csv_day, csv_number, csv_rows
from tbot_core.contracts.setting import NoSettings

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["FILE", "NEEDS", "CboeSeries", "create", "parse_closes"]

FILE: Final = "/VIX_History.csv"
HEADER: Final = ("DATE", "OPEN", "HIGH", "LOW", "CLOSE")
NEEDS: Final = PluginNeeds(hosts={"data": Host("https://cdn.cboe.com/api/global/us_indices/daily_prices")})


@hookimpl
def tbot_extension() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="cboe",
        summary="Closes of the VIX, from the exchange",
        config=NoSettings,
        create=create,
        needs=NEEDS,
        series=(VIX,),
        venue=_venue,
    )


def create(_config: NoSettings, context: Context) -> CboeSeries:
    """Make the source; nothing is connected before the first request."""
    return CboeSeries(context)


class CboeSeries:
    """The exchange's file of the VIX as a series."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def daily_series(self, _name: str) -> list[DailyValue]:
        """The closes since 1990; raises Unavailable for an answer that is not the file."""
        answer = await self._context.connect.http("data").get(FILE)
        return parse_closes(answer.text)


def parse_closes(text: str) -> list[DailyValue]:
    """The closes in the exchange's file, whose dates are MM/DD/YYYY; raises Unavailable for any other text."""
    return [
        DailyValue(day=csv_day(day, "MM/DD/YYYY"), value=csv_number(close))
        for day, _open, _high, _low, close in csv_rows(text, HEADER)
    ]


def _venue(*place: Any) -> Any:
    from tbot_extension_cboe.venue import open_venue

    return open_venue(*place)
