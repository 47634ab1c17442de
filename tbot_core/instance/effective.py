"""A variable as it holds, with where that is said."""

from __future__ import annotations

from typing import Any

import attrs

from tbot_core.contracts.setting import Declaration
from tbot_core.instance.findings import Origin


@attrs.frozen(kw_only=True)
class Effective:
    """A variable as it holds: its declaration, owner (`core`, or `strategy open`), value, text and origin.

    `written` is the text as the file or the option spells it, "" for a default.
    """

    declaration: Declaration
    owner: str
    value: Any
    text: str
    origin: Origin
    written: str = ""

    @property
    def given(self) -> bool:
        """Whether a file or an option says it."""
        return self.origin != Origin()
