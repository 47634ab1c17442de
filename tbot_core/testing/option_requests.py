"""What an options model is tested with: a sound request, and requests that no market quotes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import attrs

from tbot_core.contracts import OptionContract, OptionQuote, OptionRequest, OptionRight


def option_request() -> OptionRequest:
    """What is known about a put at the money with 30 days to its expiry, quoted near 2.7, its volatility being 25 %."""
    at = datetime(2024, 5, 22, 15, 0, tzinfo=UTC)
    expires = datetime(2024, 6, 21, 20, 0, tzinfo=UTC)
    contract = OptionContract(
        underlying="SPY", expiry=expires.date(), expires=expires, strike=100.0, right=OptionRight.PUT
    )
    return OptionRequest(
        contract=contract,
        at=at,
        quote=OptionQuote(bid=2.65, ask=2.75, age_s=1.0),
        spot=100.0,
        spot_source="test",
        volatility=0.25,
    )


def unsound_requests(sound: OptionRequest) -> dict[str, OptionRequest]:
    """The request with one thing wrong each: what a chain may hold that cannot be traded."""
    quotes = {
        "no quote": None,
        "an empty quote": OptionQuote(),
        "a quote without a bid": OptionQuote(ask=2.75),
        "a quote without an ask": OptionQuote(bid=2.65),
        "a bid of 0": OptionQuote(bid=0.0, ask=2.75),
        "a negative bid": OptionQuote(bid=-1.0, ask=2.75),
        "a bid that is not a number": OptionQuote(bid=math.nan, ask=2.75),
        "an infinite ask": OptionQuote(bid=2.65, ask=math.inf),
        "a crossed quote": OptionQuote(bid=2.75, ask=2.65),
        "a stale quote": OptionQuote(bid=2.65, ask=2.75, age_s=3600.0),
    }
    found = {name: attrs.evolve(sound, quote=quote) for name, quote in quotes.items()}
    expires = sound.contract.expires
    return found | {
        "an expired contract": attrs.evolve(sound, at=expires),
        "a contract on its last day": attrs.evolve(sound, at=expires - timedelta(minutes=30)),
        "an unknown spot": attrs.evolve(sound, spot=None),
        "a spot of 0": attrs.evolve(sound, spot=0.0),
        "a spot that is not a number": attrs.evolve(sound, spot=math.nan),
        "an unknown volatility": attrs.evolve(sound, volatility=None),
    }
