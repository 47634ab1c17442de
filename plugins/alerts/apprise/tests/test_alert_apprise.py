"""The apprise channel over real connections: what a service receives, each failure, and that no address is shown."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from tbot_alert_apprise import ADDRESSES, AppriseAddresses, Config, create, tbot_alert
from tbot_alert_apprise.addresses import LONGEST_TEXT, compose_notification, service_names, split_addresses
from tbot_alert_apprise.services import CONNECT_S, READ_S, BlockingService, find_service
from tbot_alert_apprise.venue import KEY, JsonVenue, open_venue

from tbot_core.contracts import Alert, SupportsAcknowledgement, SupportsConnectionCheck, Urgency
from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import PartlyDelivered, Undelivered
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.system.secret import Secret
from tbot_core.testing.alert import AlertContract
from tbot_core.testing.scripted_server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.contracts import AlertChannel

pytestmark = pytest.mark.usefixtures("loopback")

ALERT = Alert(
    key="US_NY_PAPER_001-17-20261124T150000",
    urgency=Urgency.CRITICAL,
    title="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.",
    text="[PAPER US_NY_PAPER_001] ACME has no stop for 1 s: 12 shares.\n15:00 UTC\nNext: tbot why ACME",
    time=dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC),
)


@pytest.fixture
def service() -> Iterator[JsonVenue]:
    """A server that accepts every message."""
    with open_venue() as found:
        yield found


class TestContract(AlertContract):
    """The contract before the plugin's own server."""


def with_addresses(venue: JsonVenue, *addresses: str) -> AlertChannel:
    """The channel with other addresses."""
    secrets = {"alert": AppriseAddresses(urls=Secret(" ".join(addresses)))}
    return create(Config(), attrs.evolve(venue.context, secrets=secrets))


def test_an_alert_is_one_message(service: JsonVenue) -> None:
    """Title, text and type; no picture."""
    assert service.wait(service.channel.send(ALERT)) == "accepted by json"
    (request,) = service.server.requests
    assert request.path == f"/{KEY}"
    found = request.document
    assert (found["title"], found["message"]) == (ALERT.title, "15:00 UTC\nNext: tbot why ACME")
    assert found["type"] == "failure"
    assert not found.get("attachments")


@pytest.mark.parametrize(
    ("alert", "kind"),
    [
        (ALERT, "failure"),
        (attrs.evolve(ALERT, urgency=Urgency.ROUTINE), "info"),
        (attrs.evolve(ALERT, resolved=True), "success"),
    ],
)
def test_the_type_is_the_urgency(alert: Alert, kind: str) -> None:
    """Many services show it as a colour."""
    assert compose_notification(alert)["notify_type"] == kind


