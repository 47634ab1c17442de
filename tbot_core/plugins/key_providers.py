"""Keys of encrypted files from a plugin: loaded before any settings, so the enabled plugins are not known yet."""

from __future__ import annotations

from decimal import localcontext
from typing import TYPE_CHECKING

from tbot_core.contracts import Context, KeyProvider
from tbot_core.plugins import discovery, lock
from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
from tbot_core.plugins.loader import EVERY_EXTENSION, PluginLoader
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.model.clock import Clock
    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.plugins.loader import LoadedPlugin


def key_provider(home: Path, clock: Clock, *, live: bool = False) -> KeyProvider | None:
    """The key provider of the first installed extension that implements `tbot_key_provider`; None without one.

    In live trading only plugins that match plugins.lock are imported. Raises PluginError if one does not match, fails
    or returns something else: there is no fallback.
    """
    loader, listings = PluginLoader(), discovery.installed_plugins()
    loaded, _ = loader.offers(_approved(home, listings) if live else [EVERY_EXTENSION], listings)
    for it in loaded:
        caller = loader.caller(it.subject, "tbot_key_provider")
        if caller is None:
            continue
        try:
            with localcontext():
                answer = caller(context=_context(it, home / "data", clock))
        except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
            assert_failure(fault)
            raise plugins_failed_error((PluginFailure.of(it.entry, "create", fault),)) from None
        if answer is not None and not isinstance(answer, KeyProvider):
            words = "tbot_key_provider returned no KeyProvider."
            raise plugins_failed_error((PluginFailure.said(it.entry, "create", words),))
        if answer is not None:
            return answer
    return None


def _approved(home: Path, listings: Sequence[PluginListing]) -> list[tuple[str, str]]:
    # The extensions in plugins.lock; others are not asked, and are no reason to refuse.
    pinned = lock.read_lock(home)
    names = [] if pinned is None else [one.key for one in pinned.plugins if one.kind == EVERY_EXTENSION[0]]
    lock.require_locked(home, discovery.mark_enabled(listings, names))
    return names


def _context(loaded: LoadedPlugin, data: Path, clock: Clock) -> Context:
    folder = data / "plugins" / f"{loaded.entry.kind}-{loaded.entry.name}"
    return Context(clock=clock, log=log.logger(f"tbot.{loaded.entry.kind}.{loaded.entry.name}"), data_dir=folder)
