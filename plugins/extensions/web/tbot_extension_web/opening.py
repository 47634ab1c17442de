"""Opens the page of an instance, or of a folder that is to become one: its address, its accounts and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.secrets import vault_of_home
from tbot_core.actions.setup_draft import SetUp, begin_setup, complete_setup
from tbot_core.errors import SettingsError
from tbot_core.instance import Instance
from tbot_core.instance.identity import read_identity
from tbot_core.instance.secret_schemas import NetworkConfig
from tbot_core.instance.sources import is_set_up, read_settings_files
from tbot_core.vault.vault import Vault
from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.login_rules import LoginRules
from tbot_extension_web.access.login_store import LoginStore
from tbot_extension_web.access.logins import Logins
from tbot_extension_web.access.one_time_link import OneTimeLink
from tbot_extension_web.access.passwords import PasswordHasher
from tbot_extension_web.access.security_log import SecurityLog
from tbot_extension_web.first_run import FirstRun
from tbot_extension_web.server import Address
from tbot_extension_web.site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.model.clock import Clock

STORE: Final = "web.sqlite"
"""The file of logins and sessions, in the folder `data`."""


@attrs.frozen(kw_only=True)
class OpenedSite:
    """The page with its address; `waits` is the one that it has once an admin has one-time codes, None else."""

    site: Site
    address: Address
    store: LoginStore
    waits: Address | None = None

    def make_link(self) -> str | None:
        """A link for the first admin in place of the one before; None where there is an admin."""
        return None if self.site.first_run is None else self.site.first_run.link.make()


@attrs.frozen(kw_only=True)
class _Opened:
    # What is read of an instance, or of a set-up, for its page.
    vault: Vault
    address: Address
    public: bool = False
    roles: bool = True
    identity: str = ""
    setup: SetUp | None = None


def open_site(home: Path, clock: Clock, port: int | None = None, hasher: PasswordHasher | None = None) -> OpenedSite:
    """Open the page of an instance, or begin the set-up of one. `port` replaces that of network_config.

    An address that other machines reach waits for an admin with one-time codes, who logs in on this machine first.
    Raises SettingsError for an address that other machines reach without TLS, VaultError and AccessError for files
    that cannot be opened.
    """
    instance = Instance.at(home)
    opened = _instance(instance, port) if is_set_up(instance) else _unmade(instance, port)
    _refuse_open(opened)
    store, hasher = LoginStore(instance.data / STORE, clock), hasher or PasswordHasher()
    accounts, logins = _access(opened, store, hasher)
    waits = not (opened.address.loopback or accounts.has_admin_with_codes)
    address = opened.address.on_this_machine if waits else opened.address
    logins.rules = attrs.evolve(logins.rules, totp_required=not address.loopback)
    site = Site(home, clock, address.origin, logins, opened.identity)
    link = OneTimeLink(accounts, store)
    site.first_run = FirstRun(accounts=accounts, link=link, store=store, hasher=hasher, port=port)
    site.setup = opened.setup
    return OpenedSite(site=site, address=address, store=store, waits=opened.address if waits else None)


def open_made_instance(site: Site, first: FirstRun) -> Address:
    """Go on with the instance that a set-up has made: accounts, roles and identity; the sessions stay.

    Returns its address, which the page has after the next start. Raises as `open_site` does.
    """
    opened = _instance(Instance.at(site.home), first.port)
    _, site.logins = _access(opened, first.store, first.hasher)  # it listens where the set-up was
    site.identity, site.setup = opened.identity, None
    return opened.address


def _unmade(instance: Instance, port: int | None) -> _Opened:
    setup = begin_setup(instance)
    return _Opened(vault=setup.vault, address=set_up_address(instance, port), setup=setup)


def _instance(instance: Instance, port: int | None) -> _Opened:
    complete_setup(instance)
    vault = vault_of_home(instance.home, tolerant=True)
    network = vault.read_as(NetworkConfig, "network") if vault.store.has_file("network") else NetworkConfig()
    address = address_of(network, instance, port)
    roles = _with_roles(read_settings_files(instance).texts())
    identity = read_identity(instance, vault.deployment)
    named = "" if identity is None else identity.text
    return _Opened(vault=vault, address=address, roles=roles, identity=named, public=network.public)


def _refuse_open(opened: _Opened) -> None:
    opened.address.refuse_open(public=opened.public)
    if not (opened.roles or opened.address.loopback):
        raise SettingsError(
            f"The page would listen on {opened.address.host} with RBAC_ENABLED=false: every account would be admin.",
            "Set RBAC_ENABLED=true, or a listen address of 127.0.0.1.",
        )


def _access(opened: _Opened, store: LoginStore, hasher: PasswordHasher) -> tuple[Accounts, Logins]:
    security = SecurityLog(vault=opened.vault)
    accounts = Accounts(security, hasher, with_roles=opened.roles)
    rules = LoginRules.of(opened.vault.deployment, with_roles=opened.roles)
    return accounts, Logins(accounts, store, hasher, security, rules)


def set_up_address(instance: Instance, port: int | None) -> Address:
    """Where the page listens during a set-up."""
    return address_of(NetworkConfig(), instance, port)


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
