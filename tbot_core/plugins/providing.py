"""The keys of encrypted files from a plugin: before any settings are read, so every installed extension is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import Context, KeyProvider
from tbot_core.plugins import catalogue
from tbot_core.plugins.failure import PluginFailure, refusal
from tbot_core.plugins.loader import EVERY_EXTENSION, Loader
from tbot_core.seams import log

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.clock import Clock
    from tbot_core.plugins.loader import Loaded


def key_provider(data: Path, clock: Clock) -> KeyProvider | None:
    """What the first installed extension answers to `tbot_key_provider`; None when none answers.

    Raises PluginError when one fails or answers something else: nothing takes its place.
    """
    loader = Loader()
    loaded, _ = loader.offers([EVERY_EXTENSION], catalogue.plugins())
    for it in loaded:
        caller = loader.caller(it.subject, "tbot_key_provider")
        if caller is None:
            continue
        try:
            answer = caller(context=_context(it, data, clock))
        except (Exception, SystemExit) as fault:  # noqa: BLE001  -- the border of plugin load
            raise refusal((PluginFailure.of(it.entry, "create", fault),)) from None
        if answer is not None and not isinstance(answer, KeyProvider):
            words = "tbot_key_provider returned no KeyProvider."
            raise refusal((PluginFailure.said(it.entry, "create", words),))
        if answer is not None:
            return answer
    return None


def _context(loaded: Loaded, data: Path, clock: Clock) -> Context:
    folder = data / "plugins" / f"{loaded.entry.kind}-{loaded.entry.name}"
    return Context(clock=clock, log=log.logger(f"tbot.{loaded.entry.kind}.{loaded.entry.name}"), data_dir=folder)
