"""The text of a message: mode, identity, event, time, and the command to run next. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.broker_and_feed_rules import MISSING
from tbot_core.alerts.rules import cause_of
from tbot_core.alerts.store import STATUS_COMMAND
from tbot_core.contracts import Alert, Urgency
from tbot_core.model.clock import both_times
from tbot_core.model.formatting import one_line, plural
from tbot_core.trading.risk.states import KINDS, QUIET, CauseEnd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tbot_core.alerts.store import StoredAlert

MOST_LISTED: Final = 10
ALERT_LOG_COMMAND: Final = "tbot alerts log"
_LASTING: Final = frozenset({CauseEnd.QUIET, CauseEnd.SESSION})
"""Their state goes on when the incident is over."""


@attrs.frozen(kw_only=True)
class MessageWriter:
    """The sender: the bot with its mode and identity."""

    mode: str
    identity: str

    def compose(self, rows: Sequence[StoredAlert], *, over: bool = False, kept: int = 0) -> Alert:
        """Compose one message for one or several alerts; `over`: they have ended.

        `kept`: how many more there were, which are only in the log of alerts.
        """
        if over:
            rows = [attrs.evolve(row, what=_over(row)) for row in rows]
        first = rows[0]
        what, command = (first.what, first.command) if len(rows) == 1 else (_merged(rows, kept), ALERT_LOG_COMMAND)
        moment = first.opened if len(rows) == 1 else rows[-1].opened
        if over:
            what, moment = f"Resolved: {what}", max((row.cleared for row in rows if row.cleared), default=moment)
        listed = [f"- {one_line(row.what)}" for row in rows[:MOST_LISTED]] if len(rows) > 1 else []
        if more := len(rows) + kept - len(rows[:MOST_LISTED]):
            listed.append(f"- and {more:,} more")
        key = f"{first.id}-{first.opened:%Y%m%dT%H%M%S}"  # the number alone begins anew with a new file of alerts
        return self._alert(key, first.urgency, (what, command), moment, listed, over=over)

    def compose_urgent(self, what: str, command: str, now: datetime) -> Alert:
        """Compose a critical message that is not stored."""
        return self._alert(f"{now:%Y%m%dT%H%M%S}", Urgency.CRITICAL, (what, command), now)

    def compose_test(self, urgency: Urgency, now: datetime) -> Alert:
        """Compose a test message."""
        words = f"This is a test of {urgency.value} alerts.", STATUS_COMMAND
        return self._alert(f"test-{now:%Y%m%dT%H%M%S}", urgency, words, now)

    def _alert(  # noqa: PLR0913  the parts of a message
        self,
        key: str,
        urgency: Urgency,
        words: tuple[str, str],
        moment: datetime,
        listed: Sequence[str] = (),
        *,
        over: bool = False,
    ) -> Alert:
        title = one_line(f"[{' '.join(part for part in (self.mode.upper(), self.identity) if part)}] {words[0]}")
        lines = [title, f"{moment:%Y-%m-%d} {both_times(moment)}", *listed, f"Next: {words[1]}"]
        return Alert(
            key=f"{self.identity or 'tbot'}-{key}",
            urgency=urgency,
            title=title,
            text="\n".join(lines),
            time=moment,
            resolved=over,
            mode=self.mode,
            identity=self.identity,
            command=words[1],
        )


def _over(row: StoredAlert) -> str:
    # The text of an incident that has ended: without what no longer holds, and how long its state goes on.
    what, cause = row.what.replace(MISSING, ""), cause_of(row.key)
    if cause is None or row.cleared is None or KINDS[cause].end not in _LASTING:
        return what
    until = "the end of the session"
    if KINDS[cause].end is CauseEnd.QUIET:
        until = both_times((row.cleared + QUIET).replace(microsecond=0))
    return f"{what.removesuffix('.')}; {KINDS[cause].state.word} until {until}."


def _merged(rows: Sequence[StoredAlert], kept: int) -> str:
    return f"{plural(len(rows) + kept, f'{rows[0].urgency.value} alert')}, the first: {rows[0].what.rstrip('.')}"
