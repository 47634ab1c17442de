"""The reference price of an entry that trades something else than its signal's stock."""

from __future__ import annotations

from decimal import Decimal

import attrs
import numpy as np
import pytest

from tbot_core.engine.live.data_guard import with_reference
from tbot_core.model.bars import Quotes
from tbot_core.model.types import Instrument, InstrumentKind, Side
from tbot_core.testing.trades import proposal

FUND = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAA", leverage=Decimal(-1))


@pytest.mark.parametrize(("instrument", "reference"), [(None, 99.9), (FUND, 20.0)], ids=["stock", "fund"])
def test_a_quote_of_the_signals_stock_prices_that_stock_alone(instrument: Instrument | None, reference: float) -> None:
    """A short sale is priced at the bid; the price of a fund in its place stays as it is."""
    quotes = Quotes(bid=np.array([99.9]), ask=np.array([100.1]), age_s=np.array([1.0]))
    short = proposal(side=Side.SHORT)
    if instrument is not None:
        short = attrs.evolve(short, instrument=instrument, reference=20.0)
    assert with_reference(short, quotes).reference == reference
