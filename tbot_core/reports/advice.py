"""What a run tells besides its figures: windows without candidates, and what a run without a trade can change."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.model.formatting import plural
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_REASONS: Final = 3
WHY: Final = "`tbot why SYMBOL`"


@attrs.frozen(kw_only=True)
class DenialAdvice:
    """Sentences on the denials of a run, with what changes them.

    `strategies` are those that ran, `variables` the names of all settings (None: unknown).
    """

    strategies: Sequence[str]
    variables: Container[str] | None

    def on_candidates(self, without: Mapping[str, Mapping[str, int]], sessions: int) -> list[str]:
        """A sentence for each strategy that had no candidate in some sessions; one for those with the same causes.

        `without`: by strategy the reasons that denied most there, and in how many sessions.
        """
        alike: dict[str, list[str]] = {}
        for strategy, found in sorted(without.items()):
            most = sorted(found, key=lambda name: (-found[name], name))
            causes = ", ".join(self._named(name, (strategy,)) for name in most)
            count = f"{sum(found.values())} of {plural(sessions, 'session')}"
            words = f"had no candidates in {count}: every symbol was denied before the bell, most by {causes}."
            alike.setdefault(words, []).append(f"[{strategy.upper()}]")
        return [f"{', '.join(names)} {words}" for words, names in alike.items()]

    def on_idle(self, strategies: Sequence[str], sessions: int) -> list[str]:
        """One sentence on strategies without a trade in a run in which others traded; none without such strategies."""
        names = ", ".join(f"[{name.upper()}]" for name in strategies)
        words = (
            f"made no trade in {plural(sessions, 'session')}; `tbot why SYMBOL --date DATE` shows how near one came."
        )
        return [f"{names} {words}"] if names else []

    def on_no_trade(self, denials: Sequence[tuple[str, int]], why: str = WHY, home: str = "") -> list[str]:
        """For a run without a trade: what denied most, and the settings, data and commands that change it.

        `denials` begin with the most frequent. `why` is the command that explains a symbol, `home` the option of the
        commands, with a blank before it.
        """
        if not denials:
            return [f"No trade: no strategy had a signal; {why} shows the nearest."]
        chosen = [(name, count) for name, count in denials if not Reason[name].remedy.final][:_MOST_REASONS]
        if not chosen:
            name, count = denials[0]
            final = Reason[name].remedy.final
            return [f"No trade. Most denials: {name}, {plural(count, 'time')}. {final} {why} explains it."]
        causes = "; ".join(self._named(name, self.strategies, count) for name, count in chosen)
        commands = "; ".join(self._commands([Reason[name] for name, _ in chosen], home))
        return [f"No trade. Denied most by {causes}.", *([f"{commands}."] if commands else [])]

    def _named(self, name: str, strategies: Sequence[str], count: int = 0) -> str:
        # A reason with what changes it in brackets.
        remedy, settings = Reason[name].remedy, Reason[name].variables_for(strategies, self.variables)
        changes = [*([f"import {remedy.data}"] if remedy.data else []), *([", ".join(settings)] if settings else [])]
        times = f", {plural(count, 'time')}" if count else ""
        return f"{name}{times} ({' or '.join(changes)})" if changes else f"{name}{times}"

    def _commands(self, reasons: Sequence[Reason], home: str) -> Iterator[str]:
        if any(reason.remedy.data for reason in reasons):
            yield f"`tbot data import PATH{home}` imports data"
        settings = [name for reason in reasons for name in reason.variables_for(self.strategies, self.variables)]
        if settings:
            yield f"`tbot config edit{home}` changes settings"
            yield f"`tbot config explain {settings[0]}{home}` shows the allowed values"
        for command in dict.fromkeys(reason.remedy.command for reason in reasons if reason.remedy.command):
            yield command.format(home=home)
