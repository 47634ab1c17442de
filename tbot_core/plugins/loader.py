"""Loads the requested plugins one by one: a broken one becomes a value, and the others are still loaded."""

from __future__ import annotations

import inspect
from decimal import localcontext
from difflib import get_close_matches
from functools import partial, reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import pluggy

from tbot_core import contracts
from tbot_core.contracts import BrokerCapabilities, Plugin, hooks
from tbot_core.contracts.abilities import undeclared_differences
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.contracts.series import SERIES
from tbot_core.contracts.setting import DeclaredConfig
from tbot_core.errors import PluginError
from tbot_core.plugins import hung_plugins, number_bounds
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.contracts import Broker, Context
    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.plugins.failure import Phase

# By name, so that the trial of a broker or an alert channel imports no numpy.
_PROTOCOLS: Final = {
    "alert": "AlertChannel",
    "broker": "Broker",
    "extension": "Extension",
    "filter": "Filter",
    "strategy": "Strategy",
}
NEAR: Final = 0.8
"""The similarity from which a known name is suggested."""

LOAD_S: Final = 30.0
"""How long a plugin may take for its import, its offer and its creation each: a cold disk takes seconds."""

EVERY_EXTENSION: Final = ("extension", "*")
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class LoadedPlugin:
    """An imported plugin with a valid offer; `subject` is the registered object of its entry point."""

    entry: EntryPointInfo
    plugin: Plugin
    subject: object = attrs.field(eq=False, repr=False)

    @property
    def declared(self) -> DeclaredConfig:
        """Its declarations."""
        return DeclaredConfig(
            kind=self.entry.kind,
            name=self.entry.name,
            config=self.plugin.config,
            secrets=self.plugin.needs.secrets,
            tables=self.plugin.tables,
            hosts={name: host.url for name, host in self.plugin.needs.hosts.items()},
        )


class PluginLoader:
    """Wraps the pluggy manager with the registered plugins.

    Loading has two steps, because a plugin's config is read from the settings only when its declarations are known:
    `offers`, then `build_plugin` for each.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hooks.PROJECT)
        self.manager.add_hookspecs(hooks)

    def offers(
        self, wanted: Iterable[tuple[str, str]], listings: Iterable[PluginListing]
    ) -> tuple[tuple[LoadedPlugin, ...], tuple[PluginFailure, ...]]:
        """Import and register the requested (kind, name) pairs in order; `("extension", "*")` requests all usable ones.

        A missing, duplicate or incompatible plugin is a failure of phase find. Failures are logged.
        """
        log.hold()  # log lines of plugins during import
        known = {(listing.entry.kind, listing.entry.name): listing for listing in listings}
        loaded, failures = [], []
        for kind, name in sorted(expand_extensions(wanted, known)):
            outcome = self._usable(known[kind, name]) if (kind, name) in known else _absent(kind, name, known)
            if isinstance(outcome, LoadedPlugin):
                loaded.append(outcome)
            else:
                failures.append(outcome)
                log_failure(outcome)
        return tuple(loaded), tuple(failures)

    def load(self, entry: EntryPointInfo) -> LoadedPlugin | PluginFailure:
        """Import one entry, register it, call its offer hook and check the result."""
        phase: Phase = "import"
        subject: object = None
        known = False
        try:
            with hung_plugins.starting(entry, "import"):
                subject = call_within(LOAD_S, partial(_resolve, entry))
            phase = "register"
            hash(subject)  # pluggy keeps plugins in sets: an unhashable one would break all calls
            known = self.manager.is_registered(subject)
            if not known:
                self.manager.register(subject, f"{entry.kind}/{entry.name}")
            self.manager.check_pending()
            phase = "offer"
            results = call_within(LOAD_S, partial(self.call_hook, subject, hooks.OFFERS[entry.kind]))
            phase = "validate"
            return LoadedPlugin(entry=entry, plugin=_valid_offer(entry, results), subject=subject)
        except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
            assert_failure(fault)
            if not known and self.manager.is_registered(subject):
                self.manager.unregister(subject)
            return PluginFailure.of(entry, phase, fault)

    def call_hook(self, subject: object, hook: str) -> list[Any]:
        """Call one argument-free hook of one registered object; empty if it does not implement it."""
        caller = self.caller(subject, hook)
        with localcontext():
            answers: list[Any] = [] if caller is None else caller()
        return answers

    def caller(self, subject: object, hook: str) -> pluggy.HookCaller | None:
        """A caller of one hook of one registered object; None if it does not implement it."""
        if not any(it.plugin is subject for it in getattr(self.manager.hook, hook).get_hookimpls()):
            return None
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not subject]
        return self.manager.subset_hook_caller(hook, remove_plugins=others)

    def _usable(self, listing: PluginListing) -> LoadedPlugin | PluginFailure:
        # A recorded fault may be fixed meanwhile, so only faults in the metadata prevent an attempt.
        if listing.state in {"duplicate", "incompatible"} or (listing.state == "broken" and not listing.seen):
            return PluginFailure.said(listing.entry, "find", f"{listing.state}: {listing.reason}")
        return self.load(listing.entry)


def load_object(entry: EntryPointInfo) -> object | PluginFailure:
    """Import the target of an entry point, such as a command."""
    try:
        return _resolve(entry)
    except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
        assert_failure(fault)
        return PluginFailure.of(entry, "import", fault)


def build_plugin(loaded: LoadedPlugin, config: object, context: Context) -> object | PluginFailure:
    """Create the plugin's object and check that it has the methods of its kind; a failure is logged."""
    try:
        with hung_plugins.starting(loaded.entry, "create"), localcontext():
            made = call_within(LOAD_S, partial(loaded.plugin.create, config, context))
        _check_made(loaded.entry.kind, made)
    except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
        assert_failure(fault)
        failure = PluginFailure.of(loaded.entry, "create", fault)
        log_failure(failure)
        return failure
    return made


