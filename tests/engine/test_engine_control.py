"""Requests to a running bot: a kill by being there, anything that permits by its owner, its mode and its words."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tbot_core.engine import control
from tbot_core.engine.control import EMPTY_FOLDER, ControlVerb
from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An instance's control folder."""
    made = tmp_path / "control"
    control.prepare_folder(made)
    return made


def test_a_folder_that_is_not_there_or_empty_asks_nothing(tmp_path: Path, folder: Path) -> None:
    """Nothing is requested."""
    assert control.read_folder(tmp_path / "none") == EMPTY_FOLDER
    assert control.read_folder(folder) == EMPTY_FOLDER
    assert not control.kill_file_exists(folder)


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o666])
@pytest.mark.parametrize("content", [b"", b"no", b"\xff" * 10_000])
def test_a_kill_file_counts_by_being_there(folder: Path, mode: int, content: bytes) -> None:
    """Whatever it holds, whoever may read it, and whatever kind of file it is."""
    (folder / "kill").write_bytes(content)
    (folder / "kill").chmod(mode)
    assert control.kill_file_exists(folder)
    assert control.read_folder(folder).kill


def test_a_kill_may_be_a_link_or_a_pipe(folder: Path) -> None:
    """A link that leads nowhere and a pipe are there as well; reading them does not block."""
    (folder / "kill").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "stop")
    seen = control.read_folder(folder)
    assert control.kill_file_exists(folder)
    assert (seen.kill, seen.stop, seen.refused) == (True, True, ())


def test_a_request_arrives_whole_and_is_taken_once(folder: Path) -> None:
    """It says who asked for what and when; taken, it is gone."""
    name = control.write_request(folder, ControlVerb.ARM, actor="ann", now=NOON, arguments={"sessions": "2"})
    (request,) = control.read_folder(folder).requests
    assert (request.name, request.verb, request.actor, request.made) == (name, ControlVerb.ARM, "ann", NOON)
    assert request.arguments == {"sessions": "2"}
    control.remove_request(folder, name)
    assert control.read_folder(folder) == EMPTY_FOLDER


def test_requests_come_in_the_order_made(folder: Path) -> None:
    """Not in the order of their names, nor of a clock that was set in between."""
    control.write_request(folder, ControlVerb.ARM, actor="ann", now=NOON, order=2)
    control.write_request(folder, ControlVerb.STOP, actor="ann", now=NOON + timedelta(days=1), order=1)
    control.write_request(folder, ControlVerb.KILL, actor="ann", now=NOON - timedelta(days=1), order=3)
    seen = [(request.verb, request.order) for request in control.read_folder(folder).requests]
    assert seen == [(ControlVerb.STOP, 1), (ControlVerb.ARM, 2), (ControlVerb.KILL, 3)]


def test_a_request_that_others_may_write_is_refused(folder: Path) -> None:
    """It is named with its flaw, not obeyed, and keeps no other request back."""
    loose = control.write_request(folder, ControlVerb.ARM, actor="ann", now=NOON)
    (folder / loose).chmod(0o666)
    good = control.write_request(folder, ControlVerb.CONFIRM, actor="ann", now=NOON)
    seen = control.read_folder(folder)
    assert [request.name for request in seen.requests] == [good]
    assert [(one.name, one.words) for one in seen.refused] == [(loose, "other users may read or write it.")]


