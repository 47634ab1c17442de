"""FRED's files: the contract of series, and what is read of each line."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from tbot_extension_fred import NEEDS, parse_values, tbot_extension
from tbot_extension_fred.venue import file_of, open_venue

from tbot_core.contracts import DailyValue
from tbot_core.contracts.series import RATES, VIX
from tbot_core.errors import Rejected, Unavailable
from tbot_core.testing.series import SeriesContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.testing.series import SeriesVenue

MONDAY, TUESDAY = dt.date(2026, 11, 30), dt.date(2026, 12, 1)


@pytest.fixture
def venue(loopback: None) -> Iterator[SeriesVenue]:  # noqa: ARG001  -- wanted for its effect
    """FRED's server on this machine."""
    with open_venue() as found:
        yield found


class TestContract(SeriesContract):
    """The extension keeps it."""


@pytest.mark.parametrize("holiday", ["", "."])
def test_a_rate_is_a_fraction_and_a_holiday_has_no_value(holiday: str) -> None:
    """FRED has percent; a dot, or nothing, stands on holidays."""
    text = f"observation_date,DFF\n2026-11-29,{holiday}\n2026-11-30,3.64\n2026-12-01,3.63\n"
    assert parse_values(text, RATES) == [
        DailyValue(day=MONDAY, value=0.0364, code="US"),
        DailyValue(day=TUESDAY, value=0.0363, code="US"),
    ]


def test_the_vix_has_no_code() -> None:
    """It is in points, as FRED has it."""
    assert parse_values(file_of("VIXCLS", {MONDAY: None, TUESDAY: 16.2}), VIX) == [DailyValue(day=TUESDAY, value=16.2)]


@pytest.mark.parametrize(
    "text", ["observation_date,VXNCLS\n2026-12-01,16.2\n", "observation_date,VIXCLS\n12/01/2026,16.2\n"]
)
def test_another_series_or_form_is_refused(text: str) -> None:
    """Its name stands in the header."""
    with pytest.raises(Unavailable):
        parse_values(text, VIX)


def test_each_series_is_one_request(venue: SeriesVenue) -> None:
    """By FRED's name; another one is not found."""
    assert tbot_extension().series == venue.names == (RATES, VIX)
    for name in venue.names:
        venue.wait(venue.source.daily_series(name))
    assert [one.query["id"] for one in venue.server.requests] == ["DFF", "VIXCLS"]
    with pytest.raises(Rejected, match="404"):
        venue.wait(venue.context.connect.http("data").get("/fredgraph.csv", {"id": "GDP"}))
    assert [one.url for one in NEEDS.hosts.values()] == ["https://fred.stlouisfed.org/graph"]
