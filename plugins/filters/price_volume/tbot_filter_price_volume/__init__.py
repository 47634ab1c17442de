"""Filter `price_volume`: price, volume, gap, market capitalisation, spread and relative volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.marketdata import funds
from tbot_filter_price_volume.filter import Config, PriceVolume

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["Config", "PriceVolume"]


@hookimpl
def tbot_filter() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="price_volume",
        summary="Price, volume, gap, market capitalisation, spread and relative volume",
        config=Config,
        create=_create,
        tables=(funds.FUNDS,),
    )


def _create(config: Config, context: Context) -> PriceVolume:
    return PriceVolume(config=config, funds=funds.read_funds(context.tables_dir))
