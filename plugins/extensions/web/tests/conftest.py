"""A page whose sessions are given, over an instance that is none: what its routes refuse needs no bot."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.app import create_app
from tbot_extension_web.headers import Origin
from tbot_extension_web.site import Site
from tbot_extension_web.testing.client import HOST
from tbot_extension_web.testing.given_sessions import GivenSessions

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets
from tbot_core.model.clock import ManualClock
from tbot_core.status.trades import trades_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@pytest.fixture
def logins() -> GivenSessions:
    """The sessions of the page."""
    return GivenSessions()


@pytest.fixture
def site(tmp_path: Path, logins: GivenSessions) -> Site:
    """The page of an empty folder."""
    origin = Origin(scheme="http", hosts=frozenset({HOST}))
    return Site(tmp_path / "bot", ManualClock(NOW), origin, logins, "ACME_US_PAPER_B01")


@pytest.fixture(scope="session")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo that has run to its end; tests only read it."""
    home = tmp_path_factory.mktemp("demo") / "instance"
    assert cli.invoke(["run", "--demo", "--sessions", "1", "--home", str(home), "--json"]) == 0
    return home


@pytest.fixture(scope="session")
def held(traded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The demo as it was when its first trade was open, and that trade as it became."""
    first = trades_document(traded)["trades"][0]
    home = tmp_path_factory.mktemp("held") / "instance"
    (source,) = (traded / "data" / "runs").glob("*.sqlite")
    path = home / "data" / "runs" / source.name
    path.parent.mkdir(parents=True)
    shutil.copy(traded / ".env_bot", home)
    with closing(sqlite3.connect(source)) as whole, closing(sqlite3.connect(path)) as journal:
        whole.backup(journal)
        (seq,) = journal.execute(
            "SELECT min(seq) FROM events WHERE kind = 'fill' AND payload LIKE ?", (f'%"{first["symbol"]}"%',)
        ).fetchone()
        journal.execute("DELETE FROM events WHERE seq > ?", (seq + 3,))
        journal.commit()
    return home, first


@pytest.fixture
def site_of(logins: GivenSessions) -> Callable[[Path], Site]:
    """Makes what the page of an instance shares."""
    origin = Origin(scheme="http", hosts=frozenset({HOST}))
    return lambda home: Site(home, ManualClock(NOW), origin, logins)


@pytest.fixture
def app_of(site_of: Callable[[Path], Site]) -> Callable[[Path], ASGIApp]:
    """Makes the page of an instance."""
    return lambda home: create_app(site_of(home))


@pytest.fixture
def traded_app(traded: Path, app_of: Callable[[Path], ASGIApp]) -> ASGIApp:
    """The page of the demo."""
    return app_of(traded)


@pytest.fixture
def app(site: Site) -> ASGIApp:
    """The page as an application."""
    return create_app(site)


@pytest.fixture
def sealed(site: Site) -> Iterator[Path]:
    """The folder of the page as an instance with encrypted settings."""
    secrets.forget_passphrases()
    vault = secrets.open_instance_vault(Instance(site.home), DeploymentSettings())
    secrets.encrypt_category(vault, "env", b"EXTENSIONS=none\n")
    secrets.encrypt_category(vault, "env_bot", b"# mine\nBROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nMAX_TRADES=3\n")
    yield site.home
    secrets.forget_passphrases()
