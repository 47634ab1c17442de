"""A step of the set-up: what it asks, when it is needed, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from tbot_core.journal.projections.failover import DrillStep
from tbot_extension_web.setup.fields import FormField
from tbot_extension_web.setup.state import SetUpState

Values = Mapping[str, str]
Fault = tuple[str, str]
"""The name of a field, "" for the answers together, and a sentence."""


def _always(_state: SetUpState) -> bool:
    return True


def _no_faults(_state: SetUpState, _values: Values) -> Sequence[Fault]:
    return ()


def _nothing(_state: SetUpState) -> Mapping[str, Any]:
    return {}


@attrs.frozen(kw_only=True)
class Step:
    """One page of the set-up.

    `fields` are its questions with the answers that are stored. `keep` is the state with these answers; it gets those
    that are allowed only. `faults` is a sentence for each reason why the answers do not fit together. `needed` tells
    whether the step applies. `shows` are more values of its template. `test` tries the stored answers, and returns its
    result; `test_label` is its button, and `answers` are those that it tries. With `later` the step may be left for
    later.
    """

    name: str
    title: str
    intro: str
    fields: Callable[[SetUpState], tuple[FormField, ...]]
    keep: Callable[[SetUpState, Values], SetUpState]
    needed: Callable[[SetUpState], bool] = _always
    faults: Callable[[SetUpState, Values], Sequence[Fault]] = _no_faults
    shows: Callable[[SetUpState], Mapping[str, Any]] = _nothing
    template: str = "setup/step.html"
    test: Callable[[SetUpState], DrillStep] | None = None
    test_label: str = ""
    answers: Callable[[SetUpState], object] = _nothing
    later: bool = False
    part_of: str = ""