def log_failure(failure: PluginFailure) -> None:
    """Log a failure with its traceback."""
    _log.error(
        "plugin.failed",
        plugin=f"{failure.kind}/{failure.name}",
        distribution=f"{failure.dist} {failure.version}".strip(),
        phase=failure.phase,
        error=failure.error,
        traceback=failure.trace,
    )


def expand_extensions(wanted: Iterable[tuple[str, str]], known: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs with `EVERY_EXTENSION` replaced by each extension among the known."""
    pairs = set(wanted)
    if EVERY_EXTENSION in pairs:
        pairs = (pairs - {EVERY_EXTENSION}) | {pair for pair in known if pair[0] == "extension"}
    return pairs


def _absent(kind: str, name: str, known: Iterable[tuple[str, str]]) -> PluginFailure:
    near = get_close_matches(name, [other for its_kind, other in known if its_kind == kind], n=1, cutoff=NEAR)
    hint = f"; did you mean {near[0]}?" if near else "."
    error = f"no installed distribution provides it{hint}"
    return PluginFailure(kind=kind, name=name, dist="", version="", phase="find", error=error)


def _resolve(entry: EntryPointInfo) -> object:
    module, _, path = entry.target.partition(":")
    with localcontext():  # what a plugin sets for its decimals must not change how the core computes
        subject: object = reduce(getattr, filter(None, path.split(".")), import_module(module))
    if subject is None:
        raise PluginError(f"{entry.target} is None.", "The entry point must name a module or an object with hooks.")
    return subject


def _valid_offer(entry: EntryPointInfo, results: list[Any]) -> Plugin:
    # The single offer among the results; PluginError when it is missing or invalid.
    hook = hooks.OFFERS[entry.kind]
    if len(results) != 1:
        raise PluginError(f"{entry.target} provides nothing.", f"Return a Plugin from {hook}, marked by hookimpl.")
    plugin = results[0]
    if not isinstance(plugin, Plugin):
        raise PluginError(f"{hook} returned {_named(plugin)}.", "Return a tbot_core.contracts.Plugin.")
    if plugin.name != entry.name:
        raise PluginError(f"Its name is {plugin.name!r}.", f"Use the entry point's name, {entry.name!r}.")
    if not _is_frozen(plugin.config):
        raise PluginError(f"Its config is {_named(plugin.config)}.", "Use a class made by attrs.frozen.")
    if not isinstance(plugin.needs, PluginNeeds):
        raise PluginError(
            f"Its needs are {_named(plugin.needs)}.", "Give a tbot_core.contracts.permissions.PluginNeeds."
        )
    number_bounds.assert_figures(list(plugin.needs.hosts.values()))
    if not _are_file_names(plugin.tables):
        raise PluginError(f"Its tables are {plugin.tables!r}.", "Use a tuple of file names, without a folder.")
    if not _are_series(plugin.series):
        raise PluginError(f"Its series are {plugin.series!r}.", f"Use a tuple of some of {', '.join(SERIES)}.")
    try:
        inspect.signature(plugin.create).bind(None, None)
    except TypeError as fault:
        raise PluginError("Its create does not accept (config, context).", "Give it these two parameters.") from fault
    return plugin


def _are_file_names(names: object) -> bool:
    # Plain names that cannot leave their folder.
    return isinstance(names, tuple) and all(
        isinstance(name, str) and name not in {"", ".", ".."} and not {"/", "\\", "\0"} & set(name) for name in names
    )


def _are_series(names: object) -> bool:
    return isinstance(names, tuple) and all(name in SERIES for name in names)


def _is_frozen(config: object) -> bool:
    if not isinstance(config, type) or not attrs.has(config):
        return False
    try:
        object.__new__(config).tbot_probe = None  # type: ignore[attr-defined]  # a frozen class refuses
    except attrs.exceptions.FrozenInstanceError:
        return True
    except AttributeError:
        return False
    return False


def _check_made(kind: str, made: object) -> None:
    protocol: type[Any] = getattr(contracts, _PROTOCOLS[kind])
    promised = [name for name in vars(protocol) if not name.startswith("_")]
    lacking = promised if isinstance(made, type) else [name for name in promised if not hasattr(made, name)]
    if lacking and not (kind == "extension" and lacking == promised):  # it has hooks alone
        message = f"create returned {_named(made)}, which is not a {protocol.__name__}."
        raise PluginError(message, f"It lacks {', '.join(sorted(lacking))}.")
    if kind == "broker":
        _check_capabilities(cast("Broker", made).capabilities, made)


def _check_capabilities(declared: object, made: object) -> None:
    # A broker has exactly the optional methods that its capabilities declare.
    if not isinstance(declared, BrokerCapabilities):
        raise PluginError(
            f"Its capabilities are {_named(declared)}.", "Return a tbot_core.contracts.BrokerCapabilities."
        )
    if differences := "; ".join(undeclared_differences(made, declared)):
        remedy = "BrokerCapabilities must declare the optional methods that the broker has, and no others."
        raise PluginError(f"{differences[0].upper()}{differences[1:]}.", remedy)


def _named(thing: object) -> str:
    # A foreign object's repr may be long, secret or broken, so only its type is named.
    return f"the class {thing.__qualname__}" if isinstance(thing, type) else f"an object of type {type(thing).__name__}"
