"""For authors of plugins: a new package that works before the first edit, and the contract of an installed one."""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core import testing
from tbot_core.actions.plugins import find_plugins, plugin_listings
from tbot_core.errors import AccessError, PluginError, UsageError
from tbot_core.instance.plugin_settings import filter_switches
from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.probe import run_apart
from tbot_core.system import environ, filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENABLE_FILTER: Final = (
    "Enable it by adding `{name}` to the names in FILTERS, as in `FILTERS={name}`. It applies beside the standard\n"
    "filters, which are price_volume and those whose switch is on ({switched})."
)
_ENABLE_ALERT: Final = (
    "Enable it with `ROUTINE_ALERT_CHANNEL={name}` and `HOST_{upper}_SERVICE=https://NAME`, the host of its service;\n"
    "`tbot secrets set alert` asks for its token."
)
KINDS: Final = {
    "strategy": ("strategies", "Enable it with `STRATEGY_SEQUENCE={name}`, and give it a window: START_TIME_{upper}."),
    "filter": ("filters", _ENABLE_FILTER),
    "alert": ("alerts", _ENABLE_ALERT),
    "broker": ("brokers", "Enable it with `BROKER_NAME={name}`; `tbot secrets set broker` asks for its key."),
    "extension": ("extensions", "An installed extension is enabled unless EXTENSIONS names others."),
}
"""For each kind its entry-point group, and how a plugin of it is enabled."""

_CHECK_LIMIT_S: Final = 300.0
"""Seconds that the contract of one plugin may take in all."""

_TEMPLATES: Final = Path(testing.__file__).with_name("scaffold")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,31}")
_SUFFIX: Final = ".txt"


@attrs.frozen(kw_only=True)
class NewPlugin:
    """What was written: the package's folder, its files relative to it, and its distribution."""

    folder: Path
    files: tuple[str, ...]
    distribution: str


def write_plugin(kind: str, name: str, folder: Path | None) -> NewPlugin:
    """Write the package of a plugin into `folder`, by default `tbot-KIND-NAME` in the working directory.

    Raises UsageError for a name that no plugin may have, and AccessError where the folder holds something already.
    """
    if keyword.iskeyword(name):
        raise UsageError(f"The name {name!r} is not allowed: it is a keyword of Python.", "Use another name.")
    if not _NAME.fullmatch(name):
        remedy = "Use 2 to 32 lower-case letters, digits and underscores, a letter first."
        raise UsageError(f"The name {name!r} is not allowed.", remedy)
    words = _words(kind, name)
    _assert_free(kind, name, words["DISTRIBUTION"])
    target = folder or Path(words["DISTRIBUTION"])
    if filesystem.exists(target) and not filesystem.is_folder(target):
        raise AccessError(f"{target} is a file.", "Name a folder with --dir.")
    if filesystem.exists(target) and any(True for _ in filesystem.entries(target)):
        raise AccessError(f"{target} exists and is not empty.", "Name another folder with --dir.")
    files = {
        _replaced(place, words): _replaced(filesystem.read_text(path), words)
        for place, path in (*_templates("common"), *_templates(kind))
    }
    files[f"{words['PACKAGE']}/py.typed"] = ""
    for place, text in sorted(files.items()):
        filesystem.make_folder((target / place).parent)
        filesystem.write_atomic(target / place, text.encode())
    return NewPlugin(folder=target, files=tuple(sorted(files)), distribution=words["DISTRIBUTION"])


def _assert_free(kind: str, name: str, distribution: str) -> None:
    # Two plugins of one kind and name are both refused, and two distributions of one name replace each other.
    for listing in discovery.installed_plugins():
        entry = listing.entry
        if (entry.kind, entry.name) == (kind, name) or entry.dist == distribution:
            message = f"The {entry.kind} {entry.name} is installed already, by the distribution {entry.dist}."
            raise UsageError(message, "Use another name, or uninstall that one first.")


def next_steps(made: NewPlugin) -> list[str]:
    """What was written, and the commands to run next."""
    return [
        f"{made.folder}: {len(made.files)} files of the distribution {made.distribution}.",
        *(f"  {place}" for place in made.files),
        "Next:",
        *(f"  {command}" for command in install_commands(str(made.folder))),
        f"  {shlex.join([sys.executable, '-m', 'pytest', str(made.folder)])}",
        "  tbot plugins list --probe",
    ]


