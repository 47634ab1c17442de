"""Filter `black_scholes`: prices of options by the Black-Scholes-Merton model, and the verdict on their quotes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.model.clock import exchange_time
from tbot_core.system import filesystem
from tbot_filter_black_scholes.filter import BlackScholes, Config
from tbot_filter_black_scholes.rates import RateTable, describe, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Context

__all__ = ["BlackScholes", "Config"]

TABLE = "rates.csv"


@hookimpl
def tbot_filter() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="black_scholes",
        summary="Option prices against the Black-Scholes-Merton model",
        config=Config,
        create=_create,
        tables=(TABLE,),
        describe_table=_describe_table,
        warnings=_warnings,
    )


def _create(config: Config, context: Context) -> BlackScholes:
    return BlackScholes(config=config, rates=_rates(context), jurisdiction=context.jurisdiction)


def _rates(context: Context) -> RateTable:
    # The operator's table alone, else the shipped one with the codes of the downloaded one in place of its own.
    own, downloaded = context.tables_dir / TABLE, context.downloads_dir / TABLE
    if filesystem.exists(own):
        return _read(own)
    shipped = _read(Path(__file__).with_name(TABLE))
    if not filesystem.exists(downloaded):
        return shipped
    return RateTable(rates={**shipped.rates, **_read(downloaded).rates})


def _read(table: Path) -> RateTable:
    return parse(filesystem.read_text(table), str(table))


def _describe_table(name: str, context: Context) -> str:
    table, today = context.tables_dir / name, exchange_time(context.clock.now()).date()
    return describe(_read(table), str(table), today, context.jurisdiction)


def _warnings(config: Config, context: Context) -> Sequence[str]:
    _, words = _create(config, context).rate_at(exchange_time(context.clock.now()).date())
    return (words,) if words else ()
