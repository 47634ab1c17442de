"""Checks of the files of an instance: who can change them, plaintext, ignore files, and what git tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.instance.folder import IGNORE_FILES, RECORDS
from tbot_core.instance.preflight_subject import PreflightFinding, PreflightSubject
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.instance.sources import deployment_of
from tbot_core.journal import integrity
from tbot_core.system import environ, filesystem, processes
from tbot_core.vault.audit_log import log_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tbot_core.instance.findings import Level

_GIT_S: Final = 2.0
_EXPOSED: Final[Mapping[filesystem.Exposure, tuple[str, str]]] = {
    "owner": ("{name} belongs to another user.", "chown {name} to the user who runs tbot."),
    "mode": ("Other users may write to {name}.", "chmod go-w {name}"),
}


def exposure_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Folders and files that another user could change, and by which trading is decided: live trading refuses them.

    They are the instance, its control folder, its records, the files of the journal, the audit log, and settings in
    plaintext. Keys, encrypted files and plugins.lock are judged where they are read.
    """
    instance = subject.instance
    control = instance.path(deployment_of(subject.sources.env.parsed).control_dir)
    plain = [one.path for one in subject.sources.both if one.plain]
    records = [*(instance.path(name) for name in RECORDS), *integrity.journal_files(instance.journal)]
    for path in dict.fromkeys((instance.home, control, *records, log_path(instance), *plain)):
        exposure = filesystem.write_exposure(path) if filesystem.exists(path) else None
        if exposure is not None:
            message, remedy = (words.format(name=path) for words in _EXPOSED[exposure])
            level: Level = "fail" if subject.strict else "warn"
            yield PreflightFinding(level=level, subject="files", message=message, remedy=remedy, refused_live=True)


def plaintext_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Plaintext settings and secrets. Both forms of a file are a warning when loading settings, but a fault here."""
    for source in subject.sources.both:
        if source.plain and source.sealed:
            sentence = f"The plaintext {source.name} is stored beside {source.active_name}."
            yield PreflightFinding(level="fail", subject="files", message=sentence, remedy=f"Remove {source.name}.")
        elif source.plain and source is subject.sources.bot:
            sentence = f"{source.name} is plaintext: allowed for paper and replay, refused in live trading."
            yield PreflightFinding(
                level="warn", subject="files", message=sentence, remedy="`tbot config encrypt` encrypts it."
            )
    paths = _paths(subject)
    for path in paths.plaintext_of_secrets():
        yield PreflightFinding(
            level="fail",
            subject="files",
            message=f"{_shown(subject, path)} is a plaintext file of secrets.",
            remedy="Enter its values with `tbot secrets set`; then remove it.",
        )
    for path in paths.copies_of_keys():
        yield PreflightFinding(
            level="fail",
            subject="files",
            message=f"{_shown(subject, path)} is a copy of a key.",
            remedy="Remove it, and keep copies of keys on another machine: `tbot secrets backup` makes one.",
        )
    for path in paths.leftovers():
        yield PreflightFinding(
            level="warn",
            subject="files",
            message=f"{_shown(subject, path)} is left from a write that was interrupted.",
            remedy="The next write of a secret removes it.",
        )


def _paths(subject: PreflightSubject) -> SecretPaths:
    return SecretPaths(subject.instance, deployment_of(subject.sources.env.parsed))


def _shown(subject: PreflightSubject, path: Path) -> Path:
    home = subject.instance.home
    return path.relative_to(home) if path.is_relative_to(home) else path


def ignore_file_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """What the ignore files of git and scp do not exclude."""
    for name in IGNORE_FILES:
        path = subject.instance.path(name)
        lines = set(filesystem.read_text(path).splitlines()) if filesystem.exists(path) else set()
        missing = [] if "*" in lines else [line for line in _paths(subject).ignored() if line not in lines]
        if missing:
            sentence = f"{name} does not exclude {', '.join(missing)}."
            yield PreflightFinding(
                level="warn", subject="files", message=sentence, remedy=f"Add these lines to {name}."
            )


def tracked_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Keys and secrets known to git: they are in every clone, forever."""
    paths = _paths(subject)
    for folder in paths.folders():
        if not any(filesystem.exists(one / ".git") for one in (folder, *folder.parents)):
            continue
        names, fault = _tracked(folder)
        for path in paths.secrets_among(folder / name for name in names):
            shown = _shown(subject, path)
            remedy = f"git rm --cached {shown}, and create new keys and credentials: they are in the history."
            yield PreflightFinding(level="fail", subject="files", message=f"git tracks {shown}.", remedy=remedy)
        if fault:
            message = f"git does not say what it tracks in {folder}: {fault}."
            remedy = "Make `git ls-files` work there, so that tracked keys are found."
            yield PreflightFinding(level="warn", subject="files", message=message, remedy=remedy)


def _tracked(folder: Path) -> tuple[list[str], str]:
    # The files below the folder in git's index, and why they are unknown. A repository of another user is read too, and
    # no program that its configuration names is started.
    args = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(folder), "ls-files", "-z"]
    try:
        done = processes.run_program(args, timeout_s=_GIT_S, environment=environ.minimal_environment())
    except AccessError as fault:
        return [], fault.message.removesuffix(".")
    if done.code:  # negative where it did not answer in time
        return [], (done.errors.splitlines() or [f"exit code {done.code}"])[0].removesuffix(".")
    return [name for name in done.output.split("\0") if name], ""
