"""An instance with accounts, a login store and a clock whose wall time can be set, for the tests of access."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.login_rules import LoginRules
from tbot_extension_web.access.login_store import FILE_NAME, LoginStore
from tbot_extension_web.access.logins import LoggedIn, Logins
from tbot_extension_web.access.one_time_link import OneTimeLink
from tbot_extension_web.access.passwords import HashParameters, PasswordHasher
from tbot_extension_web.access.security_log import SecurityLog

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.folder import Instance
from tbot_core.model.clock import ManualClock
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.vault import audit_log
from tbot_core.vault.store import SecretStore
from tbot_core.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

START = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
CHEAP = HashParameters(memory_kib=8, iterations=1)
PASSWORD = "velvet otter quarry"


class SetClock(ManualClock):
    """A manual clock whose wall time an administrator sets; `boot` makes the machine's other clock begin anew."""

    def __init__(self, start: dt.datetime) -> None:
        super().__init__(start)
        self.offset = dt.timedelta()
        self.booted_s = 0.0

    def now(self) -> dt.datetime:
        """The wall time."""
        return super().now() + self.offset

    def monotonic(self) -> float:
        """Seconds since the boot."""
        return super().monotonic() - self.booted_s

    def set_by(self, **shift: float) -> None:
        """Set the wall time by so much."""
        self.offset += dt.timedelta(**shift)

    def boot(self) -> None:
        """Begin a boot."""
        self.booted_s = super().monotonic()


class Killed(BaseException):
    """The process was killed."""


class Disk(FileSystemCalls):
    """The disk, not waited for; the process is killed at call number `dies_at`."""

    def __init__(self) -> None:
        self.dies_at: int | None = None

    def open(self, name: str, flags: int, folder: int) -> int:
        """Open a file."""
        self._step()
        return super().open(name, flags, folder)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Write."""
        self._step()
        return super().write(handle, data)

    def sync(self, handle: int) -> None:  # noqa: ARG002  -- as the base
        """Do not wait."""
        self._step()

    def rename(self, old: str, new: str, folder: int) -> None:
        """Rename."""
        self._step()
        super().rename(old, new, folder)

    def _step(self) -> None:
        if self.dies_at is not None:
            self.dies_at -= 1
            if self.dies_at < 0:
                raise Killed


@attrs.define(kw_only=True)
class Access:
    """What a test of access works with; `start` is a start of the process."""

    home: Path
    clock: SetClock
    vault: Vault
    rules: LoginRules = attrs.field(factory=LoginRules)
    boot: str = "boot 1"
    hasher: PasswordHasher = attrs.field(factory=lambda: PasswordHasher(CHEAP))
    accounts: Accounts = attrs.field(init=False)
    store: LoginStore = attrs.field(init=False)
    logins: Logins = attrs.field(init=False)
    link: OneTimeLink = attrs.field(init=False)
    runner: asyncio.Runner = attrs.field(factory=asyncio.Runner)
    _opened: list[LoginStore] = attrs.field(factory=list)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await in the one loop of the process."""
        return self.runner.run(work)

    def start(self, **rules: Any) -> None:
        """Start the process again, with these rules besides."""
        self.close()
        self.rules = attrs.evolve(self.rules, **rules)
        security = SecurityLog(vault=self.vault)
        self.accounts = Accounts(security, self.hasher, ("US_TX_SIM_B01",))
        self.store = LoginStore(self.home / "data" / FILE_NAME, self.clock, self.boot)
        self._opened.append(self.store)
        self.logins = Logins(self.accounts, self.store, self.hasher, security, self.rules)
        self.link = OneTimeLink(self.accounts, self.store)

    def close(self) -> None:
        """Close the store."""
        for one in self._opened:
            one.close()
        self._opened.clear()

    def reboot(self) -> None:
        """Boot the machine, and start the process."""
        self.boot = f"{self.boot}+"
        self.clock.boot()
        self.start()

    def log_in(self, name: str = "alice", password: str = PASSWORD, code: str = "", source: str = "127.0.0.1") -> Any:
        """Try a login, after a pause that the budget of attempts needs."""
        self.clock.advance(0.1)
        return self.do(self.logins.log_in(name, password, code, source, "Firefox"))

    def token(self, name: str = "alice", **more: Any) -> str:
        """The token of a login that succeeds."""
        answer = self.log_in(name, **more)
        assert isinstance(answer, LoggedIn)
        return answer.token

    def fail(self, times: int, name: str = "alice", source: str = "127.0.0.1") -> None:
        """Fail this often."""
        for _ in range(times):
            assert not isinstance(self.log_in(name, "wrong wrong wrong", source=source), LoggedIn)

    def add(self, name: str, role: Role = Role.VIEWER) -> None:
        """Add a user with the password of all tests."""
        self.do(self.accounts.add(name, PASSWORD, role, actor="alice"))

    def log(self) -> list[tuple[str, str, str]]:
        """Actor, action and outcome of the lines of the security log, those of the vault apart."""
        lines = audit_log.log_entries(audit_log.log_path(self.vault.instance))
        own = {"login", "logout", "lock", "unlock", "step-up", "account"}
        return [(it.actor, it.action, it.outcome) for it in lines if it.action in own]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Access]:
    """An instance without accounts."""
    instance, clock, deployment = Instance.at(tmp_path), SetClock(START), DeploymentSettings()
    for folder in ("data", "storage/keys", "storage/secrets"):
        (tmp_path / folder).mkdir(parents=True, mode=0o700)
    store = SecretStore(instance=instance, deployment=deployment, clock=clock, strict=True, system=Disk(), wait_s=5)
    vault = audit_log.open_vault(store, "tests")
    vault.make_key("audit")
    made = Access(home=tmp_path, clock=clock, vault=vault)
    made.start()
    yield made
    made.close()
    made.runner.close()


@pytest.fixture
def access(empty: Access) -> Access:
    """An instance with an admin, alice."""
    empty.add("alice", Role.ADMIN)
    return empty
