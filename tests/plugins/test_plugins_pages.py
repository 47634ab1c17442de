"""Pages of plugins: each extension is asked for itself, and a failure of one is a sentence."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tbot_core.actions.plugin_pages import PluginPages, plugin_pages
from tbot_core.contracts.pages import Page, PageRequest
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery, lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

BODY = """
import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.pages import Page, PagePermission, PluginRoute
from tbot_core.contracts.setting import integer, setting

NAME = __name__.removeprefix("their_")


@attrs.frozen(kw_only=True)
class Config:
    months: int = setting(f"{NAME.upper()}_MONTHS", integer(least=1, most=12), default="3", doc="How many.")


@hookimpl
def tbot_extension():
    return Plugin(name=NAME, summary="Pages", config=Config, create=lambda config, context: config)


def route(config, context):
    title = f"{config.months} months in {context.data_dir.name}, {len(context.secrets)} secrets"
    return PluginRoute(permission=PagePermission.READ, answer=lambda request: Page(title=title))
"""
WITH_ROUTES = BODY + "\n\n@hookimpl\ndef tbot_routes(config, context):\n    return ROUTES\n"


def with_routes(text: str) -> str:
    """A plugin whose hook returns this."""
    return WITH_ROUTES.replace("ROUTES\n", f"{text}\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose extensions are all enabled."""
    folder = tmp_path / "bot"
    folder.mkdir()
    (folder / ".env_bot").write_text("STRATEGY_SEQUENCE=open\nMINE_MONTHS=5\n")
    return folder


def pages(home: Path) -> dict[str, PluginPages]:
    """The pages by plugin."""
    return {it.name: it for it in plugin_pages(home, SystemClock())}


def test_an_extension_gets_its_settings_and_a_folder_but_no_secrets(
    plant: Callable[..., EntryPointInfo], home: Path
) -> None:
    """What it returns are its routes; an extension without the hook has no entry."""
    plant("mine", with_routes("[route(config, context)]"), kind="extension")
    plant("silent", BODY, kind="extension")
    found = pages(home)
    (route,) = found["mine"].routes
    shown = route.answer(PageRequest(method="GET", path="", user="ann", role="viewer"))
    assert isinstance(shown, Page)
    assert shown.title == "5 months in extension-mine, 0 secrets"
    assert "silent" not in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("exit()", "SystemExit"),
        ("5", "no sequence"),
        ("['/users']", "no PluginRoute"),
        ("[route(config, context)] * 2", "same path"),
    ],
)
def test_a_hook_that_fails_is_a_sentence(
    plant: Callable[..., EntryPointInfo], home: Path, answer: str, reason: str
) -> None:
    """It names the extension and the reason; the pages of the others are there."""
    plant("mine", with_routes("[route(config, context)]"), kind="extension")
    plant("faulty", with_routes(answer), kind="extension")
    plant("broken", "1 / 0", kind="extension")
    found = pages(home)
    assert (found["faulty"].routes, found["broken"].routes) == ((), ())
    assert "The extension faulty (their-faulty 2.5) failed: its pages cannot be shown" in found["faulty"].fault
    assert reason in found["faulty"].fault
    assert "ZeroDivisionError" in found["broken"].fault
    assert len(found["mine"].routes) == 1


def test_settings_with_faults_leave_the_pages_out(plant: Callable[..., EntryPointInfo], home: Path) -> None:
    """The sentence says where the faults are listed."""
    plant("mine", with_routes("[route(config, context)]"), kind="extension")
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=open\nMINE_MONTHS=13\n")
    assert "`tbot config check`" in pages(home)["mine"].fault


def test_an_extension_that_the_settings_leave_out_is_not_asked(
    plant: Callable[..., EntryPointInfo], home: Path
) -> None:
    """EXTENSIONS names those that are."""
    plant("mine", with_routes("[route(config, context)]"), kind="extension")
    (home / ".env").write_text("EXTENSIONS=none\n")
    assert pages(home) == {}


def test_a_lock_decides_what_is_imported(
    plant: Callable[..., EntryPointInfo], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension that the lock does not approve is named and not imported."""
    monkeypatch.setattr(sys, "pycache_prefix", None)
    plant("mine", with_routes("[route(config, context)]"), kind="extension")
    plant("stranger", "1 / 0", kind="extension")
    (home / ".env").write_text("EXTENSIONS=mine,stranger\n")
    listings = discovery.mark_enabled(discovery.installed_plugins(), {("extension", "mine")})
    approval = lock.LockApproval(approver="me", date=datetime(2026, 11, 24, tzinfo=UTC))
    lock.write_lock(home, lock.make_lock(listings, {("extension", "mine"): PluginNeeds()}, approval))
    found = pages(home)
    assert len(found["mine"].routes) == 1
    assert "stranger" in found["stranger"].fault
    assert "their_stranger" not in sys.modules
