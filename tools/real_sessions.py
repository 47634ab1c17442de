"""Write the table of docs/getting-started.md: what three settings trade on the same real sessions.

.venv/bin/python tools/real_sessions.py FOLDER

FOLDER holds `bars/us300_2018` and `vix_daily.parquet`: 16 large stocks, raw, 29 sessions of early 2018.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tbot_core import cli
from tbot_core.model import json_document
from tbot_core.model.formatting import round_to_cents

PAGE: Final = Path(__file__).parents[1] / "docs" / "getting-started.md"
BEGIN: Final = "<!-- table: what three settings trade -->\n"
END: Final = "<!-- end of table -->"
RANGE: Final = ("--from", "2018-02-16", "--to", "2018-03-29")
SETTINGS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("as `tbot init --paper` writes them", ()),
    ("`MAX_PRICE=2000`", ("MAX_PRICE=2000",)),
    (
        "also `STRAT_OPEN_BUFFER=0.005 STRAT_MID_VWAP_THRESHOLD=0.01`",
        ("MAX_PRICE=2000", "STRAT_OPEN_BUFFER=0.005", "STRAT_MID_VWAP_THRESHOLD=0.01"),
    ),
)
_STRATEGIES: Final = ("open", "mid", "close")
_SHOWN: Final = 3


def main() -> int:
    """Run the backtests and put their table in its place."""
    table = rendered(Path(sys.argv[1]))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


def rendered(data: Path) -> str:
    """The table as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        home = ("--home", str(Path(folder) / "bot"))
        _said("init", "--paper", *home)
        for source in ("bars/us300_2018", "vix_daily.parquet"):
            _said("data", "import", str(data / source), *home)
        rows = [_row(words, _backtest(changed, home)) for words, changed in SETTINGS]
    head = f"| settings | {' | '.join(_STRATEGIES)} | profit, USD | denied most by |"
    return "\n".join([head, f"|---|{'---|' * len(_STRATEGIES)}---|---|", *rows])


def _backtest(changed: tuple[str, ...], home: tuple[str, ...]) -> Any:
    options = [word for setting in changed for word in ("--set", setting)]
    return json_document.parse_json(_said("backtest", *RANGE, "--json", *options, *home))


def _row(words: str, result: Any) -> str:
    trades = Counter(trade["strategy"] for trade in result["trades"])
    denials = sorted(result["denials"].items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN]
    counts = " | ".join(str(trades[name]) for name in _STRATEGIES)
    profit = round_to_cents(Decimal(result["equity_end"]) - Decimal(result["equity_start"]))
    return f"| {words} | {counts} | {profit} | {', '.join(f'{name} {count}' for name, count in denials)} |"


def _said(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as complaints:
        code = cli.invoke(list(words))
    if code:
        raise SystemExit(f"tbot {' '.join(words)} exits with {code}: {complaints.getvalue()}")
    return said.getvalue()


if __name__ == "__main__":
    sys.exit(main())
