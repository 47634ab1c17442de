"""Filter `price_volume`: price, volume, gap, market capitalisation, spread and relative volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.system import filesystem
from tbot_filter_price_volume.filter import Config, PriceVolume
from tbot_filter_price_volume.funds import parse

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["Config", "PriceVolume"]

TABLE = "funds.csv"


@hookimpl
def tbot_filter() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="price_volume",
        summary="Price, volume, gap, market capitalisation, spread and relative volume",
        config=Config,
        create=_create,
        tables=(TABLE,),
    )


def _create(config: Config, context: Context) -> PriceVolume:
    own = context.data_dir / TABLE
    table = own if filesystem.exists(own) else Path(__file__).with_name(TABLE)
    return PriceVolume(config=config, funds=parse(filesystem.read_text(table), str(table)))
