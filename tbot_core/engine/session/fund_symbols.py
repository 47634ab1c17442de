"""Which symbols are funds, as a broker reports it: limits of market capitalisation do not apply to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tbot_core.contracts import InstrumentKind
from tbot_core.contracts.abilities import INSTRUMENTS
from tbot_core.errors import BrokerError
from tbot_core.execution.instrument_requests import PORTION
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import SupportsInstruments
    from tbot_core.model.bars import Array

_log = log.logger(__name__)


async def funds(brokers: Iterable[object], symbols: Sequence[str]) -> Array | None:
    """1 for a fund, 0 for a stock, NaN for a symbol of unknown kind; None if no broker reports instruments."""
    for broker in filter(None, map(INSTRUMENTS.of, brokers)):
        try:
            kinds = await _kinds(broker, symbols)
        except BrokerError as fault:
            _log.warning("instruments.not_read", symbols=len(symbols), reason=fault.message)
            continue
        return np.array([_value(kinds.get(symbol)) for symbol in symbols])
    return None


async def _kinds(broker: SupportsInstruments, symbols: Sequence[str]) -> dict[str, InstrumentKind | None]:
    kinds: dict[str, InstrumentKind | None] = {}
    for first in range(0, len(symbols), PORTION):
        kinds |= {one.symbol: one.kind for one in await broker.instruments(symbols[first : first + PORTION])}
    return kinds


def _value(kind: InstrumentKind | None) -> float:
    return np.nan if kind is None else float(kind is InstrumentKind.FUND)
