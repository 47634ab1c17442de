"""What the set-up tries before anything is made, and the client of the tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tbot_extension_web.setup import network_step, trials
from tbot_extension_web.setup.trials import try_broker, try_channels
from tbot_extension_web.testing.client import ask

from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.plugins.discovery import installed_plugins
from tbot_core.plugins.loader import PluginLoader


def state(**parts: Any) -> Any:
    """The answers of a set-up."""
    return SimpleNamespace(section=lambda *_names: {}, draft=SimpleNamespace(settings={}), **parts)


def test_a_broker_is_tried_by_its_login() -> None:
    """A simulation has none; one that is not installed cannot be tried."""
    loaded, _ = PluginLoader().offers([("broker", "paper")], installed_plugins())
    found = try_broker(state(texts={}, enabled=loaded))
    assert (found.passed, found.words) == (True, "It is a simulation: there is no login.")
    absent = try_broker(state(texts={"BROKER_NAME": "IBKR"}, enabled=loaded))
    assert (absent.passed, "ibkr is not installed" in absent.words) == (False, True)


def test_without_a_channel_that_has_a_login_none_is_tried() -> None:
    """That is said, and is no success."""
    found = try_channels(state(enabled=()))
    assert (found.passed, "none can be tried" in found.words) == (False, True)


def test_each_channel_with_a_login_is_tried_by_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them must answer, and what each answered is said; each has the settings of its hosts."""
    loaded, _ = PluginLoader().offers([("alert", "slack"), ("alert", "console")], installed_plugins())
    answer = DrillStep(what="slack", passed=True, words="sent")
    given: list[object] = []

    def tried(*parts: object) -> DrillStep:
        given.append(parts[-1])
        return answer

    monkeypatch.setattr(trials, "try_channel", tried)
    texts = {"HOST_SLACK_API": "http://127.0.0.1:1", "HOST_SLACK_OTHER": "x", "BROKER_NAME": "PAPER"}
    found = trials.try_channels(state(texts=texts, enabled=loaded))
    assert (found.passed, found.words) == (True, "slack: sent.")
    assert given == [{"HOST_SLACK_API": "http://127.0.0.1:1"}]


def test_in_a_rehearsal_a_test_says_whose_server_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the login and of the message: passed there is not passed at the real one."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    loaded, _ = PluginLoader().offers([("alert", "slack"), ("broker", "alpaca")], installed_plugins())
    answer = DrillStep(what="x", passed=True, words="account PA1 answers.")
    monkeypatch.setattr(trials, "try_channel", lambda *_parts: answer)
    monkeypatch.setattr(trials, "try_login", lambda *_parts, **_more: answer)
    given = state(texts={"BROKER_NAME": "ALPACA"}, enabled=loaded)
    where = "account PA1 answers. REHEARSAL (TBOT_REHEARSAL): that was its server on this machine."
    assert try_broker(given).words == where
    assert try_channels(given).words == f"x: {where}"


def test_an_address_that_cannot_be_is_a_fault_of_the_form() -> None:
    """With the sentence of the field."""
    (fault,) = network_step._faults(state(), {"port": "many"})
    assert "port" in fault[1]


def test_an_application_that_breaks_before_it_answers_breaks_the_test() -> None:
    """It is no answer."""

    async def broken(*_parts: Any) -> None:
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        ask(broken, "GET", "/")
