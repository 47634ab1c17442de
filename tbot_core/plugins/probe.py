"""Tries plugins in child processes with a time limit, so that none can harm the calling process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

import attrs

from tbot_core.errors import AccessError, PluginError
from tbot_core.model import json_document
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.distributions import plugin_fingerprint
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import environ, filesystem, processes

LIMIT_S: Final = 10.0
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
    key = entry, plugin_fingerprint(entry)
    outcome = _sound.get(key) or _tried(entry, limit_s)
    if outcome.failure is None and key[1]:
        _sound[key] = outcome
    return outcome


def _tried(entry: EntryPointInfo, limit_s: float) -> TrialOutcome:
    try:
        document = run_apart("tbot_core.plugins.trial", entry, limit_s=limit_s)
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
    with filesystem.scratch_folder() as folder:
        request, answer = folder / "request.json", folder / "answer.json"
        filesystem.write_atomic(request, json.dumps(attrs.asdict(entry)).encode())
        # -P: plugins are not imported from the working directory; the parent's path tells where they are.
        command = [sys.executable, "-P", "-m", module, str(request), str(answer)]
        path = os.pathsep.join(part for part in sys.path if part)  # seam: the separator is a constant
        finished = processes.run_program(
            command, timeout_s=limit_s, environment=environ.minimal_environment() | {"PYTHONPATH": path}
        )
        if finished.timed_out:
            raise PluginError(f"it did not finish within {limit_s:g} s and was stopped.")
        try:
            document = json_document.parse_json(filesystem.read_bytes(answer, limit=_ANSWER_BYTES))
        except (AccessError, ValueError) as fault:
            last = finished.errors.strip().rsplit("\n", 1)[-1]
            words = f"its process ended with code {finished.code} and no result{(f': {last}' if last else '.')}"
            raise PluginError(words) from fault
    if not isinstance(document, dict):
        raise PluginError("its process gave a result that is no description.")
    return document