def test_a_request_of_another_user_is_refused(folder: Path) -> None:
    """Only the bot's own user may permit something."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    name = control.write_request(folder, ControlVerb.ARM, actor="ann", now=NOON)
    os.chown(folder / name, 12345, 12345)
    seen = control.read_folder(folder)
    assert not seen.requests
    assert "another user" in seen.refused[0].words


@pytest.mark.parametrize("verb", sorted(control.RESTRICTING_VERBS))
@pytest.mark.parametrize(
    ("file", "folder_mode", "flaw"),
    [(0o666, 0o700, "other users may read or write it"), (0o600, 0o777, "other users may replace files in its folder")],
)
def test_what_only_restricts_is_obeyed_whatever_the_modes(
    folder: Path, verb: ControlVerb, file: int, folder_mode: int, flaw: str
) -> None:
    """A kill does not wait until a mode is set right; what is odd about its file is said."""
    name = control.write_request(folder, verb, actor="ann", now=NOON)
    (folder / name).chmod(file)
    folder.chmod(folder_mode)
    seen = control.read_folder(folder)
    assert [(one.name, one.verb, one.flaw) for one in seen.requests] == [(name, verb, flaw)]
    assert not seen.refused


@pytest.mark.parametrize("verb", sorted(set(ControlVerb) - control.RESTRICTING_VERBS))
def test_what_permits_is_refused_in_a_loose_folder(folder: Path, verb: ControlVerb) -> None:
    """Whoever may replace the file could have permitted it."""
    control.write_request(folder, verb, actor="ann", now=NOON)
    folder.chmod(0o777)
    seen = control.read_folder(folder)
    assert not seen.requests
    assert "other users may replace files in its folder" in seen.refused[0].words


@pytest.mark.parametrize("foreign", ["file", "folder"])
def test_a_kill_of_another_user_is_obeyed_and_a_clear_is_not(folder: Path, foreign: str) -> None:
    """Whoever may write into the folder may stop the bot, and permit nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    kill, clear = (
        control.write_request(folder, verb, actor="eve", now=NOON)
        for verb in (ControlVerb.KILL, ControlVerb.KILL_CLEAR)
    )
    for path in (folder / kill, folder / clear) if foreign == "file" else (folder,):
        os.chown(path, 12345, 12345)
    seen = control.read_folder(folder)
    assert [one.name for one in seen.requests] == [kill]
    assert "belongs to another user" in seen.requests[0].flaw
    assert [one.name for one in seen.refused] == [clear]


def test_a_kill_with_a_second_name_is_obeyed(folder: Path, tmp_path: Path) -> None:
    """A second name is a second way to change a file, which is no reason to go on."""
    name = control.write_request(folder, ControlVerb.KILL, actor="ann", now=NOON)
    os.link(folder / name, tmp_path / "second")
    assert [one.flaw for one in control.read_folder(folder).requests] == ["it has more than one hard link"]


def test_a_link_to_a_request_is_refused(folder: Path, tmp_path: Path) -> None:
    """A request is a file of its own, not a link to one."""
    name = control.write_request(tmp_path / "elsewhere", ControlVerb.ARM, actor="ann", now=NOON)
    (folder / name).symlink_to(tmp_path / "elsewhere" / name)
    assert "symbolic link" in control.read_folder(folder).refused[0].words


GOOD = {"verb": "arm", "actor": "ann", "made": NOON.isoformat(), "arguments": {}}


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "7",
        "{}",
        json.dumps({**GOOD, "verb": "sell-everything"}),
        json.dumps({**GOOD, "made": "yesterday"}),
        json.dumps({**GOOD, "made": "2026-01-05T17:00:00"}),
        "[" * 4096,
        json.dumps({**GOOD, "actor": 7}),
        json.dumps({**GOOD, "actor": "ann\x1b[2J"}),
        json.dumps({**GOOD, "arguments": []}),
        json.dumps({**GOOD, "arguments": {"sessions": 2}}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "order": "1"}),
        json.dumps({**GOOD, "order": True}),
        json.dumps({**GOOD, "order": -1}),
        json.dumps({**GOOD, "order": 2**63}),
    ],
)
def test_what_is_no_request_is_refused(folder: Path, document: str) -> None:
    """A wrong verb, a missing or further field, a moment without a zone: named, never guessed."""
    path = folder / "arm-x.json"
    path.write_text(document)
    path.chmod(0o600)
    seen = control.read_folder(folder)
    assert not seen.requests
    assert [one.words for one in seen.refused] == ["it is no request that a command of tbot wrote."]


def test_a_large_file_is_refused(folder: Path) -> None:
    """A file of a megabyte is not read every 50 ms."""
    path = folder / "arm-x.json"
    path.write_text(" " * 1_000_000)
    path.chmod(0o600)
    assert "too large" in control.read_folder(folder).refused[0].words


def test_what_is_being_written_is_not_seen(folder: Path) -> None:
    """Names that begin with a dot are those of files on their way."""
    (folder / ".arm-x.json.tmp").write_text("{")
    assert control.read_folder(folder) == EMPTY_FOLDER


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    """Who cannot see a kill must not think that there is none."""
    (tmp_path / "control").write_text("a file")
    with pytest.raises(AccessError):
        control.read_folder(tmp_path / "control")
