"""The permissions that a plugin needs beyond computing: shown for approval, and pinned by plugins.lock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

_SCHEMES: Final = frozenset({"https", "wss", "smtp", "smtps"})
GIVEN: Final = "*"
"""In the place of a host's name: the one that the operator gives."""
CHOSEN: Final = f"https://{GIVEN}"
"""The address of a host that the operator names in its HOST_ setting."""
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~%-]+)*/?")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


def _address(_owner: object, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not (split := urlsplit(value)).hostname or split.scheme not in _SCHEMES:
        raise TypeError(f"{field.name} must be an address such as https://api.example.com, not {value!r}")
    if GIVEN in split.netloc and value != CHOSEN and (split.netloc != GIVEN or not split.scheme.startswith("smtp")):
        raise TypeError(f"{field.name} may leave only {CHOSEN} or a mail server to the operator, not {value!r}")
    if "@" in split.netloc or split.query or split.fragment or not _PATH.fullmatch(split.path):
        raise TypeError(f"{field.name} must be scheme, host and path only, not {value!r}")


@attrs.frozen
class Host:
    """A host that a plugin connects to: the address, with the scheme https, wss, smtps, or smtp (with STARTTLS).

    `smtp://*` and `smtps://*` are the mail server that the operator names in the plugin's secrets; `https://*` is the
    https host that he names in the setting HOST_PLUGIN_NAME, such as a company's own server. `requests_per_minute`: the
    vendor's limit for one credential, 0 without one; hosts that name the same `budget` share it. An instance may point
    any host to this machine with HOST_PLUGIN_NAME, such as HOST_EXAMPLE_TRADING=http://127.0.0.1:8080. Raises TypeError
    for anything that is not such an address.
    """

    url: str = attrs.field(validator=_address)
    requests_per_minute: int = attrs.field(default=0, kw_only=True, validator=attrs.validators.ge(0))
    budget: str = attrs.field(default="", kw_only=True)


def _schemas(_owner: object, field: attrs.Attribute[Mapping[str, Any]], value: object) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and name.strip() and (schema is None or attrs.has(schema))
        for name, schema in value.items()
    ):
        raise TypeError(f"{field.name} must map categories to attrs classes")


def _hosts(_owner: object, field: attrs.Attribute[Mapping[str, Host]], value: object) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) and isinstance(host, Host) for name, host in value.items()
    ):
        raise TypeError(f"{field.name} must map names such as trading to tbot_core.contracts.network.Host")


def _addresses(hosts: Mapping[str, Host]) -> frozenset[tuple[str, str]]:
    return frozenset((name, host.url) for name, host in hosts.items())


def host_setting_name(plugin: str, host: str) -> str:
    """The name of the setting of a plugin's host."""
    return f"HOST_{plugin}_{host}".upper()


def _shown(plugin: str, name: str, host: Host) -> str:
    if host.url == CHOSEN:
        return f"the https host that the operator sets in {host_setting_name(plugin, name)}"
    address = urlsplit(host.url).netloc
    return "the mail server of its secrets" if address == GIVEN else address


@attrs.frozen(kw_only=True)
class PluginNeeds:
    """A plugin's needs; the default needs nothing.

    `secrets`: the categories that it receives, each with the attrs class for its values (see
    `tbot_core.contracts.credentials`), or None if only the name is known, as in a lock; needs with the same names are
    equal. `hosts`: the hosts that it connects to through `Context.connect`, by a name in lower case; needs with the
    same names and addresses are equal. `own_network`: its library opens connections itself, to hosts that tbot does not
    see. `subprocess`: it starts programs. `orders`: it submits and cancels orders. Raises TypeError for other types.
    """

    secrets: Mapping[str, type[Any] | None] = attrs.field(factory=dict, validator=_schemas, eq=frozenset)
    hosts: Mapping[str, Host] = attrs.field(factory=dict, validator=_hosts, eq=_addresses)
    own_network: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    subprocess: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    orders: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> PluginNeeds:
        """The permissions of a `document`; raises KeyError or TypeError for anything else."""
        secrets, hosts = document["secrets"], document["hosts"]
        if not isinstance(secrets, list) or not isinstance(hosts, list):
            raise TypeError("secrets and hosts must be lists")
        named = (str(host).partition("=") for host in hosts)
        return cls(
            **{
                **document,
                "secrets": dict.fromkeys(secrets),
                "hosts": {name: Host(url) for name, _, url in named},
            }
        )

    @property
    def document(self) -> dict[str, object]:
        """The permissions as JSON, sets sorted; a host as NAME=ADDRESS."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("secrets", "hosts"), recurse=False)
        hosts = sorted(f"{name}={host.url}" for name, host in self.hosts.items())
        return {"secrets": sorted(self.secrets), "hosts": hosts, **fields}

    @property
    def request_limit(self) -> str:
        """The vendor's limit on requests as text, "" without one."""
        limits = sorted({host.requests_per_minute for host in self.hosts.values()} - {0})
        spread = "" if not limits else f"{limits[0]}" if len(limits) == 1 else f"{limits[0]} to {limits[-1]}"
        return f"at most {spread} requests a minute to each host" if spread else ""

    def sentence(self, plugin: str) -> str:
        """The permissions as text; a host that is the operator's choice is named by its setting of this plugin."""
        parts = ["order authority"] if self.orders else []
        parts += ["child processes"] if self.subprocess else []
        parts += [f"secrets {', '.join(sorted(self.secrets))}"] if self.secrets else []
        hosts = sorted({_shown(plugin, *one) for one in self.hosts.items()})
        parts += [f"hosts {', '.join(hosts)}"] if hosts else []
        parts += ["network connections of its own, to any host"] if self.own_network else []
        return "; ".join(parts) or "nothing"
