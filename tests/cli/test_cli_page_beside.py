"""`tbot run --web`: the page is started beside the run, ended with it, and left alone where it is served already."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.cli import page_beside
from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.system import filesystem, processes

if TYPE_CHECKING:
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
