"""The instance: one folder, and the paths in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from tbot_core.system import environ, filesystem

RECORDS: Final = ("data", "logs", "backups", "reports")
"""The folders of what tbot writes about itself."""

FOLDERS: Final = ("storage/keys", "storage/secrets", "control", *RECORDS)

CREATION_MARKER: Final = ".tbot-init"
"""The file that an instance has until it is completely made."""

SETUP_DRAFT: Final = "data/setup.enc"
"""The encrypted answers of a set-up on the web page, from its begin until the instance is made of them."""

IGNORE_FILES: Final = (".gitignore", ".scpignore")
IGNORED: Final = (
    "storage/keys/",
    "storage/secrets/",
    ".env",
    ".env.enc",
    ".env_bot",
    ".env_bot.enc",
    "*_credentials.json",
    "data/",
    "logs/",
    "backups/",
    "control/",
)
"""Lines for the ignore files of git and scp."""

OLDER_FOLDER: Final = "tbot_bot"
"""The folder of an older installation with its encrypted files and keys."""

ENV_FILE = ".env"
ENCRYPTED_SUFFIX = ".enc"
DRY_RUN = "dry-"
"""The prefix of the names of dry runs."""

REHEARSAL_MODE: Final = "REHEARSAL"
"""The mode of a rehearsal in journals and on screens."""

REHEARSAL: Final = "rehearsal-"
"""The prefix of the names of rehearsals. The lock of a process that rehearses has the name as its purpose."""

REHEARSING: Final = "rehearsal"
"""The mode of a rehearsal in alerts."""

SIMULATION: Final = "simulation"
"""The purpose of a process that accepts no requests, in the lock."""

REHEARSAL_VARIABLE: Final = "TBOT_REHEARSAL"
"""The variable of the environment with the target of a rehearsal: commands reach the broker there."""


@attrs.frozen
class Instance:
    """The folder of one bot's settings, data, logs and requests; nothing outside is written.

    Paths are resolved; none is created. `control_dir` is CONTROL_DIR. `rehearsal` is the id of a rehearsal, "" for
    none: its journal, bars, alerts and data of plugins are apart, beside the journals of other runs.
    """

    home: Path
    control_dir: str = "control"
    rehearsal: str = ""

    @classmethod
    def at(cls, home: Path | str | None = None) -> Instance:
        """The instance of `--home`, else of the variable TBOT_HOME, else of the working directory."""
        path = Path(home or environ.variable("TBOT_HOME") or ".").absolute()
        return cls(path.resolve() if ".." in path.parts else path)

    def path(self, setting: str) -> Path:
        """The path of a setting, relative to the instance unless absolute."""
        return self.home / setting

    def outside(self, setting: str) -> bool:
        """Whether a setting's path is outside the instance's folder."""
        parts: list[str] = []
        for part in Path(setting).parts:
            if part == "..":
                if not parts:
                    return True
                parts.pop()
            else:
                parts.append(part)
        return Path(setting).is_absolute() and not Path(*parts).is_relative_to(self.home)

    @property
    def env(self) -> Path:
        """The global configuration."""
        return self.home / ENV_FILE

    @property
    def data(self) -> Path:
        """All recorded data."""
        return self.home / "data"

    @property
    def journal(self) -> Path:
        """The journal of live and paper trading, or that of the rehearsal."""
        return self.runs / f"{self.rehearsal}.sqlite" if self.rehearsal else self.data / "tbot.sqlite"

    @property
    def runs(self) -> Path:
        """The journals of replays, demos, backtests and dry runs."""
        return self.data / "runs"

    @property
    def page_lock(self) -> Path:
        """Held by the process that serves the page; its purpose is the page's address."""
        return self.data / "page.lock"

    def plugin_data(self, kind: str, name: str) -> Path:
        """A plugin's data folder; `kind` is singular."""
        return self._own("plugins") / f"{kind}-{name}"

    @property
    def tables(self) -> Path:
        """The operator's tables for plugins."""
        return self.data / "tables"

    def table(self, name: str) -> Path:
        """The operator's table of this file name, of every plugin that names it."""
        return self.tables / name

    @property
    def downloads(self) -> Path:
        """The downloaded tables for plugins; an operator's table of the same name counts instead."""
        return self._own("downloads")

    @property
    def bars(self) -> Path:
        """Stored bars."""
        return self._own("bars")

    def _own(self, name: str) -> Path:
        # A folder of the data, or that of the rehearsal.
        return self.runs / f"{self.rehearsal}-{name}" if self.rehearsal else self.data / name

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.home / "logs"

    @property
    def reports(self) -> Path:
        """Reports for people."""
        return self.home / "reports"

    @property
    def control(self) -> Path:
        """Requests to the running bot."""
        return self.path(self.control_dir)

    @property
    def lock(self) -> Path:
        """The lock of the trading process."""
        return self.data / "tbot.lock"

    @property
    def lock_holder(self) -> int | None:
        """The id of the process that holds the lock, also where its file was removed; None without one."""
        return filesystem.lock_holder(self.lock, self.home)

    @property
    def dry_run_lock(self) -> Path:
        """The lock of the dry run, which may run beside the trading process."""
        return self.data / "dry-run.lock"
