"""The kit for alert channels finds what it is for: each broken channel fails its case, an honest one none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest

from tbot_core.contracts import Alert
from tbot_core.errors import Undelivered
from tbot_core.testing import alert as kit

CASES = {case.__name__[:3]: case for case in kit.CASES}


@attrs.define
class Subject:
    """A channel and its service; `spoil` may change or refuse what arrives."""

    spoil: Callable[[Subject, Alert], str | None] = lambda _self, alert: alert.text
    inbox: list[str] = attrs.field(factory=list)
    down: bool = False
    silent: bool = False
    loud: bool = False

    @property
    def channel(self) -> Any:
        """It is its own."""
        return self

    async def send(self, alert: Alert) -> None:
        """Keep what arrives."""
        if self.down and not self.silent:
            raise Undelivered("made unreachable")
        text = self.spoil(self, alert)
        if text is not None:
            self.inbox.append(text)

    async def acknowledge(self, alert: Alert) -> None:
        """Nothing is kept of it, unless `loud`."""
        if self.loud:
            self.inbox.append(alert.text)

    async def check_connection(self) -> str:
        """Nothing is kept of it, unless `loud`."""
        if self.down and not self.silent:
            raise Undelivered("made unreachable")
        if self.loud:
            self.inbox.append("a check")
        return "here"

    def arrived(self) -> list[str]:
        """What arrived."""
        return self.inbox

    def fail(self) -> bool:
        """Out of reach from now on."""
        self.down = True
        return True

    def wait(self, call: Coroutine[Any, Any, None]) -> None:
        """Await a call."""
        asyncio.run(call)


def check(case: str, subject: Any) -> None:
    """Run one case."""
    CASES[case](subject)


def refuse(words: str) -> Callable[[Subject, Alert], str | None]:
    """A service that takes no message with these words."""

    def spoil(_subject: Subject, alert: Alert) -> str | None:
        if words in repr(alert):
            raise Undelivered("not this one")
        return alert.text

    return spoil


def once(subject: Subject, alert: Alert) -> str | None:
    """A service that takes a key once."""
    if subject.inbox:
        raise Undelivered("known already")
    return alert.text


@pytest.mark.parametrize("case", sorted(CASES))
def test_an_honest_channel_passes(case: str) -> None:
    """No case asks for what the contract does not."""
    check(case, Subject())


@attrs.frozen
class Mute:
    """A service whose channel is none."""

    channel: object = None


@pytest.mark.parametrize(
    ("case", "broken"),
    [
        ("a01", Mute()),
        ("a02", Subject(spoil=lambda _self, _alert: None)),
        ("a02", Subject(spoil=lambda _self, alert: alert.title)),
        ("a03", Subject(spoil=refuse("resolved=True"))),
        ("a04", Subject(spoil=once)),
        ("a04", Subject(spoil=lambda _self, _alert: None)),
        ("a05", Subject(spoil=refuse("xxx"))),
        ("a05", Subject(spoil=lambda _self, alert: alert.text[-100:])),
        ("a06", Subject(silent=True)),
        ("a07", Subject(loud=True)),
        ("a08", Subject(loud=True)),
        ("a08", Subject(silent=True)),
    ],
)
def test_a_broken_channel_fails_its_case(case: str, broken: Any) -> None:
    """Each way of being wrong is found by the case that is there for it."""
    with pytest.raises((AssertionError, Undelivered, pytest.fail.Exception)):
        check(case, broken)
