"""The questions of `tbot init` on a terminal."""

from __future__ import annotations

from typing import Any

import click

from tbot_core.cli.actions.instance_creation import known_fields


def ask_person() -> dict[str, Any]:
    """The answers of a person: identity, broker, and its credentials (hidden)."""
    from tbot_core.cli.options import prompt_fields
    from tbot_core.contracts.credentials import secret_fields
    from tbot_core.instance.identity import BotIdentityConfig

    identity = prompt_fields(secret_fields(BotIdentityConfig), required=True)
    broker = click.prompt("Broker", default="PAPER").strip().upper()
    answers: dict[str, Any] = {"bot_identity": identity, "env_bot": {"BROKER_NAME": broker}}
    if broker != "PAPER":
        credentials = prompt_fields(known_fields(answers["env_bot"]).get(("broker", broker.lower())), required=True)
        answers |= {"broker": {broker.lower(): credentials}} if credentials else {}
    return answers
