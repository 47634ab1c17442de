"""A third party's strategy: follow a few closes that rise, or fall, one after the other."""

from __future__ import annotations

import attrs

from tbot_core.contracts import Context, Plugin, Strategy
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.on_bar import MinuteBar, OnBarResult, OnBarStrategy
from tbot_core.contracts.setting import integer, setting
from tbot_core.model.window import Window


@attrs.frozen(kw_only=True)
class Config:
    """What the settings say."""

    window: Window
    length: int = setting("STREAK_LENGTH", integer(least=1, most=30), default=3, doc="Closes in a row that go one way.")


class Streak:
    """The last close, and how many closes before it went the same way; falling ones count below zero."""

    last = 0.0
    length = 0


@hookimpl
def tbot_strategy() -> Plugin:
    """What this distribution offers."""
    return Plugin(name="streak", summary="Closes in a row", config=Config, create=_create)


def _create(config: Config, context: Context) -> Strategy:
    del context

    def on_bar(streak: Streak, bar: MinuteBar) -> OnBarResult:
        if streak.last and bar.close != streak.last:
            way = 1 if bar.close > streak.last else -1
            streak.length = way * (abs(streak.length) + 1 if streak.length * way > 0 else 1)
        streak.last = bar.close
        if streak.length >= config.length:
            return 1
        return -1 if streak.length <= -config.length else None

    return OnBarStrategy(window=config.window, state=Streak, on_bar=on_bar, rule="streak")
