"""A plugin that failed, as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from tbot_core.errors import PluginError
from tbot_core.model.formatting import one_line
from tbot_core.system.foreign_exceptions import exception_trace, exception_words
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from tbot_core.plugins.discovery import EntryPointInfo

Phase = Literal[
    "find",
    "import",
    "register",
    "offer",
    "validate",
    "config",
    "create",
    "risk_checks",
    "observe",
    "pages",
    "probe",
    "run",
]

_WORDS: Final[dict[Phase, str]] = {
    "find": "cannot be used",
    "import": "it cannot be imported",
    "register": "its hooks do not match the specification",
    "offer": "its offer hook failed",
    "validate": "its offer is invalid",
    "config": "its default configuration cannot be created",
    "create": "it could not be created",
    "risk_checks": "its risk check cannot be created",
    "observe": "it failed as an observer",
    "pages": "its pages cannot be shown",
    "probe": "it could not be tried",
    "run": "it failed in a run",
}
_LONGEST: Final = 500


@attrs.frozen(kw_only=True)
class PluginFailure:
    """What failed, in which phase, with the error as text; `trace` is the traceback for the log."""

    kind: str
    name: str
    dist: str
    version: str
    phase: Phase
    error: str
    trace: str = attrs.field(default="", eq=False, repr=False)

    @classmethod
    def of(cls, entry: EntryPointInfo, phase: Phase, fault: BaseException) -> PluginFailure:
        """The failure for an exception in this phase; a `TbotError` keeps its own message."""
        return cls.said(entry, phase, exception_words(fault), trace=exception_trace(fault))

    @classmethod
    def said(cls, entry: EntryPointInfo, phase: Phase, error: str, *, trace: str = "") -> PluginFailure:
        """A failure with a message, cut to one line of at most 500 characters; a cut secret could not be redacted."""
        line = one_line(redact(error))
        return cls(
            kind=entry.kind,
            name=entry.name,
            dist=entry.dist,
            version=entry.version,
            phase=phase,
            error=line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...",
            trace=trace,
        )

    @property
    def reason(self) -> str:
        """What is wrong, without the plugin's name."""
        return f"{_WORDS[self.phase]}: {self.error}"

    @property
    def sentence(self) -> str:
        """The plugin, its distribution, and what is wrong."""
        origin = f" ({self.dist} {self.version})" if self.dist else ""
        failed = "" if self.phase == "find" else "failed: "  # it never ran
        return f"The {self.kind} {self.name}{origin} {failed}{self.reason}"


def plugins_failed_error(failures: tuple[PluginFailure, ...]) -> PluginError:
    """The error of a run whose required plugins failed: one line each, and the remedy."""
    message = "\n".join(failure.sentence for failure in failures)
    verbs = {"fix or uninstall it" if failure.dist else "install it" for failure in failures}
    what = ", ".join(sorted(verbs)).capitalize()
    return PluginError(message, f"{what}, or remove it from the settings; `tbot plugins list --probe` tries all again.")
