"""A variable's effective value and its source."""

from __future__ import annotations

from typing import Any

import attrs

from tbot_core.contracts.setting import SettingDeclaration
from tbot_core.instance.findings import ValueOrigin


@attrs.frozen(kw_only=True)
class EffectiveSetting:
    """A variable's effective value: its declaration, owner (`core`, or `strategy open`), value, text and origin.

    `written` is the text in the file or the option, "" for a default.
    """

    declaration: SettingDeclaration
    owner: str
    value: Any
    text: str
    origin: ValueOrigin
    written: str = ""

    @property
    def is_set(self) -> bool:
        """Whether a file or an option sets it."""
        return self.origin != ValueOrigin()
