"""Filter `finnhub`: P/E, debt to equity and earnings dates, fetched from Finnhub before the bell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field, shown_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import Permits, boolean, number, optional, setting, text
from tbot_core.marketdata import funds

if TYPE_CHECKING:
    from tbot_core.contracts import Context
    from tbot_filter_finnhub.filter import FinnhubFilter

__all__ = ["ADDRESS", "NEEDS", "Config", "FinnhubCredentials", "create"]

ADDRESS: Final = "https://finnhub.io/api/v1"
_URL: Final = text(
    pattern=rf"{re.escape(ADDRESS)}/?", allowed=f"{ADDRESS} (HOST_FINNHUB_API leads to a server on this machine)"
)


@attrs.frozen(kw_only=True)
class FinnhubCredentials:
    """The plugin's section of the category `screener_api`."""

    api_key: SecretValue = hidden_field(doc="Key of the account.", aliases=("token", "key"))
    base_url: str | None = shown_field(
        optional(_URL),
        default="",
        doc="Finnhub's own address, version included.",
        aliases=("api_base_url", "url"),
    )


@attrs.frozen(kw_only=True)
class Config:
    """The filter's limits; both are inclusive."""

    enabled: bool = setting(
        "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER",
        boolean(),
        default="false",
        doc="Whether fundamentals are judged.",
        aliases=("ENABLE_FINNHUB_FUNDAMENTALS_FILTER",),
        permits=Permits("unless", ("true",), why="Fundamentals are no longer judged."),
    )
    max_pe_ratio: float = setting(
        "MAX_PE_RATIO",
        number(least=0),
        default="50",
        doc="Largest ratio of price to earnings.",
        permits=Permits("larger"),
    )
    max_debt_equity: float = setting(
        "MAX_DEBT_EQUITY",
        number(least=0),
        default="2.5",
        doc="Largest ratio of debt to equity.",
        permits=Permits("larger"),
    )
    earnings_blackout: bool = setting(
        "EARNINGS_BLACKOUT",
        boolean(),
        default="false",
        doc="Whether a symbol is not entered on the day of an earnings report and the day before.",
        permits=Permits("unless", ("true",), why="Entries are possible around earnings reports."),
    )


NEEDS: Final = PluginNeeds(
    secrets={"screener_api": FinnhubCredentials}, hosts={"api": Host(ADDRESS, requests_per_minute=60)}
)


@hookimpl
def tbot_filter() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="finnhub",
        summary="P/E, debt to equity and earnings dates, by Finnhub",
        config=Config,
        create=create,
        needs=NEEDS,
        venue=_venue,
        tables=(funds.FUNDS,),
    )


def create(config: Config, context: Context) -> FinnhubFilter:
    """Make the filter; nothing is connected before the first refresh, so a simulation needs no key."""
    from tbot_filter_finnhub.client import CompanyReader
    from tbot_filter_finnhub.filter import FinnhubFilter

    reader = CompanyReader(context, earnings=config.earnings_blackout)
    return FinnhubFilter(config=config, funds=funds.read_funds(context.tables_dir), reader=reader)


def _venue(*place: Any) -> Any:
    from tbot_filter_finnhub.venue import open_venue

    return open_venue(*place)
