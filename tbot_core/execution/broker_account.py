"""A broker's account as orders are sent to it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tbot_core.contracts import Broker
from tbot_core.execution.send_permit import SendRefusal, never_refuse
from tbot_core.execution.throttling import RetryPolicy


@attrs.frozen(kw_only=True)
class BrokerAccount:
    """Where orders go: the broker, its name, the account that it reported, and who may still refuse an order.

    `patience`: how often what may be asked twice is asked again. `sight` receives each reading, "" for an answer and
    else why there was none; without it, one that failed to the end leaves exits only for the session. `absent`:
    nobody could log in there yet.
    """

    broker: Broker
    name: str
    account_id: str
    denial_reason: SendRefusal = never_refuse
    retry_policy: RetryPolicy = attrs.field(factory=RetryPolicy)
    on_read_result: Callable[[str], None] | None = None
    not_logged_in: bool = False