def install_commands(folder: str) -> list[str]:
    """What installs the package in this folder, editable, for the Python that runs tbot: with its pip, else with uv."""
    python, pip = sys.executable, "pip"
    # Where the build backend is installed, nothing has to be downloaded.
    last = [*(["--no-build-isolation"] if find_spec("uv_build") else []), "-e", folder]
    uv = environ.program(str(Path(python).with_name("uv"))) or environ.program("uv")
    if find_spec(pip) is None and uv is not None:
        return [shlex.join([uv, pip, "install", "--python", python, *last])]
    missing = [] if find_spec(pip) else [shlex.join([python, "-m", "ensurepip"])]
    return [*missing, shlex.join([python, "-m", pip, "install", *last])]


def check_contract(name: str, home: Path | None) -> dict[str, Any]:
    """The contract of an installed plugin, run in a process of its own, as a document.

    Raises PluginError for a plugin that is unknown, cannot be imported, or does not end.
    """
    entry = find_plugins(name, plugin_listings(home)[0])[0].entry
    try:
        found = dict(run_apart("tbot_core.testing.plugin_check", entry, limit_s=_CHECK_LIMIT_S))
    except PluginError as fault:
        raise PluginError(
            f"The contract of {entry.kind} {entry.name} was not run to its end: {fault.message}"
        ) from fault
    if "phase" in found:
        raise PluginError(PluginFailure(**found).sentence, "`tbot plugins list --probe` tries every plugin.")
    counts = Counter(case["outcome"] for case in found["cases"])
    passed = not counts["failed"] and (bool(found["cases"]) or entry.kind == "extension")
    return {"kind": entry.kind, "name": entry.name, "passed": passed, "counts": dict(counts), **found}


def contract_lines(document: Mapping[str, Any]) -> list[str]:
    """The result of `check_contract` as text: a line for each case, tracebacks of errors, then the capabilities."""
    name, cases, counts = f"{document['kind']} {document['name']}", document["cases"], document["counts"]
    if not cases:
        return [f"{name}: {document['missing']}"]
    said = ", ".join(f"{counts.get(outcome, 0)} {outcome}" for outcome in ("passed", "failed", "not claimed"))
    lines, traces = [f"{name}: {len(cases)} cases with default settings: {said}."], dict[str, str]()
    for case in cases:
        outcome = case["outcome"].upper() if case["outcome"] == "failed" else case["outcome"]
        lines.append(f"  {case['number']}  {outcome:11}  {case['promise']}")
        if case["words"]:
            lines.append(f"{'':20}{case['words']}")
        if case["trace"]:
            first = traces.setdefault(case["trace"], case["number"])
            shown = case["trace"].splitlines() if first == case["number"] else [f"with the traceback of {first}"]
            lines += [f"{'':20}{line}" for line in shown]
    if document["capabilities"]:
        lines.append("Declared capabilities:")
        lines += [f"  {one:20} {text}" for one, text in document["capabilities"].items()]
    return lines


def _words(kind: str, name: str) -> dict[str, str]:
    # What stands for each placeholder of a template; longer placeholders come first.
    (group, enabling), switched = KINDS[kind], ", ".join(filter_switches())
    plain = {
        "NAME_DASH": name.replace("_", "-"),
        "NAME": name,
        "UPPER": name.upper(),
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
        "KIND": kind,
        "GROUP": group,
        "PACKAGE": f"tbot_{kind}_{name}",
        "DISTRIBUTION": f"tbot-{kind}-{name.replace('_', '-')}",
    }
    enabling = enabling.format(name=name, upper=name.upper(), switched=switched)
    return {**plain, "ENABLE": enabling}  # last: it has words of others


def _replaced(text: str, words: dict[str, str]) -> str:
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text


def _templates(part: str) -> list[tuple[str, Path]]:
    # The files of a template, with their places in the new package.
    root = _TEMPLATES / part
    paths = [path for entry in filesystem.entries(root) for path in _files(entry)]
    return [
        (path.relative_to(root).as_posix().removesuffix(_SUFFIX).replace("package/", "PACKAGE/"), path)
        for path in paths
        if path.suffix == _SUFFIX
    ]


def _files(entry: Path) -> list[Path]:
    return list(filesystem.entries(entry)) if filesystem.is_folder(entry) else [entry]
