"""An instance in which the demo has traded, and brokers that are installed for a test."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import re
import signal
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.actions.plugin_development import write_plugin
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.discovery import GROUPS
from tbot_core.testing.canaries import canary
from tbot_core.vault import key_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEY = '    api_key: SecretValue = hidden_field(doc="Key of the account.")\n'
_MORE = """\
    mode: str = shown_field(choice("paper", "live"), default="paper", doc="Which account is used.")
    account_id: str = shown_field(text(pattern="[A-Z0-9-]{0,9}", allowed="capitals"), default="", doc="The account.")
"""
_CHANGES = {
    _KEY: _KEY + _MORE,
    "import attrs\n": "import attrs\n\nfrom tbot_core.contracts.setting import choice, text\n",
    "credentials import hidden_field": "credentials import hidden_field, shown_field",
    "requests_per_minute=240": "requests_per_minute=240_000",
}


@pytest.fixture(scope="module", autouse=True)
def _passphrases_cost_little() -> Iterator[None]:
    # A bundle's key takes a quarter of a second by design; tests/vault holds what it really costs. By module, so that
    # it ends before a case of another folder in the same process.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_providers, "MEMORY_KIB", 64)
        patch.setattr(key_providers, "ITERATIONS", 1)
        yield


@pytest.fixture(scope="session")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo that has run to its end; tests only read it."""
    home = tmp_path_factory.mktemp("demo") / "instance"
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(home), "--json"]) == 0
    return home


@pytest.fixture
def distant_weekday() -> str:
    """A weekday of TRADING_DAYS that is days away: a bot that starts now waits, also while the exchange is open."""
    weekdays = ("mon", "tue", "wed", "thu", "fri", "mon", "tue")
    return weekdays[(SystemClock().now() + dt.timedelta(days=3)).weekday()]


@pytest.fixture
def signals_enabled() -> Iterator[None]:
    """Ctrl-C and a hang-up arrive as in a terminal, also where the tests run in the background or under nohup."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hang_up)


@pytest.fixture(scope="module")
def simulated_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hides every broker and alert channel but `paper` and `console`, so that questions do not depend on them."""
    before, site = list(sys.path), tmp_path_factory.mktemp("few")
    folder = Path(sysconfig.get_path("purelib"))
    for one in folder.iterdir():
        if not re.match(r"tbot_(alert|broker)_(?!console|paper).*\.dist-info", one.name):
            (site / one.name).symlink_to(one)
    sys.path[:] = [str(site) if Path(one) == folder else one for one in before]
    importlib.invalidate_caches()
    yield
    sys.path[:] = before
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Installs the tutorial's broker, or its plugin of another kind, under a name; returns the package.

    The broker gets a choice of the account, and waits for no limit of requests.
    """
    before, names = list(sys.path), []

    def installed(name: str, kind: str = "broker") -> Any:
        made, whole = write_plugin(kind, name, tmp_path_factory.mktemp("site") / name), f"tbot_{kind}_{name}"
        package = made.folder / whole / "__init__.py"
        source = package.read_text()
        for old, new in _CHANGES.items() if kind == "broker" else ():
            assert old in source
            source = source.replace(old, new)
        package.write_text(source)
        described = made.folder / f"{whole}-0.1.0.dist-info"
        described.mkdir()
        needs = f"Name: {made.distribution}\nVersion: 0.1.0\nRequires-Dist: tbot-core>=1,<2\n"
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\n{needs}")
        (described / "entry_points.txt").write_text(f"[{GROUPS[kind]}]\n{name} = {whole}\n")
        sys.path.insert(0, str(made.folder))
        importlib.invalidate_caches()
        for one in [one for one in sys.modules if one.partition(".")[0] == whole]:
            del sys.modules[one]  # of the project's own plugin of this name
        names.append(whole)
        return importlib.import_module(whole)

    yield installed
    sys.path[:] = before
    for name in [one for one in sys.modules if one.partition(".")[0] in names]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def acme(install: Callable[..., Any]) -> Any:
    """The tutorial's broker, installed, with a choice of the account; its module of the venue."""
    install("acme")
    return importlib.import_module("tbot_broker_acme.venue")


@pytest.fixture
def address(acme: Any, loopback: None) -> Iterator[str]:  # noqa: ARG001  -- wanted for its effect
    """The address of the broker's venue on this machine, which knows the key."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    venue = acme.AcmeVenue(SystemClock(), canary("broker"))
    asyncio.run_coroutine_threadsafe(venue.server.__aenter__(), loop).result(10)
    yield venue.server.url
    asyncio.run_coroutine_threadsafe(venue.server.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
