"""Prepares the folder of a comparison: the work, its bars, an instance of tbot, and the referee's trades.

    python bench_prepare.py FOLDER --symbols 50 --sessions 252

`market/` has the bars as Parquet files for `tbot data import`, `site/` the strategy's plugin as an installed
distribution: on PYTHONPATH it is found like a stranger's.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from bench_loop import loop_trades
from bench_market import make_work, write_market, write_source_files
from bench_work import JUDGED, SETS, TRADES, chosen_sets, digest, rows_of, total, write_rows
from engine_tbot import write_settings

PLUGIN = "tbot_strategy_bench"


def main() -> None:
    """Prepare what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=252)
    parser.add_argument("--stored-only", action="store_true", help="nothing for other engines")
    given = parser.parse_args()
    prepare(given.folder, given.symbols, given.sessions, stored_only=given.stored_only)


def prepare(folder: Path, symbols: int, sessions: int, *, stored_only: bool = False) -> None:
    """Fill the folder."""
    work = make_work(symbols, sessions)
    write_settings(folder / "home", work.rules, MAX_TRADES=f"{min(max(symbols, 50), 1000)}")
    _install_plugin(folder / "site")
    (folder / "market").mkdir()
    write_source_files(folder / "market", work)
    if stored_only:
        work.save(folder)
        return
    write_market(folder, work)
    loop, fields = folder / "loop", work.fields(folder)
    loop.mkdir()
    write_rows(loop / TRADES, rows_of(loop_trades(work, fields)))
    lists = {number: loop_trades(work, fields, rules) for number, rules in chosen_sets(JUDGED).items()}
    judged = {
        "digests": {number: digest(rows_of(trades)) for number, trades in lists.items()},
        "totals": {number: total(len(trades), sum(one.pnl for one in trades)) for number, trades in lists.items()},
    }
    (loop / SETS).write_text(json.dumps(judged), encoding="utf-8")


def _install_plugin(site: Path) -> None:
    shutil.copytree(Path(__file__).parent / "plugin" / PLUGIN, site / PLUGIN)
    described = site / f"{PLUGIN}-1.0.0.dist-info"
    described.mkdir()
    needs = "Name: tbot-strategy-bench\nVersion: 1.0.0\nRequires-Dist: tbot-core>=1,<2\n"
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\n{needs}", encoding="utf-8")
    (described / "entry_points.txt").write_text(f"[tbot.strategies]\nbench = {PLUGIN}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
