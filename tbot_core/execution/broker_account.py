"""The broker account that orders are sent to."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tbot_core.execution.broker_port import BrokerPort, port_of
from tbot_core.execution.circuit_breaker import CircuitBreaker
from tbot_core.execution.send_permit import SendRefusal, never_refuse
from tbot_core.execution.sole_install import SoleInstallCheck
from tbot_core.plugins.network.request_limits import RetryPolicy


@attrs.frozen(kw_only=True)
class BrokerAccount:
    """The broker, its name, its account id, and the last check before an order is sent.

    `retry_policy`: retries of requests that may be repeated. `on_read_result` receives each reading's result, "" for
    success, else the error; without it a failed reading allows exits only for the session. `not_logged_in`: the login
    has not succeeded yet. `circuit`: the circuit breaker of its connection, where another broker may take over; None
    without one. `sole_install` refuses a start beside another tbot install; None at a simulated venue.
    """

    broker: BrokerPort = attrs.field(converter=port_of)
    name: str
    account_id: str
    denial_reason: SendRefusal = never_refuse
    retry_policy: RetryPolicy = attrs.field(factory=RetryPolicy)
    on_read_result: Callable[[str], None] | None = None
    not_logged_in: bool = False
    circuit: CircuitBreaker | None = None
    sole_install: SoleInstallCheck | None = None
