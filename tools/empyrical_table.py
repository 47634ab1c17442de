"""Writes tests/reports/empyrical.json: ratios of made-up daily returns, computed by empyrical-reloaded.

The library and what it needs take some 300 MB, so it is no dependency of the tests. To write the table anew:

    python -m venv /tmp/empyrical && /tmp/empyrical/bin/pip install empyrical-reloaded==0.7.1
    /tmp/empyrical/bin/python tools/empyrical_table.py
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import random
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "tests" / "reports" / "empyrical.json"
LENGTHS: Final = (2, 3, 5, 21, 63, 252, 504)


def series(seed: int, length: int) -> list[float]:
    """Daily returns of one seed: a drift, a spread, some days without a trade, and a few large losses."""
    chance = random.Random(seed)  # noqa: S311  made-up returns, the same on every machine
    drift, spread = chance.uniform(-0.002, 0.003), chance.choice([0.0005, 0.01, 0.04])
    days = [chance.gauss(drift, spread) for _ in range(length)]
    return [0.0 if chance.random() < 0.1 else max(day, -0.5) for day in days]


def main() -> None:
    """Compute and write the table."""
    empyrical: Any = importlib.import_module("empyrical")
    numpy: Any = importlib.import_module("numpy")
    rows = []
    for seed in range(4):
        for length in LENGTHS:
            returns = series(seed * 100 + length, length)
            values = numpy.array(returns)
            found = {
                "sharpe": float(empyrical.sharpe_ratio(values)),
                "sortino": float(empyrical.sortino_ratio(values)),
                "volatility": float(empyrical.annual_volatility(values)),
                "drawdown": float(empyrical.max_drawdown(values)),
            }
            whole = {name: value if numpy.isfinite(value) else None for name, value in found.items()}
            rows.append({"returns": returns, **whole})
    version = importlib.metadata.version("empyrical-reloaded")
    FILE.write_text(
        json.dumps({"empyrical-reloaded": version, "rows": rows}, indent=None, separators=(",", ":")) + "\n"
    )


if __name__ == "__main__":
    main()
