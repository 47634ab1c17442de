"""The channel: one message to each address for each alert."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tbot_alert_apprise.addresses import compose_notification, service_names, split_addresses
from tbot_alert_apprise.services import BlockingService, find_service
from tbot_core.errors import PartlyDelivered, Undelivered

if TYPE_CHECKING:
    from tbot_core.contracts import Alert, Context

_EDIT: Final = "`tbot secrets edit alert` corrects it."
_REMEDY: Final = (
    "The service refused it, or was not reached within some seconds; Apprise does not say which. Try the address with "
    "Apprise's own command from the bot's machine, or correct it: `tbot secrets edit alert`."
)


class AppriseChannel:
    """Sends to all addresses of the secrets at the same time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._services: dict[str, BlockingService] = {}

    async def send(self, alert: Alert) -> str:
        """Send the alert; returns the services that accepted it, by their schemes."""
        services = self._services or self._found()
        arguments = compose_notification(alert)
        answers = await asyncio.gather(*(service.notify(arguments) for service in services.values()))
        failed = [name for name, accepted in zip(services, answers, strict=True) if not accepted]
        delivered = [name for name in services if name not in failed]
        if not failed:
            return f"accepted by {', '.join(delivered)}"
        if delivered:
            raise PartlyDelivered(f"Not by {', '.join(failed)}; delivered by {', '.join(delivered)}.", _REMEDY)
        raise Undelivered(f"Not delivered by {', '.join(failed)}.", _REMEDY)

    def _found(self) -> dict[str, BlockingService]:
        # At the first alert, since a trial of the plugin has no secrets.
        addresses = split_addresses(self._context.secrets["alert"].urls.reveal())
        found = {}
        for name, address in zip(service_names(addresses), addresses, strict=True):
            service = find_service(address)
            if service is None:
                raise Undelivered(f"Apprise does not know the address {name}.", _EDIT)
            found[name] = BlockingService(service)
        self._services = found
        return found
