"""The permissions that a plugin needs beyond computing: shown for approval, and pinned by plugins.lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


def _schemas(_owner: object, field: attrs.Attribute[Mapping[str, Any]], value: object) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and name.strip() and (schema is None or attrs.has(schema))
        for name, schema in value.items()
    ):
        raise TypeError(f"{field.name} must map categories to attrs classes")


def _words(_owner: object, field: attrs.Attribute[frozenset[str]], value: object) -> None:
    if not isinstance(value, frozenset) or not all(isinstance(one, str) and one.strip() for one in value):
        raise TypeError(f"{field.name} must be a frozenset of words")


@attrs.frozen(kw_only=True)
class PluginNeeds:
    """A plugin's needs; the default needs nothing.

    `secrets`: the categories that it receives, each with the attrs class for its values (see
    `tbot_core.contracts.credentials`), or None if only the name is known, as in a lock; needs with the same names are
    equal. `hosts`: the names of the hosts that it connects to. `subprocess`: it starts programs. `orders`: it submits
    and cancels orders. Raises TypeError for other types.
    """

    secrets: Mapping[str, type[Any] | None] = attrs.field(factory=dict, validator=_schemas, eq=frozenset)
    hosts: frozenset[str] = attrs.field(default=frozenset(), validator=_words)
    subprocess: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    orders: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> PluginNeeds:
        """The permissions of a `document`; raises KeyError or TypeError for anything else."""
        secrets, hosts = document["secrets"], document["hosts"]
        if not isinstance(secrets, list) or not isinstance(hosts, list):
            raise TypeError("secrets and hosts must be lists")
        return cls(**{**document, "secrets": dict.fromkeys(secrets), "hosts": frozenset(hosts)})

    @property
    def document(self) -> dict[str, object]:
        """The permissions as JSON, sets sorted."""
        return attrs.asdict(self) | {"secrets": sorted(self.secrets), "hosts": sorted(self.hosts)}

    @property
    def sentence(self) -> str:
        """The permissions as text."""
        parts = ["order authority"] if self.orders else []
        parts += ["child processes"] if self.subprocess else []
        parts += [f"secrets {', '.join(sorted(self.secrets))}"] if self.secrets else []
        parts += [f"hosts {', '.join(sorted(self.hosts))}"] if self.hosts else []
        return "; ".join(parts) or "nothing"
