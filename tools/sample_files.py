"""What the tools of the sample files share: commands of `tbot`, adoption, and the credentials of servers."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from tbot_filter_finnhub.venue import KEY

from tbot_core import cli
from tbot_core.model.json_document import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.testing.venue import TradingVenue

FILES: Final = {"env.sample": ".env", "env_bot.sample": ".env_bot"}
MAIL_LOGIN: Final = ("bot@example.com", "of-the-sample-day")
_ROUTING_KEY: Final = "0123456789abcdef0123456789abcdef"


def command(home: Path, *words: str, given: str = "") -> tuple[int, str]:
    """A command of `tbot` in an instance, with its standard input: the exit code and what it printed."""
    out, stdin = io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(given)
    try:
        with redirect_stdout(out), redirect_stderr(out):
            code = cli.invoke([*words, "--home", str(home)])
    finally:
        sys.stdin = stdin
    return code, out.getvalue()


def document(home: Path, *words: str) -> dict[str, Any]:
    """The document that a command of `tbot` prints with --json; raises ClickException where it fails."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = cli.invoke([*words, "--json", "--home", str(home)])
    if code:
        raise click.ClickException(f"tbot {' '.join(words)} ended with {code}: {errors.getvalue()}")
    found: dict[str, Any] = parse_json(out.getvalue())
    return found


class SampleFolder(click.Path):
    """An argument: the folder of the two sample files."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; fails where a file is missing."""
        path = Path(str(super().convert(value, param, ctx)))
        for sample in FILES:
            if not (path / sample).is_file():
                self.fail(f"{path} has no {sample}.", param, ctx)
        return path


def adopt(home: Path, samples: Path) -> None:
    """Take the sample files over by `tbot init --adopt`; they are copied to the byte first.

    Raises ClickException where that makes no instance.
    """
    with tempfile.TemporaryDirectory() as name:
        for sample, file in FILES.items():
            shutil.copyfile(samples / sample, Path(name) / file)
        code, out = command(home, "init", "--adopt", "--from", name)
    if not (home / ".env_bot.enc").exists():
        raise click.ClickException(f"tbot init --adopt ended with {code}: {out}")


def store_credentials(home: Path, venue: TradingVenue, mail_port: int = 25) -> None:
    """Store the credentials of Alpaca's venue, a mail server on this machine, Finnhub and PagerDuty, and the identity.

    They are stored by `tbot secrets set`. Raises ClickException where it refuses one.
    """
    broker: Any = venue.secrets["broker"]
    mail = {"host": "127.0.0.1", "port": str(mail_port), "security": "none"}
    documents: Mapping[str, object] = {
        "broker": {"alpaca": {"api_key": broker.api_key.reveal(), "api_secret": broker.api_secret.reveal()}},
        "smtp": {**mail, "user": MAIL_LOGIN[0], "password": MAIL_LOGIN[1], "recipients": "me@example.com"},
        "screener_api": {"finnhub": {"api_key": KEY}},
        "alert": {"pagerduty": {"routing_key": _ROUTING_KEY}},
        "bot_identity": {"BOT_IDENTITY_STRING": "US_US_ALPACA_001"},
    }
    for category, document in documents.items():
        code, out = command(home, "secrets", "set", category, "--from-json", "-", given=json.dumps(document))
        if code:
            raise click.ClickException(f"tbot secrets set {category}: {out}")
