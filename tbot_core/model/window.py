"""The window of a strategy in a session."""

from __future__ import annotations

import attrs

_whole = attrs.validators.instance_of(int)


@attrs.frozen(kw_only=True)
class Window:
    """The analysis, entry and management phases of a strategy, in whole minutes after the open.

    Analysis bars start in [start, entry), trigger bars in [entry, entry_end). Raises ValueError unless the window
    starts at or after the open and has at least one trigger bar and one minute of monitoring.
    """

    start: int = attrs.field(validator=[_whole, attrs.validators.ge(0)])
    analysis: int = attrs.field(validator=[_whole, attrs.validators.ge(0)])
    breakout: int = attrs.field(validator=[_whole, attrs.validators.ge(1)])
    monitoring: int = attrs.field(validator=[_whole, attrs.validators.ge(1)])

    @property
    def entry(self) -> int:
        """The first minute whose bar may trigger an entry."""
        return self.start + self.analysis

    @property
    def entry_end(self) -> int:
        """The minute after the last trigger bar."""
        return self.entry + self.breakout

    @property
    def leave(self) -> int:
        """The minute at which the window ends: bar `leave - 1` has closed."""
        return self.entry_end + self.monitoring

    def outside(self, session_minutes: int, flatten_before_close: int) -> bool:
        """Whether the window does not fit a session of this length: flattening starts before the entry phase ends."""
        return self.entry_end > session_minutes - flatten_before_close
