"""What every test may lean on: shared data, the same numbers each time, no way out for data or secrets."""

from __future__ import annotations

import gc
import logging
import math
import os
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from pytest_socket import socket_allow_hosts

from tbot_core.system import log
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
_MASK = os.umask(0o022)
os.umask(_MASK)

hypothesis.settings.register_profile(
    "tbot", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
_PROFILE = hypothesis.settings.get_profile("tbot")
PROFILES = {
    "": _PROFILE,
    "test": hypothesis.settings(_PROFILE, max_examples=20),
    "check": hypothesis.settings(_PROFILE, max_examples=80, derandomize=False, database=None),
    "full": hypothesis.settings(_PROFILE, max_examples=2000),
}
"""How properties are tried in each tier, and without one. `make check` gives a seed, so its examples are others."""

NUMBER = pytest.StashKey[int]()
BEFORE = pytest.StashKey[str]()
OVER_LIMIT = "over the limit of processor time"
_collected: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of a tier."""
    parser.addoption("--tier", choices=["test", "check", "full"], default="", help="only the cases of one make target")
    parser.addoption("--slow-above", type=float, default=1.0, help="seconds from which a case needs the marker `slow`")


def pytest_configure(config: pytest.Config) -> None:
    """Try properties as often as the tier demands; Ctrl-C interrupts, also where a shell started this with `&`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    tier = config.getoption("tier")
    config.stash[BEFORE] = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile(f"tier {tier}", PROFILES[tier])
    hypothesis.settings.load_profile(f"tier {tier}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave properties as they were found: a test may run pytest itself."""
    hypothesis.settings.load_profile(config.stash[BEFORE])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Number the cases of each test as they stand in its file, whatever order they run in."""
    if not item.get_closest_marker("full"):
        test = item.nodeid.partition("[")[0]
        item.stash[NUMBER] = _collected[test]
        _collected[test] += 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the cases of other tiers out."""
    if tier := config.getoption("tier"):
        others = [item for item in items if tier not in tiers(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if tier in tiers(item)]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without garbage collection, and leave what it made out of later rounds: an eighth of all tests' time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def tiers(item: pytest.Item) -> set[str]:
    """Where a case runs: in one tier. A property runs in each, with other examples or more of them."""
    if item.get_closest_marker("full"):
        return {"full"}
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return {"test", "check", "full"}
    first = item.get_closest_marker("first")
    running = first.args[0] if first else 1 if item.get_closest_marker("slow") else sys.maxsize
    return {"test" if item.stash[NUMBER] < running else "check"}


def measures(config: pytest.Config) -> bool:
    """Whether this run measures coverage."""
    return bool(config.pluginmanager.has_plugin("tools.coverage_plugin"))


def spent() -> float:
    """The seconds of processor time that this process and its children that ended have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Report a case that takes longer than its markers say; from three times the limit on it fails.

    Processor time counts, not the time on the wall, which says more of what else the machine does. It is halved, since
    a core that is shared with other work does half as much in it. There is no limit where coverage is measured: the
    time is then that of the measuring.
    """
    begun = spent()
    result = yield
    took = (spent() - begun) / 2
    second = item.config.getoption("slow_above")
    limit = 10 * second if item.get_closest_marker("slow") else second
    if item.config.getoption("tier") == "full" or item.get_closest_marker("full") or measures(item.config):
        limit = math.inf
    if took > limit:
        marker = "full" if took > 10 * second else "slow"
        line = f"takes {took:.1f} s of processor time: mark it `{marker}`, or make it shorter"
        if took > 3 * limit:
            pytest.fail(line)
        item.user_properties.append((OVER_LIMIT, line))
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the cases that took longer than their markers say."""
    over = [
        f"{report.nodeid} {line}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, line in report.user_properties
        if name == OVER_LIMIT
    ]
    if over:
        terminalreporter.section("cases over their limit of time")
        for line in sorted(over):
            terminalreporter.line(line)


@pytest.fixture(scope="session", autouse=True)
def _tables_of_unicode() -> None:
    # Hypothesis makes them once a clone, which takes seconds that the first case to ask would be blamed for.
    hypothesis.strategies.from_regex("a").validate()


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
def _mask_of_files_stays() -> Iterator[None]:
    # A command that hardens its process takes rights from the files of later cases in it.
    os.umask(_MASK)
    yield
    os.umask(_MASK)


@pytest.fixture(autouse=True)
def _logging_ends_with_its_case() -> Iterator[None]:
    # What a case or a fixture configured would else write later cases' lines into its file, and its level would
    # decide what they find in `caplog`.
    _stop_logging()
    yield
    _stop_logging()


def _stop_logging() -> None:
    log.close()
    root = logging.getLogger()
    for handler in [one for one in root.handlers if type(one).__module__.startswith(log.__name__)]:
        root.removeHandler(handler)  # it holds lines back, for the file of a case that configures logging later
    root.setLevel(logging.WARNING)


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
