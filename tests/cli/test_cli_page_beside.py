"""`tbot run --web`: the page is started beside the run, outlives it, and is left alone where it is served already."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.cli import page_beside
from tbot_core.errors import Unavailable, UsageError
from tbot_core.instance import Instance
from tbot_core.system import filesystem, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

URL = "http://127.0.0.1:8443/"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were asked to end."""
    found: list[int] = []
    monkeypatch.setattr(processes, "end_program", found.append)
    return found


def test_the_page_is_started_and_ended_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended: list[int]
) -> None:
    """Its address is said as soon as it serves."""
    with ExitStack() as served:

        def start(args: list[str], **_more: object) -> int:
            assert args[-3:] == ["web", "--home", str(tmp_path)]
            served.enter_context(filesystem.hold_lock(Instance.at(tmp_path).page_lock, URL))
            return 77

        monkeypatch.setattr(processes, "start_detached", start)
        with page_beside.page_beside(tmp_path):
            assert f"The page: {URL}" in capsys.readouterr().err
            assert ended == []
    assert ended == [77]


def test_a_page_that_does_not_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended: list[int]
) -> None:
    """With the file that has its output; the run goes on."""

    def start(_args: list[str], *, output: Path, **_more: object) -> int:
        output.touch()
        return processes.process_id()

    monkeypatch.setattr(processes, "start_detached", start)
    monkeypatch.setattr(page_beside, "_START_S", 0.06)
    with page_beside.page_beside(tmp_path):
        said = capsys.readouterr().err
        assert "the run goes on without it" in said
        assert "web.out" in said
    assert ended == [processes.process_id()]


def test_the_cause_of_a_page_that_ended_at_once_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended: list[int]
) -> None:
    """In the words of this start's output, not of an earlier one; it is not waited for."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web.out").write_text("tbot: an earlier fault\n", encoding="utf-8")
    command = (sys.executable, "-c", "import sys; sys.exit('tbot: the port is taken')")
    begin = processes.start_detached
    monkeypatch.setattr(processes, "start_detached", lambda _args, **more: begin(command, **more))
    monkeypatch.setattr(page_beside, "_START_S", 60)
    with page_beside.page_beside(tmp_path):
        said = capsys.readouterr().err
    assert "tbot: the port is taken" in said
    assert "earlier" not in said
    assert len(ended) == 1


def test_a_page_that_is_served_already_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended: list[int]
) -> None:
    """It is neither started twice nor ended."""
    with filesystem.hold_lock(Instance.at(tmp_path).page_lock, URL), page_beside.page_beside(tmp_path):
        assert f"served already: {URL}" in capsys.readouterr().err
    assert ended == []


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A page that serves; the list has what is asked of it, and it ends after so many looks as are in it."""
    left: list[str] = []
    with ExitStack() as served:

        def start(_args: list[str], **_more: object) -> int:
            served.enter_context(filesystem.hold_lock(Instance.at(tmp_path).page_lock, URL))
            return 77

        def is_running(process: int) -> bool:
            assert process == 77
            return bool(left) and left.pop() == "runs"

        monkeypatch.setattr(processes, "start_detached", start)
        monkeypatch.setattr(processes, "is_running", is_running)
        monkeypatch.setattr(page_beside, "_WATCH_S", 0.0)
        yield left


STAYS = f"The bot has ended. The page stays: {URL} (Ctrl-C ends it)\n"


def failing(fault: BaseException) -> Callable[[], tuple[int, bool]]:
    """A run that fails."""

    def run() -> tuple[int, bool]:
        raise fault

    return run


@pytest.mark.parametrize(
    ("run", "code", "words"),
    [
        (lambda: (0, False), 0, ""),
        (lambda: (1, False), 1, ""),
        (failing(Unavailable("No answer.", "Wait.")), 4, "tbot: No answer.\n      Wait.\n"),
        (failing(ZeroDivisionError("odd")), 1, "ZeroDivisionError: odd"),
    ],
)
def test_the_page_stays_after_the_end_of_the_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ended: list[int],
    page: list[str],
    run: Callable[[], tuple[int, bool]],
    code: int,
    words: str,
) -> None:
    """Also after a failure, which is printed at once. The exit code is the run's; the instance can be used again."""
    page += ["runs", "runs", "runs"]
    lock = Instance.at(tmp_path).lock

    def looks() -> tuple[int, bool]:
        assert filesystem.lock_holder(lock) is not None
        return run()

    assert page_beside.run_beside_page(tmp_path, filesystem.hold_lock(lock), looks) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.endswith(STAYS)
    assert page == []
    assert filesystem.lock_holder(lock) is None
    assert ended == [77]


def test_a_signal_ends_the_run_and_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ended: list[int], page: list[str]
) -> None:
    """Whether the run handles it, or nothing does yet."""
    page += ["runs"]
    assert page_beside.run_beside_page(tmp_path, nullcontext(), lambda: (0, True)) == 0
    assert ended == [77]
    with pytest.raises(KeyboardInterrupt):
        page_beside.run_beside_page(tmp_path, nullcontext(), failing(KeyboardInterrupt()))
    assert "stays" not in capsys.readouterr().err


def test_a_signal_after_the_end_of_the_run_ends_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: list[int], page: list[str]
) -> None:
    """With the exit code of the run."""
    page += ["runs"]
    looks = processes.is_running

    def interrupted(process: int) -> bool:
        if not looks(process):
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(processes, "is_running", interrupted)
    assert page_beside.run_beside_page(tmp_path, nullcontext(), lambda: (1, False)) == 1
    assert ended == [77]


@pytest.mark.usefixtures("page")
def test_a_page_that_has_ended_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor one that was served before the run: it stays by itself."""
    assert page_beside.run_beside_page(tmp_path, nullcontext(), lambda: (0, False)) == 0
    assert page_beside.run_beside_page(tmp_path, nullcontext(), lambda: (0, False)) == 0
    said = capsys.readouterr().err
    assert "served already" in said
    assert "stays" not in said


def test_without_a_page_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the distribution that has one."""
    monkeypatch.setattr(page_beside, "installed_commands", lambda **_more: ())
    with pytest.raises(UsageError, match="no installed plugin serves a page"), page_beside.page_beside(tmp_path):
        pass


def test_without_accounts_there_is_no_page_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A demo in a folder of its own has none: the sentence comes before the demo."""
    home = tmp_path / "demo"
    assert cli.invoke(["run", "--demo", "--web", "--home", str(home)]) == 2
    assert f"--web: {home} is no instance with accounts" in capsys.readouterr().err
    assert not home.exists()
