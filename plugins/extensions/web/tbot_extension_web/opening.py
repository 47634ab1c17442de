"""Opens the page of an instance: its address, its accounts and sessions, from encrypted files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.secrets import vault_of_home
from tbot_core.errors import SettingsError
from tbot_core.instance import Instance
from tbot_core.instance.identity import read_identity
from tbot_core.instance.secret_schemas import NetworkConfig
from tbot_core.instance.sources import read_settings_files
from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.login_rules import LoginRules
from tbot_extension_web.access.login_store import LoginStore
from tbot_extension_web.access.logins import Logins
from tbot_extension_web.access.one_time_link import OneTimeLink
from tbot_extension_web.access.passwords import PasswordHasher
from tbot_extension_web.access.security_log import SecurityLog
from tbot_extension_web.server import Address
from tbot_extension_web.site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.model.clock import Clock
    from tbot_core.vault.vault import Vault

STORE: Final = "web.sqlite"
"""The file of logins and sessions, in the folder `data`."""


@attrs.frozen(kw_only=True)
class OpenedSite:
    """The page with its address, and the link of its first admin, None where there is one."""

    site: Site
    address: Address
    link: str | None
    store: LoginStore


def open_site(home: Path, clock: Clock, port: int | None = None) -> OpenedSite:
    """Open the page of an instance. `port` replaces that of network_config.

    Raises SettingsError for an address that other machines reach without TLS, VaultError and AccessError for files
    that cannot be opened.
    """
    instance = Instance.at(home)
    vault = vault_of_home(home, tolerant=True)
    network = vault.read_as(NetworkConfig, "network") if vault.store.has_file("network") else NetworkConfig()
    address = address_of(network, instance, port)
    address.refuse_open(public=network.public)
    roles = _with_roles(read_settings_files(instance).texts())
    if not (roles or address.loopback):
        raise SettingsError(
            f"The page would listen on {address.host} with RBAC_ENABLED=false: every account would be admin.",
            "Set RBAC_ENABLED=true, or a listen address of 127.0.0.1.",
        )
    identity = read_identity(instance, vault.deployment)
    accounts, store, logins = _access(instance, vault, clock, address, roles=roles)
    site = Site(home, clock, address.origin, logins, "" if identity is None else identity.text)
    return OpenedSite(site=site, address=address, link=OneTimeLink(accounts, store).make(), store=store)


def _access(
    instance: Instance, vault: Vault, clock: Clock, address: Address, *, roles: bool
) -> tuple[Accounts, LoginStore, Logins]:
    security, hasher = SecurityLog(vault=vault), PasswordHasher()
    store = LoginStore(instance.data / STORE, clock)
    accounts = Accounts(security, hasher)
    rules = LoginRules.of(vault.deployment, with_roles=roles, totp_required=not address.loopback)
    return accounts, store, Logins(accounts, store, hasher, security, rules)


def address_of(network: NetworkConfig, instance: Instance, port: int | None) -> Address:
    """The address of the page as network_config gives it."""
    return Address(
        host=network.host,
        port=network.port if port is None else port,
        certificate=None if network.certificate is None else instance.path(network.certificate),
        private_key=None if network.private_key is None else instance.path(network.private_key),
        hosts=network.hosts,
    )


def _with_roles(texts: Mapping[str, str]) -> bool:
    return texts.get("RBAC_ENABLED", "true").strip().lower() not in {"false", "no", "off", "0"}
