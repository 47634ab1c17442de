"""The rules of logins: limits and times of the settings, the network a failure counts for, a budget of attempts."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

import attrs

from tbot_extension_web.access.login_store import LockRule

if TYPE_CHECKING:
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.model.clock import Clock

_IPV4_PREFIX: Final = 24
_IPV6_PREFIX: Final = 64


@attrs.frozen(kw_only=True)
class LoginRules:
    """The rules of logins, in the units of their settings; `attempts_per_s` bounds the hashing of all sources."""

    attempt_limit: int = 10
    lockout_minutes: int = 15
    idle_s: float = 3_000.0
    absolute_minutes: int = 120
    step_up_s: float = 300.0
    attempts_per_s: float = 10.0
    burst: int = 20
    with_roles: bool = True
    """RBAC_ENABLED; without roles every account is admin."""
    totp_required: bool = False
    """Whether an account without one-time passwords is refused, as on an address that other machines reach."""

    @classmethod
    def of(cls, deployment: DeploymentSettings, *, with_roles: bool, totp_required: bool = False) -> LoginRules:
        """The rules that the settings give."""
        return cls(
            attempt_limit=deployment.login_attempt_limit,
            lockout_minutes=deployment.login_lockout_minutes,
            idle_s=deployment.session_timeout,
            absolute_minutes=deployment.session_timeout_minutes,
            with_roles=with_roles,
            totp_required=totp_required,
        )

    @property
    def absolute_s(self) -> float:
        """How long a session may last, in seconds."""
        return self.absolute_minutes * 60.0

    @property
    def lock(self) -> LockRule:
        """The rule of locks."""
        return LockRule(limit=self.attempt_limit, span_s=self.lockout_minutes * 60.0)

    @property
    def refusal(self) -> str:
        """The sentence of every refused login."""
        return (
            "Name, password or code is wrong, or logins are locked after too many failures. Try again; if it still "
            f"fails, wait {self.lockout_minutes} minutes, or ask an admin."
        )


def source_prefix(source: str) -> str:
    """The network for which failures count: of an IPv4 address the /24, of IPv6 the /64; "" for this machine.

    A text that is no address is one network.
    """
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return ""
    length = _IPV4_PREFIX if address.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((address, length), strict=False))


class TokenBucket:
    """A budget of attempts of all sources; `rate` come back each second, up to `most`."""

    def __init__(self, rate: float, most: int, clock: Clock) -> None:
        self._rate, self._most, self._clock = rate, most, clock
        self._left, self._since = float(most), clock.monotonic()

    def draw(self) -> bool:
        """Take an attempt from the budget; False where none is left."""
        now = self._clock.monotonic()
        self._left = min(self._most, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
