"""What every test may lean on: shared data, the same numbers each time, no way out for data or secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from pytest_socket import socket_allow_hosts

from tbot_core.testing.canaries import canary, leaks, shows
from tbot_core.testing.ledger_check import unbalanced

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent

VENDORS = ("APCA_API_SECRET_KEY", "FINNHUB_API_KEY", "IB_PASSWORD")
"""Variables of vendors that hold a canary while the tests run, and in their children."""

SAID = pytest.StashKey[str]()
_looked_through: set[Path] = set()

hypothesis.settings.register_profile(
    "tbot", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("wide", parent=hypothesis.settings.get_profile("tbot"), max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tbot"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the repository, or `TBOT_SHARED`; skips where it is absent."""
    folder = Path(os.environ.get("TBOT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}: set TBOT_SHARED to the folder that holds data/")
    return folder


@pytest.fixture
def loopback(socket_enabled: None) -> None:  # noqa: ARG001  -- a fixture wanted for its effect
    """Lets a test reach servers of its own on this machine, and nothing else."""
    socket_allow_hosts(["127.0.0.1", "::1"])


@pytest.fixture
def spoken() -> Iterator[Callable[[bytes | None], None]]:
    """Says something on this process's standard input, or ends it (None); what stood there before comes back."""
    kept = os.dup(0)
    ours, theirs = os.pipe()
    os.dup2(ours, 0)
    os.close(ours)
    said = [theirs]

    def say(words: bytes | None) -> None:
        if words is None:
            os.close(said.pop())
        else:
            os.write(said[0], words)

    yield say
    for left in said:
        os.close(left)
    os.dup2(kept, 0)
    os.close(kept)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a test said on its streams and nobody read."""
    report = yield
    item.stash[SAID] = report.capstdout + report.capstderr
    return report


@pytest.fixture
def capsys(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """What pytest gives; what a test reads of its streams is looked through too."""
    read = capsys.readouterr

    def looked_through() -> Any:
        said = read()
        _refuse_what_shows(said.out + said.err)
        return said

    capsys.readouterr = looked_through  # type: ignore[method-assign]
    return capsys


@pytest.fixture(autouse=True)
def _no_canary_gets_out(request: pytest.FixtureRequest) -> Iterator[None]:
    # No secret that a test planted, in any encoding, is in its streams or in a file below its folder when it ends.
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    _refuse_what_shows(request.node.stash.get(SAID, ""))
    if folder is not None:
        _looked_through.add(folder)
        _refuse_leaks(folder)


@pytest.fixture(autouse=True)
def _every_journal_balances(request: pytest.FixtureRequest) -> Iterator[None]:
    # I4, I5: the ledger of each journal that a test leaves has the cash and the holdings of its closed sessions.
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    for path in sorted(folder.rglob("tbot.sqlite")) if folder is not None else ():
        if wrong := unbalanced(path):
            pytest.fail(f"{path}: {wrong}")


@pytest.fixture(scope="session", autouse=True)
def _canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Plants canaries in the environment, and at the end looks through the folders that several tests share.
    with pytest.MonkeyPatch.context() as patch:
        for name in VENDORS:
            patch.setenv(name, canary(name))
        yield
    for folder in tmp_path_factory.getbasetemp().iterdir():
        if folder.is_dir() and not folder.is_symlink() and folder not in _looked_through:
            _refuse_leaks(folder)


def _refuse_what_shows(said: str) -> None:
    if shows(said):
        pytest.fail("a canary got out into stdout or stderr")


def _refuse_leaks(folder: Path) -> None:
    if found := leaks(folder):
        pytest.fail(f"a canary got out into {', '.join(str(path) for path in found)}")
