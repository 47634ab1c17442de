"""An instance with its folders, a recorder in place of the audit log, and a disk that fails on request."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.folder import Instance
from tbot_core.model.clock import ManualClock
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.vault.store import SecretStore
from tbot_core.vault.vault import SecretAccess, Vault

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.errors import VaultError


class Died(BaseException):
    """The process was killed: nothing of ours runs any more."""


class Disk(FileSystemCalls):
    """The disk, never waited for, with every call counted; call number `fails_at` raises `fault`.

    After Died all that follow do.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails_at: int | None = None
        self.fault: BaseException = Died()
        self.before: Any = None

    def step(self, name: str) -> None:
        """Count a call, and fail when it is its turn."""
        number = len(self.calls)
        self.calls.append(name)
        if self.before is not None:
            self.before(number)
        if self.fails_at is not None and (
            number == self.fails_at or (number > self.fails_at and isinstance(self.fault, Died))
        ):
            raise self.fault


def _counted(name: str) -> Any:
    def call(self: Disk, *args: Any) -> Any:
        self.step(name)
        return None if name == "sync" else getattr(FileSystemCalls, name)(self, *args)

    return call


for _name in ("folder", "open", "status", "read", "seek", "write", "sync", "truncate", "lock", "rename", "remove"):
    setattr(Disk, _name, _counted(_name))


class Notes:
    """In place of the audit log: keeps each line, or refuses to."""

    def __init__(self) -> None:
        self.said: list[SecretAccess] = []
        self.fault: VaultError | None = None

    def record(self, access: SecretAccess) -> None:
        """Keep it."""
        if self.fault is not None:
            raise self.fault
        self.said.append(access)

    @property
    def words(self) -> list[tuple[str, str, str]]:
        """Action, category and outcome of each."""
        return [(it.action, it.category, it.outcome) for it in self.said]


@attrs.define(kw_only=True)
class Bench:
    """What a test of the vault works with."""

    instance: Instance
    disk: Disk
    notes: Notes
    clock: ManualClock
    deployment: DeploymentSettings = attrs.field(factory=DeploymentSettings)

    def vault(self, *, live: bool = True, **more: Any) -> Vault:
        """A vault of the instance."""
        more.setdefault("system", self.disk)
        return Vault(self.instance, self.deployment, clock=self.clock, audit=self.notes, live=live, **more)

    def store(self, *, strict: bool = True, **more: Any) -> SecretStore:
        """A store of the instance."""
        more.setdefault("system", self.disk)
        return SecretStore(instance=self.instance, deployment=self.deployment, clock=self.clock, strict=strict, **more)

    def path(self, name: str) -> Path:
        """A path in the instance."""
        return self.instance.home / name

    def fernet(self) -> None:
        """Write Fernet from now on."""
        self.deployment = DeploymentSettings(secrets_write_format="fernet")

    def quiet(self) -> None:
        """Forget what was counted and said."""
        self.disk.calls.clear()
        self.disk.fails_at = None
        self.disk.before = None
        self.notes.said.clear()


@pytest.fixture
def died() -> type[Died]:
    """The death of the process."""
    return Died


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An instance with folders for keys and secrets, and nothing in them."""
    (tmp_path / "storage" / "keys").mkdir(parents=True)
    (tmp_path / "storage" / "keys").chmod(0o700)
    (tmp_path / "storage" / "secrets").mkdir()
    (tmp_path / "data").mkdir()
    os.chmod(tmp_path, 0o755)  # noqa: PTH101
    clock = ManualClock(datetime(2026, 11, 24, 14, 30, tzinfo=UTC))
    return Bench(instance=Instance.at(tmp_path), disk=Disk(), notes=Notes(), clock=clock)
