"""Write the generated pages of docs/reference: each holds a table rendered from what it describes."""

from __future__ import annotations

from pathlib import Path

import settings_reference
from rehearsal_mutants import catalogue

from tbot_core.instance import secret_schemas
from tbot_core.model import reasons
from tbot_core.rehearsal import faults
from tbot_core.trading import orders
from tbot_core.vault import error_codes

REASONS = """# Reason codes

Every candidate and every signal ends with exactly one of these; `tbot why SYMBOL` shows it and the compared values.
They are counted under `denials` in a run's summary, as symbols x strategies: what two strategies deny counts twice.
READY counts symbols that are left out, `tbot screen` the symbols of each strategy. Denials before the bell count only
for symbols with a bar in that session. `{NAME}` stands for the strategy's name in upper case.

Where several would deny, the first in the order of the stages counts, the same in a backtest, a replay, live and in
`tbot why`: before the bell the window, BLOCKLIST, WATCH_ONLY, the strategy, the filters in their order, UNIVERSE_MAX;
at the signal the filters in their order, then the short rule; what needs no size (switches, risk state and latches,
ALREADY_HELD, SYMBOL_TRADED, MAX_TRADES, MAX_OPEN_POSITIONS, MAX_ORDERS_PER_MINUTE, day trades, WEIGHTS); the size;
then what the size adds to (the price band, the broker's short rules, amounts per trade, order, symbol and index, gross
exposure, buying power) and the plugins' risk checks. What a stage before denied is not asked at the later ones.
"""
ORDERS = """# The life of an order

Which event leads where. A pair that is not listed cannot happen: it is reported, never guessed. A fill that completes
the order makes it filled.

Dropped means that no order of this id is to be expected at the broker: it never left, or the broker answered that it
did not process it, as a 429 with the meaning [RATE_LIMITED](brokers.md#meanings-of-a-rejection). The event quotes why,
and follows the event `sending` where the order was sent. If the broker works or fills it all the same, it is looked up,
counted in exposure and cancelled, and a fill is booked.
"""
CODES = """# Codes of secrets

Every error about a key, an encrypted file or the audit log starts with one of these codes and the category. Numbers are
stable. Neither the message nor the log contains the content of a file.
"""
CREDENTIALS = """# What the categories of secrets hold

One row per field. Names are case-insensitive. The section of an installed plugin is
judged by the plugin's own declaration, also before it is enabled; a section of an unknown plugin may have any fields.
How to enter them: [secrets](../secrets.md).
"""
FAULTS = """# Faults of the simulation

What a simulated world (`tbot_core.rehearsal`) can do to a bot, by the ids of the fault matrix. Each seed
leaves most of them off. A fault that comes with time has one chance a minute to begin, any other at each occasion.
F14 has none with the bot as it is: it occurs only if a client order id is reused. F117 to F121 answer the next one to
four requests of their kind, before or after booking, and begin also in the last minutes before the close.
"""
MUTANTS = """# Mutants of the order machine

Rules of the bot that are broken on purpose, one at a time, to try the simulation itself: the first seed found that
notices, and by which invariant; ALIVE: only by an error that the bot died of; a dash: none is recorded.
`python tools/mutants.py --mutant NAME` searches for one.
"""
PAGES = {
    "settings.md": settings_reference.render(),
    "reasons.md": f"{REASONS}\n{reasons.table()}\n",
    "security-codes.md": f"{CODES}\n{error_codes.table()}\n",
    "credentials.md": f"{CREDENTIALS}\n{secret_schemas.table()}\n",
    "faults.md": f"{FAULTS}\n{faults.table()}\n",
    "mutants.md": f"{MUTANTS}\n{catalogue.table()}\n",
    "orders.md": f"{ORDERS}\n{orders.transition_table()}\n",
}

if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "docs" / "reference"
    for name, page in PAGES.items():
        (folder / name).write_text(page, encoding="utf-8")
        print(f"docs/reference/{name} is written.")
