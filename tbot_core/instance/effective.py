"""A variable as it holds, with where that is said."""

from __future__ import annotations

from typing import Any

import attrs

from tbot_core.contracts.setting import SettingDeclaration
from tbot_core.instance.findings import ValueOrigin


@attrs.frozen(kw_only=True)
class EffectiveSetting:
    """A variable as it holds: its declaration, owner (`core`, or `strategy open`), value, text and origin.

    `written` is the text as the file or the option spells it, "" for a default.
    """

    declaration: SettingDeclaration
    owner: str
    value: Any
    text: str
    origin: ValueOrigin
    written: str = ""

    @property
    def given(self) -> bool:
        """Whether a file or an option says it."""
        return self.origin != ValueOrigin()
