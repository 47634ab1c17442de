"""The shipped table of index funds, for limits of the exposure to an index."""

from __future__ import annotations

import csv
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLE: Final = Path(__file__).with_suffix(".csv")


def index_funds() -> Mapping[str, Mapping[str, Decimal]]:
    """The shipped table of index funds: index -> symbol -> signed leverage."""
    table: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for row in csv.DictReader(filesystem.read_text(_TABLE).splitlines()):
        table[row["index"]][row["symbol"]] = Decimal(row["leverage"])
    return table
