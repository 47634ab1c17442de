"""Whether an account is that of the run's mode: by what the broker reports, never by a flag alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.errors import AccountRefused

if TYPE_CHECKING:
    from tbot_core.model.types import Account

_STORE = "`tbot secrets set broker` stores other credentials."


def account_mode_error(account: Account, broker: str, *, live: bool) -> AccountRefused | None:
    """Why a run in live mode, or on paper, may not trade the account; None if it may.

    Live needs an account that is reported as live money, with evidence. Paper refuses one that is.
    """
    name = f"the account {account.account_id} at {broker}"
    if not live:
        if not account.live:
            return None
        words = f"The mode is paper, but {name} holds live money ({account.evidence or 'the broker reports it'})."
        return AccountRefused(words, f"Set mode=live in the broker's section and arm, or use a paper account: {_STORE}")
    if account.live is None or not account.evidence.strip():
        return AccountRefused(
            f"Live trading is refused: it is not known whether {name} holds live money.",
            "The plugin must report Account.live and Account.evidence (how it is known, such as the host it reached).",
        )
    if account.live:
        return None
    words = f"The mode is live, but {name} holds no live money ({account.evidence})."
    return AccountRefused(words, f"Set mode=paper in the broker's section, or use a live account: {_STORE}")
