"""The exchange's file: the contract of series, and what is read of each line."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from tbot_extension_cboe import parse_closes, tbot_extension
from tbot_extension_cboe.venue import file_of, open_venue

from tbot_core.contracts import DailyValue
from tbot_core.contracts.series import VIX
from tbot_core.errors import Rejected, Unavailable
from tbot_core.testing.series import SeriesContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.testing.series import SeriesVenue


@pytest.fixture
def venue(loopback: None) -> Iterator[SeriesVenue]:  # noqa: ARG001  -- wanted for its effect
    """The exchange's server on this machine."""
    with open_venue() as found:
        yield found


class TestContract(SeriesContract):
    """The extension keeps it."""


def test_the_close_is_read() -> None:
    """The last column, of a date with the month first."""
    text = "DATE,OPEN,HIGH,LOW,CLOSE\n11/30/2026,15.990000,16.500000,15.800000,16.120000\n12/01/2026,16,16,16,16.2\n"
    assert parse_closes(text) == [
        DailyValue(day=dt.date(2026, 11, 30), value=16.12),
        DailyValue(day=dt.date(2026, 12, 1), value=16.2),
    ]


@pytest.mark.parametrize("row", ["30/11/2026,1,1,1,1", "2026-11-30,1,1,1,1", "11/30/2026,1,1,1,", "11/30/2026,1,1,1"])
def test_another_form_is_refused(row: str) -> None:
    """Dates in another order, a row without a close, and one that is cut."""
    with pytest.raises(Unavailable):
        parse_closes(f"DATE,OPEN,HIGH,LOW,CLOSE\n{row}\n")


def test_the_offer_and_the_server_of_another_path(venue: SeriesVenue) -> None:
    """It declares its series; the server refuses what is not the file."""
    assert tbot_extension().series == venue.names == (VIX,)
    with pytest.raises(Rejected, match="403"):
        venue.wait(venue.context.connect.http("data").get("/other.csv"))
    assert file_of({dt.date(2026, 12, 1): 16.2}).splitlines()[1] == "12/01/2026,16.200000,16.200000,16.200000,16.200000"
