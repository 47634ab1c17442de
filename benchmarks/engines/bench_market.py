"""The simulated bars of the engine comparison: the same for every machine and every number of symbols or sessions.

Prices are whole cents, no minute is missing, and every session has 390 minutes. Each session is drawn from its own
date, so a longer range or more symbols leave the others as they are.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
from bench_work import FIELDS, MINUTES, Prices, Work

from tbot_core.model.calendar import FULL_SESSION_MINUTES, ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tbot_core.model.calendar import Session

FIRST = dt.date(2021, 1, 4)
SEED = 7
_MINUTE_SCALE = 0.0004
_OPENING_SD = 0.005


def full_sessions(count: int, first: dt.date = FIRST) -> tuple[Session, ...]:
    """So many sessions of whole length from a day on; half days are left out."""
    found: list[Session] = []
    calendar, day = ExchangeCalendar(), first
    while len(found) < count:
        last = day + dt.timedelta(days=366)
        found += [session for session in calendar.sessions(day, last) if session.minutes == FULL_SESSION_MINUTES]
        day = last + dt.timedelta(days=1)
    return tuple(found[:count])


def symbol_names(count: int) -> tuple[str, ...]:
    """So many symbols, in order of the alphabet: AAAA, AAAB, ..."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return tuple("".join(letters[(number // 26**place) % 26] for place in (3, 2, 1, 0)) for number in range(count))


def make_work(symbols: int, sessions: int) -> Work:
    """The work of so many symbols and sessions."""
    opens = tuple(int(session.open.timestamp()) * 1_000_000_000 for session in full_sessions(sessions))
    return Work(symbols=symbol_names(symbols), opens_ns=opens, seed=SEED)


def session_bars(day: dt.date, symbols: int, seed: int = SEED) -> dict[str, Prices]:
    """A session's bars by field, shape (symbols, minutes)."""
    draw = [np.random.default_rng((seed, day.toordinal(), part)) for part in range(5)]
    around = np.random.default_rng((seed, 0)).uniform(20, 200, symbols)
    opening = around * np.exp(_OPENING_SD * draw[0].standard_normal(symbols))
    walk = np.cumsum(_MINUTE_SCALE * np.clip(draw[1].standard_t(3, (symbols, MINUTES)), -8, 8), axis=1)
    close = np.round(opening[:, None] * np.exp(walk), 2)
    opened = np.concatenate((np.round(opening, 2)[:, None], close[:, :-1]), axis=1)
    opened = np.round(opened * (1 + 0.0001 * draw[2].standard_normal((symbols, MINUTES))), 2)
    wick = np.abs(draw[3].standard_normal((symbols, 2 * MINUTES))) * 0.0003
    upper, lower = np.maximum(opened, close), np.minimum(opened, close)
    return {
        "open": opened,
        "high": np.round(upper * (1 + wick[:, :MINUTES]), 2),
        "low": np.round(lower * (1 - wick[:, MINUTES:]), 2),
        "close": close,
        "volume": np.floor(draw[4].lognormal(8, 1, (symbols, MINUTES))) + 1,
    }


def range_bars(days: Sequence[dt.date], symbols: int, seed: int = SEED) -> dict[str, Prices]:
    """The bars of many sessions by field, shape (symbols, sessions, minutes)."""
    fields = {name: np.empty((symbols, len(days), MINUTES)) for name in FIELDS}
    for row, day in enumerate(days):
        for name, values in session_bars(day, symbols, seed).items():
            fields[name][:, row] = values
    return fields


def write_market(folder: Path, work: Work) -> None:
    """Write the work and its bars for the processes of the engines."""
    work.save(folder)
    for name, values in range_bars(days_of(work), len(work.symbols), work.seed).items():
        np.save(folder / f"{name}.npy", values.reshape(len(work.symbols), -1))


def days_of(work: Work) -> list[dt.date]:
    """The exchange dates of a work's sessions."""
    return [dt.datetime.fromtimestamp(at // 1_000_000_000, tz=dt.UTC).date() for at in work.opens_ns]


def write_source_files(folder: Path, work: Work, rows: Iterable[int] | None = None) -> None:
    """Write the bars as Parquet files, one for each symbol, as `tbot data import` reads them."""
    import polars as pl

    fields = range_bars(days_of(work), len(work.symbols), work.seed)
    times = pl.Series(work.times_ns // 1000).cast(pl.Datetime("us", "UTC"))
    for row in range(len(work.symbols)) if rows is None else rows:
        columns = {name: values[row].ravel() for name, values in fields.items()}
        frame = pl.DataFrame({"ts": times, "symbol": [work.symbols[row]] * len(times), **columns})
        frame.with_columns(pl.col("volume").cast(pl.Int64)).write_parquet(folder / f"{work.symbols[row]}.parquet")
