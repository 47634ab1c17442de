"""Loaded settings: typed groups, and plugin configs filled from the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from tbot_core.contracts import settings
from tbot_core.contracts.setting import declarations
from tbot_core.errors import SettingsError
from tbot_core.instance.findings import Mode, SettingsFinding, printable_value
from tbot_core.instance.folder import Instance
from tbot_core.instance.registry import EffectiveSetting
from tbot_core.model.window import standard_window

if TYPE_CHECKING:
    from tbot_core.model.window import Window

C = TypeVar("C")


@attrs.frozen(kw_only=True)
class Settings:
    """The validated settings of one run.

    `strategies` run in this order; `frames` has an entry for each of them and for the disabled ones of the sequence.
    `filters` are those that apply, in order, `filters_off` the standard ones that FILTERS takes away. `fingerprint` is
    the SHA-256 over all inputs of decisions. `tables` has the SHA-256 of each operator's table that plugins of the run
    use, by its file name; "" for a missing one.
    """

    mode: Mode
    instance: Instance
    deployment: settings.DeploymentSettings
    general: settings.GeneralSettings
    trading: settings.TradingSettings
    risk: settings.RiskSettings
    entries: settings.EntrySettings
    exits: settings.ExitSettings
    simulation: settings.SimulationSettings
    rebalance: settings.RebalanceSettings
    failover: settings.FailoverSettings
    notifications: settings.NotificationSettings
    ledger: settings.LedgerSettings
    frames: Mapping[str, settings.StrategySettings]
    strategies: tuple[str, ...]
    filters: tuple[str, ...]
    filters_off: tuple[str, ...]
    values: Mapping[str, EffectiveSetting]
    texts: Mapping[str, str]
    warnings: tuple[SettingsFinding, ...]
    fingerprint: str
    tables: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def brokers(self) -> tuple[str, ...]:
        """The brokers of the instance, the primary first."""
        return self.trading.broker_name, *self.failover.standbys

    def window(self, strategy: str) -> Window:
        """The strategy's window relative to the open on a standard-time day."""
        return standard_window(strategy, self.frames[strategy])

    def plugin_config(self, config: type[C], strategy: str | None = None, *, window: Window | None = None) -> C:
        """Create a plugin's config, with its fields filled from the settings.

        A strategy's field `window` that is not a setting gets `window`, else the strategy's window on a standard-time
        day. Raises SettingsError with one line per fault for values that are not allowed.
        """
        given: dict[str, Any] = {}
        faults: list[str] = []
        for field, declaration in declarations(config).items():
            name = declaration.name.replace("{NAME}", (strategy or "").upper())
            setting = self.values.get(name)
            text = self.texts.get(name, declaration.default_text) if setting is None else setting.text
            try:
                given[field] = declaration.kind.parse(text)
            except ValueError:
                faults.append(f"{name}={printable_value(text)}: allowed is {declaration.kind.allowed}.")
        if faults:
            raise SettingsError("\n".join(faults), f"They are settings of {config.__module__}.{config.__qualname__}.")
        if strategy is not None and "window" in {field.name for field in attrs.fields(config)} - given.keys():  # type: ignore[arg-type]  # any attrs class
            given["window"] = window or self.window(strategy)
        return config(**given)
