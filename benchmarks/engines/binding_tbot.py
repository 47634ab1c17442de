"""Measures tbot where settings bind: the engine over bars of a quarter in memory, beside the wide settings.

    python binding_tbot.py FOLDER

Prints a list as JSON: name, trades, denials, the share of sessions that were walked minute by minute, CPU seconds (the
median of three runs). What a setting does to the trades is for tests to judge; here it must not make a backtest slow.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench_work import Work
from engine_tbot import CLOCK, Month, denials, months, trade_blocks

from tbot_core.engine.bootstrap import assemble

SMALL = {"PAPER_CASH": "1000000"}
BINDING = {
    "limits that never bind": {},
    "VOLUME_LIMIT=0.02: partial fills": {"VOLUME_LIMIT": "0.02"},
    "VOLUME_LIMIT=0.5: checked": {"VOLUME_LIMIT": "0.5"},
    "WINDOW_LOSS_LIMIT of 10 USD": SMALL | {"WINDOW_LOSS_LIMIT": "0.00001"},
    "DAILY_LOSS_LIMIT of 10 USD, defense at half": SMALL | {"DAILY_LOSS_LIMIT": "0.00001"},
    "DAILY_LOSS_LIMIT of 5 %, as by default": SMALL | {"DAILY_LOSS_LIMIT": "0.05"},
    "MAX_TRADES=4": {"MAX_TRADES": "4"},
    "MAX_CONSECUTIVE_LOSSES=1": {"MAX_CONSECUTIVE_LOSSES": "1"},
    "rebalancing while positions are open": SMALL
    | {
        "FIXED_QUANTITY": "0",
        "MAX_TRADES": "4",
        "TOTAL_ALLOCATION": "0.2",
        "REBALANCE_ENABLED": "true",
        "REBALANCE_THRESHOLD": "0",
        "REBALANCE_CHECK_INTERVAL": "60",
    },
    "slippage rule_based, fees": {
        "ENABLE_SLIPPAGE_MODEL": "true",
        "SLIPPAGE_SIMULATION_TYPE": "rule_based",
        "FEE_PER_SHARE": "0.005",
        "FEE_SELL_BPS": "0.278",
    },
    "slippage randomized": {"ENABLE_SLIPPAGE_MODEL": "true", "SLIPPAGE_SIMULATION_TYPE": "randomized"},
    "limit entries, trailing stops, targets": {
        "ENTRY_ORDER_TYPE": "limit",
        "TRAILING_STOP": "true",
        "TARGET_R": "1.5",
    },
}
RUNS, SESSIONS = 3, 63


def main() -> None:
    """Measure every set of settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    whole = Work.load(given.folder)
    work = replace(whole, opens_ns=whole.opens_ns[:SESSIONS])
    held = tuple(months(work))
    print(json.dumps([_measured(given.folder, held, name) | {"bars": work.bars} for name in BINDING]))


def _measured(folder: Path, held: tuple[Month, ...], name: str) -> dict[str, Any]:
    assembly, spent = assemble(folder / "home", "backtest", CLOCK, BINDING[name]), []
    run, found = trade_blocks(assembly, (month.block() for month in held))
    for _ in range(RUNS):
        begun = time.process_time()
        run, found = trade_blocks(assembly, (month.block() for month in held))
        spent.append(time.process_time() - begun)
    stepped = sum(bool(one.cause) for one in found) / len(found)
    counted = {"trades": sum(len(one.trades) for one in found), "denied": sum(denials(run, found).values())}
    return {"name": name, **counted, "stepped": stepped, "cpu_s": median(spent)}


if __name__ == "__main__":
    main()
