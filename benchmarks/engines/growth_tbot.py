"""Measures how tbot's cost grows: the engine over so many symbols and sessions, a month in memory at a time.

    python growth_tbot.py FOLDER --symbols 800 --sessions 63

Prints one line of JSON: bars, trades, CPU seconds of the engine without the making of the bars, and the process's
largest memory.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from bench_market import make_work
from bench_work import peak_mib
from engine_tbot import CLOCK, months, rules_settings, trade_blocks

from tbot_core.engine.bootstrap import assemble


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--sessions", type=int, required=True)
    given = parser.parse_args()
    work = make_work(given.symbols, given.sessions)
    changes = rules_settings(work.rules) | {
        "MAX_TRADES": "1000",
        "UNIVERSE_MAX": "5000",
    }  # wide for any number of symbols
    assembly = assemble(given.folder / "home", "backtest", CLOCK, changes)
    spent, trades = 0.0, 0
    for month in months(work):
        begun = time.process_time()
        _, found = trade_blocks(assembly, [month.block()])
        spent += time.process_time() - begun
        trades += sum(len(one.trades) for one in found)
    print(json.dumps({"bars": work.bars, "trades": trades, "cpu_s": spent, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
