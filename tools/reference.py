"""Write the generated pages of docs/reference: each holds a table rendered from what it describes."""

from __future__ import annotations

from pathlib import Path

import settings_reference
from rehearsal_mutants import catalogue

from tbot_core.instance import secret_schemas
from tbot_core.model.reasons import Reason
from tbot_core.rehearsal import faults
from tbot_core.trading import orders
from tbot_core.vault.error_codes import VaultErrorCode

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


def reasons_table() -> str:
    """The reason codes as a Markdown table; `{NAME}` stands for the name of a strategy."""
    rows = [f"| {int(reason)} | `{reason.name}` | {reason.sentence} | {reason.remedy.text} |" for reason in Reason]
    return "\n".join(("| number | code | meaning | what changes it |", "|---|---|---|---|", *rows))


def vault_codes_table() -> str:
    """The codes of the vault's errors as a Markdown table."""
    rows = [
        f"| {code.text} | {code.name} | {_example(code.sentence)} | {_example(code.remedy)} |"
        for code in sorted(VaultErrorCode, key=lambda code: code.number)
    ]
    return "\n".join(["| Code | Name | What is wrong | What to do |", "|---|---|---|---|", *rows])


def _example(text: str) -> str:
    return text.replace("{category}", "CATEGORY").format(
        file="FILE", folder="FOLDER", section="NAME", allowed="ALLOWED"
    )


def credentials_table() -> str:
    """The known fields of secrets as a Markdown table."""
    rows = ["| Category | Section | Field | Allowed | Default | Meaning | Also spelt |", f"|{'---|' * 7}"]
    for (category, section), schema in secret_schemas.schemas().items():
        place = section or ("each user" if category == "login" else "")
        for field in schema.values():
            default = "must be given" if field.default_text is None else field.default_text or "empty"
            cells = (field.kind.allowed, default, field.doc, ", ".join(field.aliases))
            rows.append(f"| {category} | {place} | {field.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


PAGES = {
    "settings.md": settings_reference.render(),
    "reasons.md": f"{REASONS}\n{reasons_table()}\n",
    "security-codes.md": f"{CODES}\n{vault_codes_table()}\n",
    "credentials.md": f"{CREDENTIALS}\n{credentials_table()}\n",
    "faults.md": f"{FAULTS}\n{faults.table()}\n",
    "mutants.md": f"{MUTANTS}\n{catalogue.table()}\n",
    "orders.md": f"{ORDERS}\n{orders.transition_table()}\n",
}

if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "docs" / "reference"
    for name, page in PAGES.items():
        (folder / name).write_text(page, encoding="utf-8")
        print(f"docs/reference/{name} is written.")
