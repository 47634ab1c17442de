"""The email channel keeps the contract of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tbot_alert_email.venue import MailVenue, open_venue

from tbot_core.testing.alert import AlertContract

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("loopback")


class TestContract(AlertContract):
    """The contract, before the plugin's own server."""

    @pytest.fixture
    def service(self) -> Iterator[MailVenue]:
        """A server that accepts every mail."""
        with open_venue() as found:
            yield found
