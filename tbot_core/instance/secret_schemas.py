"""The fields of each category of secrets known to the core, so that content can be checked without its plugin.

The core's own categories have a class here, those of plugins are in `plugins.json`. An installed plugin's section is
judged by the plugin's own declaration only: while that is not loaded, its shape alone is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.credentials import list_of, secret_fields, shown_field
from tbot_core.contracts.setting import boolean, integer, optional, path, text
from tbot_core.instance.identity import BotIdentityConfig
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import Schemas, schema_key

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from tbot_core.contracts.credentials import SecretField
    from tbot_core.contracts.setting import DeclaredConfig

_HOST = text(pattern=r"[A-Za-z0-9.:_-]{1,253}", allowed="a host's name or address")


@attrs.frozen(kw_only=True)
class NetworkConfig:
    """The listen address and TLS files of the web page."""

    host: str = shown_field(_HOST, default="127.0.0.1", doc="Listen address.", aliases=("bind", "address"))
    port: int = shown_field(integer(least=1, most=65_535), default="8443", doc="Listen port.")
    certificate: str | None = shown_field(
        optional(path()), default="", doc="Certificate in PEM, with its chain.", aliases=("tls_certificate", "tls_cert")
    )
    private_key: str | None = shown_field(
        optional(path()), default="", doc="The certificate's key in PEM.", aliases=("tls_private_key", "tls_key")
    )
    hosts: tuple[str, ...] = shown_field(
        list_of("names"), default="", doc="Accepted host names of the page.", aliases=("allowed_hosts",)
    )
    public: bool = shown_field(
        boolean(),
        default="false",
        doc="Whether other machines reach the page, which then needs a certificate and one-time codes.",
    )


@attrs.frozen(kw_only=True)
class SecretRules:
    """How secrets are judged: the fields by category and section, and the (category, section) that must be there."""

    fields: Schemas
    required: frozenset[tuple[str, str]] = frozenset()


def secret_rules(
    declared: Iterable[DeclaredConfig] = (), installed: Container[tuple[str, str]] = (), *, required: bool = False
) -> SecretRules:
    """The one judgement of secrets, for checks, starts and writes.

    `declared` are the loaded plugins, `installed` the (kind, name) of all installed ones. `required`: each loaded
    plugin must have its secrets; an extension may be used without them.
    """
    plugins = tuple(declared)
    needed = frozenset(
        schema_key(category, plugin.name)
        for plugin in plugins
        for category in plugin.secrets
        if category in CATEGORIES and plugin.kind != "extension"
    )
    return SecretRules(fields=schemas(plugins, installed), required=needed if required else frozenset())


def schemas(declared: Iterable[DeclaredConfig] = (), installed: Container[tuple[str, str]] = ()) -> Schemas:
    """The fields of each category and plugin section, without sections of installed plugins that are not loaded.

    A category without sections, such as that of the mail server, is not a plugin's own: its fields are known before the
    plugin is loaded.
    """
    found: dict[tuple[str, str], Mapping[str, SecretField]] = {
        schema_key("bot_identity", ""): secret_fields(BotIdentityConfig),
        schema_key("network", ""): secret_fields(NetworkConfig),
    }
    for plugin in known_plugins():
        is_installed = (plugin.kind, plugin.name) in installed
        for category, fields in plugin.secrets.items():
            if not (is_installed and CATEGORIES[category].by_plugin):
                found[schema_key(category, plugin.name)] = fields
    for config in declared:
        for category, schema in config.secrets.items():
            if schema is not None and category in CATEGORIES:
                found[schema_key(category, config.name)] = secret_fields(schema)
    return found


def secret_owners(
    enabled: Container[tuple[str, str]], declared: Iterable[DeclaredConfig] = ()
) -> tuple[tuple[str, str], ...]:
    """The (category, plugin) of each secret that the enabled plugins read; `declared` are the loaded ones."""
    found = [
        (category, plugin.name)
        for plugin in known_plugins()
        if (plugin.kind, plugin.name) in enabled
        for category in plugin.secrets
    ]
    found += [(category, config.name) for config in declared for category in config.secrets if category in CATEGORIES]
    return tuple(dict.fromkeys(found))