def test_a_long_text_is_cut() -> None:
    """And an alert that is a title only has it as its text."""
    found = compose_notification(attrs.evolve(ALERT, title="x" * 5_000, text="y" * 5_000))
    assert (len(found["title"]), len(found["body"])) == (LONGEST_TEXT // 10, LONGEST_TEXT)
    assert compose_notification(attrs.evolve(ALERT, text=ALERT.title))["body"] == ALERT.title


def test_every_address_gets_it_and_a_failed_one_is_named(service: JsonVenue) -> None:
    """By its scheme and number; the alert counts as delivered by the other one."""
    other = f"{service.address}/other"
    channel = with_addresses(service, service.address, other)
    assert service.wait(channel.send(ALERT)) == "accepted by json (address 1), json (address 2)"
    service.server.fail(ServerFault.SERVER_ERROR, path=f"/{KEY}/other")
    with pytest.raises(PartlyDelivered, match=r"Not by json \(address 2\); delivered by json \(address 1\)\.") as found:
        service.wait(channel.send(ALERT))
    assert KEY not in str(found.value)


@pytest.mark.parametrize(
    "fault", [ServerFault.SERVER_ERROR, ServerFault.LOST_REPLY, ServerFault.TOO_MANY, ServerFault.LOGIN]
)
def test_false_is_a_failure_and_no_address_is_shown(
    service: JsonVenue, fault: ServerFault, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the error nor in a library's log."""
    service.server.fail(fault, times=None)
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered, match=r"^Not delivered by json\.") as found:
        service.wait(service.channel.send(ALERT))
    assert KEY not in f"{found.value} {found.value.__cause__} {caplog.text}"
    assert "127.0.0.1" not in str(found.value)


def test_the_event_loop_does_not_wait_for_a_service() -> None:
    """A call that hangs holds neither the loop nor, when it is cancelled, the one who asked; the next call waits."""

    class Slow:
        def __init__(self) -> None:
            self.let_go, self.calls = threading.Event(), 0

        def notify(self, **_arguments: object) -> bool:
            self.calls += 1
            return self.let_go.wait(5)

    slow = Slow()

    async def use() -> None:
        channel = BlockingService(cast("Any", slow))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await channel.notify({})
        waiting = [asyncio.ensure_future(channel.notify({})) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert (slow.calls, [one.done() for one in waiting]) == (1, [False, False])
        slow.let_go.set()
        assert await asyncio.gather(*waiting) == [True, True]

    asyncio.run(use())
    assert slow.calls == 3


def test_the_end_of_the_loop_is_no_error() -> None:
    """A thread that returns after the run has ended is not noticed."""

    class Slow:
        def __init__(self) -> None:
            self.let_go, self.threads = threading.Event(), list[threading.Thread]()

        def notify(self, **_arguments: object) -> bool:
            self.threads.append(threading.current_thread())
            self.let_go.wait(5)
            raise OSError(KEY)

    slow = Slow()

    async def use() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await BlockingService(cast("Any", slow)).notify({})

    asyncio.run(use())
    slow.let_go.set()
    (thread,) = slow.threads
    thread.join(5)
    assert not thread.is_alive()


def test_what_a_library_raises_is_a_failure() -> None:
    """Its words may contain the address, so they are dropped."""

    class Broken:
        def notify(self, **_arguments: object) -> bool:
            raise ValueError(KEY)

    async def use() -> bool:
        return await BlockingService(cast("Any", Broken())).notify({})

    assert not asyncio.run(use())


def test_the_time_limits_are_short() -> None:
    """Also where an address, or a service, has longer ones; shorter ones stay, and so does another overflow mode."""
    for address, connect, read, overflow in (
        ("json://127.0.0.1:9?cto=60&rto=60", CONNECT_S, READ_S, "truncate"),
        ("json://127.0.0.1:9?cto=1&rto=2&overflow=split", 1.0, 2.0, "split"),
        ("mailto://user:pass@gmail.com", CONNECT_S, READ_S, "truncate"),
    ):
        found: Any = find_service(address)
        assert (found.socket_connect_timeout, found.socket_read_timeout) == (connect, read)
        assert found.overflow_mode.value == overflow


@pytest.mark.parametrize(
    "written",
    ["json://127.0.0.1", " json://a  discord://123456789/abcdefgh ", '["json://a", "jsons://b?x=a,b"]'],
)
def test_addresses_are_checked_when_they_are_stored(written: str) -> None:
    """One or several, with blanks between them or as a list; they are passed on as they are written."""
    assert ADDRESSES.parse(written) == ADDRESSES.show(written) == written


@pytest.mark.parametrize(
    "written", ["", "nonsense", "nonsense://x", "json://a nonsense", "json://", '["json://a", 1]', "[", "[]"]
)
def test_what_is_no_address_is_refused(written: str) -> None:
    """One wrong address is enough, and the error does not show it."""
    with pytest.raises(ValueError, match=r"^(?:not an address of Apprise's|no list of text|.*JSON.*)$") as found:
        ADDRESSES.parse(written)
    assert "nonsense" not in str(found.value)


def test_an_address_that_was_stored_before_it_was_checked_is_named(service: JsonVenue) -> None:
    """By its scheme; nothing is sent to the others."""
    channel = with_addresses(service, service.address, f"nonsense://{KEY}")
    with pytest.raises(Undelivered, match=r"does not know the address nonsense \(address 2\)\.") as found:
        service.wait(channel.send(ALERT))
    assert KEY not in str(found.value)
    assert not service.server.requests


def test_an_address_that_makes_the_library_fail_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises is dropped."""
    import apprise

    def fail(*_arguments: object, **_options: object) -> None:
        raise TypeError(KEY)

    monkeypatch.setattr(apprise.Apprise, "instantiate", fail)
    assert find_service("json://a") is None


def test_names_show_nothing_but_schemes() -> None:
    """The number is there where it says which one is meant."""
    assert service_names(split_addresses("JSON://a/b")) == ("json",)
    assert service_names(split_addresses("json://a slack://b")) == ("json (address 1)", "slack (address 2)")


def test_its_secrets_are_those_that_the_core_knows() -> None:
    """But for the check of an address, which needs Apprise."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("alert", "apprise"))
    (mine,), (other,) = secret_fields(AppriseAddresses).values(), known.secrets["alert"].values()
    assert attrs.evolve(mine, kind=other.kind) == other


def test_it_offers_itself_with_its_needs(service: JsonVenue) -> None:
    """A network of its own; it can neither check a connection nor acknowledge."""
    offer = tbot_alert()
    assert (offer.name, offer.config, offer.venue is not None) == ("apprise", Config, True)
    assert offer.needs.sentence("x") == "secrets alert; network connections of its own, to any host"
    assert not isinstance(service.channel, SupportsConnectionCheck)
    assert not isinstance(service.channel, SupportsAcknowledgement)
