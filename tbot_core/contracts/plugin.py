"""What a plugin offers, and what it is created with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import attrs

from tbot_core.contracts.credentials import PluginSecrets
from tbot_core.contracts.feed import FeedLabel, FeedQuality
from tbot_core.contracts.network import Connect, NoNetwork
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.model.clock import Clock


class StructuredLogger(Protocol):
    """A structured logger: the name of an event, then fields."""

    def debug(self, event: str, **fields: object) -> None:
        """Details for finding faults."""

    def info(self, event: str, **fields: object) -> None:
        """Information for the operator."""

    def warning(self, event: str, **fields: object) -> None:
        """A problem; work continues."""

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""


def _as_secrets(given: Mapping[str, Any]) -> PluginSecrets:
    return given if isinstance(given, PluginSecrets) else PluginSecrets(given)


@attrs.frozen(kw_only=True)
class Context:
    """What a plugin is created with: the clock, a logger, and a folder of its own inside the instance.

    `tables_dir` is the folder of the operator's tables, which all plugins share; see `Plugin.tables`. `downloads_dir`
    is that of downloaded tables: the daily series `rates` is the table `rates.csv` there, which is not part of the
    settings hash. The operator's table of the same name counts instead.

    `secrets` holds, for each category in its `needs`, an object of the declared class, filled from the plugin's own
    section, or from the whole category if it has no sections; `secrets.renew(category, field=value)` stores what the
    vendor renewed. A trial holds none; a simulation lacks those without a file. `connect` is the only way to the
    network, and reaches the hosts in its `needs`. `timeout_s` is API_TIMEOUT: `connect` keeps to it; a library that
    opens its own connections is given it. `jurisdiction`: the code in the bot's identity, such as US; "" without one.
    """

    clock: Clock
    log: StructuredLogger
    data_dir: Path
    secrets: PluginSecrets = attrs.field(factory=PluginSecrets, converter=_as_secrets, repr=False)
    connect: Connect = attrs.field(factory=NoNetwork, repr=False)
    timeout_s: float = 10.0
    jurisdiction: str = ""
    tables_dir: Path = attrs.Factory(lambda self: self.data_dir, takes_self=True)
    downloads_dir: Path = attrs.Factory(lambda self: self.data_dir / "downloads", takes_self=True)


@attrs.frozen(kw_only=True)
class Plugin:
    """A plugin as its hook offers it.

    `name`: that of the entry point. `config`: a frozen attrs class whose fields are made by
    `tbot_core.contracts.setting.setting`. `create(config, context)` returns the object of its kind; it may import heavy
    libraries. `capabilities`: words for `tbot plugins info`; a broker declares what it can do in its
    `BrokerCapabilities` instead. `needs`: its permissions, shown for approval. `quality(config)`: the declared quality
    of a broker's live feed, before anything is connected. `tables`: the files in `Context.tables_dir`, placed there by
    the operator, that decisions depend on; their content is part of the settings hash, which binds runs and armings.
    Plugins that name the same file share it. `describe_table(name, context)`: what the table of that name holds, in a
    sentence, when the operator imports it; raises SettingsError for one that may be used but not imported.
    `warnings(config, context)`: sentences for `tbot check` about the plugin's own data, such as a table that is too
    old; it does not connect.
    `series`: the daily series that an extension publishes (`tbot_core.contracts.series`), such as `("vix",)`.
    `venue()`: what `tbot plugins check` tests a broker, an alert channel, an extension or a filter that fetches with:
    the plugin's object at a server of its own on this machine, as the modules `broker`, `alert`, `extension` and
    `fetching` of `tbot_core.testing` describe it; a run never calls it. A broker's may take a runner and a clock, as
    `tbot_core.testing.venue` describes it: a rehearsal trades a day at it.
    """

    name: str
    summary: str
    config: type[Any]
    create: Callable[[Any, Context], object]
    capabilities: frozenset[str] = frozenset()
    needs: PluginNeeds = attrs.field(factory=PluginNeeds)
    quality: Callable[[Any], FeedQuality] | None = None
    tables: tuple[str, ...] = ()
    describe_table: Callable[[str, Context], str] | None = None
    warnings: Callable[[Any, Context], Sequence[str]] | None = None
    series: tuple[str, ...] = ()
    venue: Callable[..., AbstractContextManager[object]] | None = None


@attrs.frozen(kw_only=True)
class RunInfo:
    """What observers receive about a run; `summary` is filled when it has stopped."""

    run_id: str
    mode: str
    label: FeedLabel | None = None
    summary: Mapping[str, object] = attrs.field(factory=dict)
