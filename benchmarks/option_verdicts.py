"""Verdicts of the filter black_scholes on recorded quotes of options, as tables in Markdown.

Reads data/options of the folder that TBOT_SHARED names, by default `shared` beside the repository; of recordings of a
whole day each half hour. The volatility is the median implied of neighbouring strikes (BSM_VOLATILITY=chain): daily
closes that fit the recordings are not there. All contracts are American, without dividends. The rate is that of the
table, and for 2015 the recorded federal funds rate.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import tbot_filter_black_scholes
from tbot_filter_black_scholes import BlackScholes, Config
from tbot_filter_black_scholes.rates import parse

from tbot_core.contracts import OptionContract, OptionQuote, OptionRequest, OptionRight, OptionVerdict
from tbot_core.model.calendar import ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tbot_core.contracts import OptionValuation

SHARED: Final = Path(os.environ.get("TBOT_SHARED", Path(__file__).parents[2] / "shared"))
CALENDAR: Final = ExchangeCalendar()
FIRST_RATE: Final = date(2022, 3, 17)
HALF_HOUR: Final = 30
LIMITS: Final = (0.05, 0.15, 0.30)
BANDS: Final = ((0.05, "within 5 %"), (0.15, "5 to 15 %"), (9e9, "beyond 15 %"))
REASONS: Final = {
    "the quote has no": "one side only",
    "is not a price": "bid of 0",
    "expire": "last day",
    "no time value": "no time value",
    "means nothing": "worthless",
    "neighbouring": "no neighbours",
}
Judged = tuple[str, float, "OptionValuation"]
"""The set, the distance of strike and spot as a fraction of the spot, and the valuation."""


def main() -> int:
    """Print the tables, or that there are no recordings."""
    folder = SHARED / "data" / "options"
    if not folder.is_dir():
        print(f"No recorded options in {folder}: set TBOT_SHARED.")
        return 0
    started = time.perf_counter()
    whole = pl.read_parquet(folder / "lean_quotes_1min.parquet")
    half_hours = whole.filter(pl.col("ts").dt.minute() % HALF_HOUR == 0)
    judged = [*verdicts(half_hours, ends=timedelta(minutes=1))]
    judged += verdicts(pl.read_parquet(folder / "chain_snapshots_2025.parquet"), ends=timedelta())
    print(f"{len(judged):,} quotes in {time.perf_counter() - started:.0f} s.\n")
    table("recorded chain", by(judged, lambda one: one[0]))
    names = [name for _, name in BANDS]
    table("strike from spot", by(judged, lambda one: next(name for limit, name in BANDS if one[1] <= limit), names))
    return 0


def verdicts(quotes: pl.DataFrame, *, ends: timedelta) -> Iterator[Judged]:
    """Each quote of each chain of one underlying, moment, expiry and right; a quote is that at the end of its row."""
    for _, chain in quotes.group_by("underlying", "ts", "expiry", "right", maintain_order=True):
        rows = chain.to_dicts()
        first, at = rows[0], rows[0]["ts"] + ends
        pairs = tuple((contract_of(row), OptionQuote(bid=row["bid"], ask=row["ask"])) for row in rows)
        sides = first["underlying_bid"], first["underlying_ask"]
        spot = first["underlying_price"] if None in sides else sum(sides) / 2
        day = first["ts"].date()
        name = f"{first['underlying']} {day}, to {first['expiry']}"
        for contract, quote in pairs:
            request = OptionRequest(
                contract=contract,
                at=at,
                quote=quote,
                spot=spot,
                spot_source="recorded",
                chain=pairs,
                rate=recorded_rate(day),
            )
            yield name, abs(contract.strike / spot - 1), MODEL.value_option(request)


def contract_of(row: Mapping[str, Any]) -> OptionContract:
    """The contract of a row; it expires at the close of its last session."""
    session = CALENDAR.session(row["expiry"])
    expires = session.close if session else datetime.combine(row["expiry"], datetime.min.time(), UTC)
    right = OptionRight.CALL if row["right"] == "C" else OptionRight.PUT
    return OptionContract(
        underlying=row["underlying"], expiry=row["expiry"], expires=expires, strike=row["strike"], right=right
    )


def recorded_rate(day: date) -> float | None:
    """The recorded federal funds rate of a day before the shipped table; None on later days."""
    if day >= FIRST_RATE:
        return None
    rate: float = FUNDS.filter(pl.col("date") <= day)["rate_pct"][-1]
    return rate / 100


def by(judged: Iterable[Judged], key: Any, order: Iterable[str] = ()) -> dict[str, list[OptionValuation]]:
    """The valuations of each group; the groups of `order` come first."""
    found: dict[str, list[OptionValuation]] = defaultdict(list)
    for name in order:
        found[name] = []
    for one in judged:
        found[key(one)].append(one[2])
    return found


def table(head: str, groups: Mapping[str, list[OptionValuation]]) -> None:
    """Print one row for each group: quotes, accepted, rejected, the refusals, and what other limits would reject."""
    limits = [f"over {limit:.0%}" for limit in LIMITS]
    columns = [head, "quotes", "accepted", "rejected", *REASONS.values(), *limits]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for name, found in groups.items():
        counts = Counter(one.verdict for one in found)
        why = Counter(reason_of(one) for one in found if one.verdict is OptionVerdict.UNKNOWN)
        deviations = [abs(one.deviation) for one in found if one.deviation is not None]
        over = [sum(value > limit for value in deviations) / len(deviations) for limit in LIMITS if deviations]
        cells = [len(found), counts[OptionVerdict.ACCEPTED], counts[OptionVerdict.REJECTED]]
        cells += [why[reason] for reason in REASONS.values()]
        shares = [f"{share:.1%}" for share in over] or ["-"] * len(LIMITS)
        print("| " + " | ".join([name, *(f"{cell:,}" for cell in cells), *shares]) + " |")
    print()


def reason_of(found: OptionValuation) -> str:
    """The column of a refusal; raises StopIteration for one without a column."""
    return next(column for words, column in REASONS.items() if words in found.reason)


FUNDS: Final = pl.read_parquet(SHARED / "data" / "fed_funds_daily.parquet") if SHARED.is_dir() else pl.DataFrame()
TABLE: Final = Path(tbot_filter_black_scholes.__file__).with_name("rates.csv")
MODEL: Final = BlackScholes(
    config=Config(volatility="chain", rate_source="dynamic"),
    rates=parse(TABLE.read_text(encoding="utf-8"), TABLE.name),
    jurisdiction="US",
)

if __name__ == "__main__":
    sys.exit(main())
