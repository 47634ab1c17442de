"""Checks of the files of an instance: who can change them, plaintext, ignore files, and what git tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.instance.folder import IGNORE_FILES, IGNORED, RECORDS
from tbot_core.instance.preflight_subject import PreflightFinding, PreflightSubject
from tbot_core.journal import integrity
from tbot_core.system import environ, filesystem, processes

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
    """Folders of the instance, and files of its journal, that another user could change: live trading refuses them."""
    instance = subject.instance
    places = [instance.home, *(instance.path(name) for name in RECORDS), *integrity.journal_files(instance.journal)]
    for path in places:
        exposure = filesystem.write_exposure(path) if filesystem.exists(path) else None
        if exposure is not None:
            message, remedy = (words.format(name=path) for words in _EXPOSED[exposure])
            level: Level = "fail" if subject.strict else "warn"
            yield PreflightFinding(level=level, subject="files", message=message, remedy=remedy)


def plaintext_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Plaintext settings and secrets. Both forms of a file are a warning when loading settings, but a fault here."""
    instance = subject.instance
    for source in subject.sources.both:
        if source.plain and source.sealed:
            sentence = f"The plaintext {source.name} is stored beside {source.active_name}."
            yield PreflightFinding(level="fail", subject="files", message=sentence, remedy=f"Remove {source.name}.")
        elif source.plain and source is subject.sources.bot:
            sentence = f"{source.name} is plaintext: allowed for paper and replay, refused in live trading."
            yield PreflightFinding(
                level="warn", subject="files", message=sentence, remedy="`tbot config encrypt` encrypts it."
            )
    secrets = instance.path("storage/secrets")
    left = [it for it in filesystem.entries(secrets) if it.suffix == ".json"] if filesystem.is_folder(secrets) else []
    left += [it for it in _entries(instance.home) if it.name.endswith("_credentials.json")]
    for path in left:
        yield PreflightFinding(
            level="fail",
            subject="files",
            message=f"{path.relative_to(instance.home)} is a plaintext file of secrets.",
            remedy="Enter its values with `tbot secrets set`; then remove it.",
        )


def _entries(folder: Path) -> list[Path]:
    return filesystem.entries(folder) if filesystem.is_folder(folder) else []


def ignore_file_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """What the ignore files of git and scp do not exclude."""
    for name in IGNORE_FILES:
        path = subject.instance.path(name)
        lines = set(filesystem.read_text(path).splitlines()) if filesystem.exists(path) else set()
        missing = [] if "*" in lines else [line for line in IGNORED if line not in lines]
        if missing:
            sentence = f"{name} does not exclude {', '.join(missing)}."
            yield PreflightFinding(
                level="warn", subject="files", message=sentence, remedy=f"Add these lines to {name}."
            )


def tracked_findings(subject: PreflightSubject) -> Iterator[PreflightFinding]:
    """Keys and secrets known to git: they are in every clone, forever."""
    home = subject.instance.home
    if not any(filesystem.exists(folder / ".git") for folder in (home, *home.parents)):
        return
    args = ["git", "-C", str(home), "ls-files", "--", "storage/keys", "storage/secrets", ".env", ".env_bot"]
    done = processes.run_program(args, timeout_s=_GIT_S, environment=environ.minimal_environment())
    for name in done.output.splitlines():
        sentence = f"git tracks {name}."
        remedy = f"git rm --cached {name}, and create new keys and credentials: they are in the history."
        yield PreflightFinding(level="fail", subject="files", message=sentence, remedy=remedy)
