"""Writes tests/model/indicators.json: indicators of made-up daily bars, computed by TA-Lib.

The library is no dependency, so that what tbot computes is compared with what others wrote. To write the table anew:

    python -m venv /tmp/talib && /tmp/talib/bin/pip install ta-lib==0.8.2
    /tmp/talib/bin/python tools/indicator_table.py
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import random
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "tests" / "model" / "indicators.json"
DAYS: Final = 60
LENGTHS: Final = (2, 5, 14, 20)


def bars(seed: int) -> dict[str, list[float]]:
    """Daily bars of one seed."""
    chance = random.Random(seed)  # noqa: S311  made-up prices, the same on every machine
    price, found = chance.uniform(5, 400), dict[str, list[float]](high=[], low=[], close=[])
    for _ in range(DAYS):
        before, price = price, price * (1 + chance.gauss(0, 0.02))
        found["high"].append(round(max(before, price) * (1 + abs(chance.gauss(0, 0.01))), 4))
        found["low"].append(round(min(before, price) * (1 - abs(chance.gauss(0, 0.01))), 4))
        found["close"].append(round(price, 4))
    return found


def rounded(value: float) -> float | None:
    """A value of the table, None for an unknown one."""
    return None if math.isnan(value) else float(f"{value:.11g}")


def main() -> None:
    """Compute and write the table."""
    talib: Any = importlib.import_module("talib")
    numpy: Any = importlib.import_module("numpy")
    rows = []
    for seed in range(2):
        made = bars(seed)
        high, low, close = (numpy.array(made[name]) for name in ("high", "low", "close"))
        for length in LENGTHS:
            found = {
                "mean": talib.SMA(close, length),
                "exponential_mean": talib.EMA(close, length),
                "rsi": talib.RSI(close, length),
                "average_true_range": talib.ATR(high, low, close, length),
                "highest": talib.MAX(high, length),
                "lowest": talib.MIN(low, length),
            }
            known = {name: [rounded(one) for one in values.tolist()] for name, values in found.items()}
            rows.append({"length": length, "bars": made, **known})
    version = importlib.metadata.version("ta-lib")
    FILE.write_text(json.dumps({"ta-lib": version, "rows": rows}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
