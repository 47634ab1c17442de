"""The hooks: offers of plugins, and observers. `docs/reference/hooks.md` shows each with an example.

A plugin marks its functions with `hookimpl`; it may leave out arguments that it does not use. Hooks are called for one
plugin at a time, in the order of (kind, name), and never before all enabled plugins are registered.
"""

# A specification has no body, also where implementations return something.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.contracts import Context, KeyProvider, Plugin, RiskCheck, RunInfo
    from tbot_core.contracts.pages import PluginRoute

PROJECT: Final = "tbot"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
"""Marks a specification below."""

hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's implementation of a hook."""


@hookspec
def tbot_broker() -> Plugin:
    """Offer a broker.

    Arguments: none. Moment: once, when the plugin is loaded. Caller: the loader, for an entry point in group
    tbot.brokers. Returned value: one `Plugin` whose `create` returns a `Broker`; anything else is a failure of the
    plugin.
    """


@hookspec
def tbot_strategy() -> Plugin:
    """Offer a strategy.

    Arguments: none. Moment: once, when the plugin is loaded. Caller: the loader, for an entry point in group
    tbot.strategies. Returned value: one `Plugin` whose `create` returns a `Strategy`; anything else is a failure of
    the plugin.
    """


@hookspec
def tbot_filter() -> Plugin:
    """Offer a filter.

    Arguments: none. Moment: once, when the plugin is loaded. Caller: the loader, for an entry point in group
    tbot.filters. Returned value: one `Plugin` whose `create` returns a `Filter`; anything else is a failure of the
    plugin.
    """


@hookspec
def tbot_alert() -> Plugin:
    """Offer an alert channel.

    Arguments: none. Moment: once, when the plugin is loaded. Caller: the loader, for an entry point in group
    tbot.alerts. Returned value: one `Plugin` whose `create` returns an `AlertChannel`; anything else is a failure of
    the plugin.
    """


@hookspec
def tbot_extension() -> Plugin:
    """Offer an extension: everything beyond trading itself.

    Arguments: none. Moment: once, when the plugin is loaded. Caller: the loader, for an entry point in group
    tbot.extensions. Returned value: one `Plugin`, so that an extension declares settings like any other; `create`
    returns an `Extension`, which runs during paper and live trading, or any other object where hooks are all that it
    has.
    """


@hookspec
def tbot_risk_checks() -> RiskCheck:
    """Add a risk check to the limits of the core.

    Arguments: none. Moment: once for each run, before its first order. Caller: the set-up of the risk engine, for every
    enabled plugin. Returned value: a function of one `Order`, called after the core's own limits have passed an entry;
    None passes it, a sentence denies it with reason code RISK_CHECK_DENIED. It can only deny; if it raises or returns
    anything else, the entry is denied with RISK_CHECK_FAILED.
    """


@hookspec(firstresult=True)
def tbot_key_provider(context: Context) -> KeyProvider | None:
    """Provide the keys of the encrypted files.

    Arguments: `context` as for a plugin's `create`. Moment: once in each process that opens secrets, when the variable
    TBOT_KEY_PROVIDER is `plugin`. Caller: the code that opens the vault. Returned value: a `KeyProvider`, or None to
    leave it to the next plugin; the first that is not None is used, without a fallback if it fails.
    """


@hookspec
def tbot_routes(config: object, context: Context) -> Sequence[PluginRoute]:
    """Add pages to the web page, under /x/NAME.

    Arguments: `config` is the plugin's own, filled from the settings; `context` as for a plugin's `create`, without
    secrets and without a network. Moment: once, when the web page starts on a finished instance. Caller: the process of
    the web page, for every enabled extension, never that of trading. Returned value: the routes; each names its
    permission. If it raises or returns anything else, /x/NAME says so, and the page serves the others.
    """


@hookspec
def tbot_started(run: RunInfo) -> None:
    """Observe that a run has started.

    Arguments: `run` names the run, its mode and its source of prices. Moment: once, when everything is loaded and
    before the first session. Caller: the engine. Returned value: ignored.
    """


@hookspec
def tbot_event(event: Mapping[str, object]) -> None:
    """Observe one event.

    Arguments: `event` holds `kind`, `cid` (the client order id, or None), `time` (a datetime in UTC: when it was
    applied, in a simulation the simulated time) and `payload`; it is read-only. Moment: after the event is on disk, in
    the journal's order. Caller: the engine. Returned value: ignored.
    """


@hookspec
def tbot_stopped(run: RunInfo) -> None:
    """Observe that a run has stopped.

    Arguments: `run` as for `tbot_started`, with `summary` filled. Moment: once, after the last event, also when the
    run was interrupted. Caller: the engine. Returned value: ignored.
    """


OFFERS: Final[dict[str, str]] = {
    "alert": "tbot_alert",
    "broker": "tbot_broker",
    "extension": "tbot_extension",
    "filter": "tbot_filter",
    "strategy": "tbot_strategy",
}
"""The offer hook of each kind of plugin."""
