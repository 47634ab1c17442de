"""Tries plugins in child processes with a time limit, so that none can harm the calling process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError, PluginError
from tbot_core.model import json_document
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.distributions import plugin_fingerprint
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import environ, filesystem, processes

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S: Final = 10.0
_TOGETHER: Final = 4
_ANSWER_BYTES: Final = 1_000_000
_PARTS: Final = ("summary", "capabilities", "settings", "tables", "needs", "matrix")


@attrs.frozen(kw_only=True)
class TrialOutcome:
    """The result of a trial: its failure, or a description (summary, settings, needs, ...)."""

    entry: EntryPointInfo
    description: Mapping[str, Any] | None = None
    failure: PluginFailure | None = None


# What this process has found sound, by the hash of its files: a second instance needs no second trial.
_sound: dict[tuple[EntryPointInfo, str], TrialOutcome] = {}


def probe_plugin(entry: EntryPointInfo, *, limit_s: float = LIMIT_S) -> TrialOutcome:
    """Try one plugin: import, register, offer, validate, create with its defaults; blocks for `limit_s` at most.

    What this process has found sound before is not tried again while its files are the same.
    """
    (outcome,) = probe_plugins([entry], limit_s=limit_s)
    return outcome


def probe_plugins(entries: Iterable[EntryPointInfo], *, limit_s: float = LIMIT_S) -> Iterator[TrialOutcome]:
    """Try plugins as `probe_plugin` does, TOGETHER of them at a time; the outcomes have the order of the entries."""
    left = list(entries)
    while left:
        batch, left = left[:_TOGETHER], left[_TOGETHER:]
        with ExitStack() as children:
            keys = [(entry, plugin_fingerprint(entry)) for entry in batch]
            begun = [
                None if key in _sound else children.enter_context(_child("tbot_core.plugins.trial", key[0]))
                for key in keys
            ]
            for key, answer in zip(keys, begun, strict=True):
                outcome = _sound[key] if answer is None else _tried(key[0], partial(answer, limit_s))
                if outcome.failure is None and key[1]:
                    _sound[key] = outcome
                yield outcome


def _tried(entry: EntryPointInfo, answer: Callable[[], Mapping[str, Any]]) -> TrialOutcome:
    try:
        document = answer()
        if "phase" in document:
            return TrialOutcome(entry=entry, failure=PluginFailure(**document))
        return TrialOutcome(entry=entry, description={name: document[name] for name in _PARTS})
    except PluginError as fault:
        return TrialOutcome(entry=entry, failure=PluginFailure.said(entry, "probe", fault.message))
    except (TypeError, KeyError):
        error = "its process gave a result that is no description."
        return TrialOutcome(entry=entry, failure=PluginFailure.said(entry, "probe", error))


def run_apart(module: str, entry: EntryPointInfo, *, limit_s: float) -> Mapping[str, Any]:
    """The answer of `python -m MODULE REQUEST ANSWER` about a plugin, which may print, hang or crash in that process.

    Both files are JSON: the entry, and an object. Raises PluginError if there is no answer within `limit_s` seconds.
    """
    with _child(module, entry) as answer:
        return answer(limit_s)


@contextmanager
def _child(module: str, entry: EntryPointInfo) -> Iterator[Callable[[float], Mapping[str, Any]]]:
    # Start the process; the function waits for its answer, for so many seconds.
    with filesystem.scratch_folder() as folder:
        request, answer = folder / "request.json", folder / "answer.json"
        filesystem.write_atomic(request, json.dumps(attrs.asdict(entry)).encode())
        # -P: plugins are not imported from the working directory; the parent's path tells where they are.
        command = [sys.executable, "-P", "-m", module, str(request), str(answer)]
        path = os.pathsep.join(part for part in sys.path if part)  # seam: the separator is a constant
        with processes.started_program(
            command, environment=environ.minimal_environment() | {"PYTHONPATH": path}
        ) as finish:
            yield partial(_answer, answer, finish)


def _answer(path: Path, finish: Callable[[float], processes.ProcessResult], limit_s: float) -> Mapping[str, Any]:
    finished = finish(limit_s)
    if finished.timed_out:
        raise PluginError(f"it did not finish within {limit_s:g} s and was stopped.")
    try:
        document = json_document.parse_json(filesystem.read_bytes(path, limit=_ANSWER_BYTES))
    except (AccessError, ValueError) as fault:
        last = finished.errors.strip().rsplit("\n", 1)[-1]
        words = f"its process ended with code {finished.code} and no result{(f': {last}' if last else '.')}"
        raise PluginError(words) from fault
    if not isinstance(document, dict):
        raise PluginError("its process gave a result that is no description.")
    return document
