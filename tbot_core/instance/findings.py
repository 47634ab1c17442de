"""Findings about settings, and their position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from tbot_core.system.redaction import hide_keys, is_shaped_like_secret

if TYPE_CHECKING:
    from tbot_core.contracts.setting import SettingKind

Mode: TypeAlias = Literal["replay", "demo", "backtest", "dry-run", "paper", "live"]
SIMULATED_MODES: Final = frozenset({"replay", "demo", "backtest"})
Level: TypeAlias = Literal["ok", "note", "warn", "fail"]
LEVELS: Final[tuple[Level, ...]] = ("fail", "warn", "note", "ok")
"""The order in which findings are listed. A note tells what a value does: it never fails, not with `--strict`."""


@attrs.frozen(kw_only=True)
class ValueOrigin:
    """Where a value comes from: a file's line, an option of the command line, or the default."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """`.env_bot:12`, `option`, `--set` or `default`."""
        return f"{self.file}:{self.line}" if self.line else self.file or "default"


OPTION: Final = ValueOrigin(file="option")
"""The origin of a setting that an option of its own replaces, such as `--seed`."""

TRIAL: Final = ValueOrigin(file="--set")
"""The origin of a setting that `--set NAME=VALUE` changes for one run."""


@attrs.frozen(kw_only=True)
class SettingsFinding:
    """One finding about the settings.

    `keys` are the variables that it is about, `where` the file and line if there is one, `message` one sentence.
    """

    level: Level
    message: str
    keys: tuple[str, ...] = ()
    where: str = ""

    @property
    def document(self) -> dict[str, object]:
        """The finding as a JSON document."""
        return {"level": self.level, "keys": list(self.keys), "where": self.where, "message": self.message}

    def __str__(self) -> str:
        """The sentence, after file and line if they are known."""
        return f"{self.where}: {self.message}" if self.where else self.message


def is_secret_for_path(kind: SettingKind[Any], text: str) -> bool:
    """Whether a text of a setting that is a path is shaped like a secret instead."""
    return kind.name == "path" and is_shaped_like_secret(text)


def printable_value(text: str) -> str:
    """A value for a message: complete if it is short and printable, else cut and escaped; a key is not shown."""
    text = hide_keys(text)
    cut = text if len(text) <= 80 else f"{text[:77]}..."
    return cut if cut.isprintable() else ascii(cut)
