"""A mail server of its own, to test the channel with."""

from __future__ import annotations

import asyncio
import email
import email.policy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tbot_alert_email import NEEDS, Config, SmtpCredentials, create
from tbot_core.contracts import Context
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.system import log
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_mail_server import ScriptedMailServer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from tbot_core.model.clock import Clock

RECIPIENTS: Final = ("first@example.com", "second@example.com")


class MailVenue:
    """The channel and the server behind it, in one event loop."""

    def __init__(self, runner: asyncio.Runner, server: ScriptedMailServer, folder: Path) -> None:
        self._runner, self.server = runner, server
        clock = SystemClock()
        connector = Connector(
            plugin="alert email",
            hosts=NEEDS.hosts,
            addresses={"starttls": server.url},
            clock=clock,
            budgets=RequestBudgets(clock),
            timeout_s=2.0,
        )
        secrets = SmtpCredentials(
            host="mail.example.com",
            user="bot@example.com",
            password=Secret("a-password-of-tests"),
            recipients=RECIPIENTS,
        )
        self.context = Context(
            clock=clock,
            log=log.logger("tbot.alert.email"),
            data_dir=folder,
            secrets={"smtp": secrets},
            connect=connector,
        )
        self.channel = create(Config(), self.context)

    def arrived(self) -> list[str]:
        """The texts of the mails."""
        return [mail_text(mail) for mail in self.server.mails]

    def received(self) -> list[str]:
        """The subject of each mail, and to whom it went."""
        parsed = [_parsed(mail) for mail in self.server.mails]
        return [f"to {one['to']}: {' '.join(one['subject'].split())}" for one in parsed]

    def fail(self) -> bool:
        """Stop the server."""
        self._runner.run(self.server.__aexit__())
        return True

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of the channel and the server; returns its result."""
        return self._runner.run(call)


def mail_text(received: str) -> str:
    """The text of a mail as the server received it, with the dots that SMTP doubles."""
    return str(_parsed(received).get_content())


def _parsed(received: str) -> Any:
    raw = received.removesuffix("\r\n.\r\n").replace("\r\n..", "\r\n.")
    return email.message_from_string(raw, policy=email.policy.default)


@contextmanager
def open_venue(runner: asyncio.Runner | None = None, _clock: Clock | None = None) -> Iterator[MailVenue]:
    """A server that accepts every mail and login; a rehearsal brings its own event loop and clock."""
    from pathlib import Path

    with asyncio.Runner() as own:
        runner = runner or own
        server = ScriptedMailServer()
        runner.run(server.__aenter__())
        try:
            yield MailVenue(runner, server, Path())
        finally:
            runner.run(server.__aexit__())
