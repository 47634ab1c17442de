"""Contracts as numbered cases: plain functions that take what is tested, run by pytest or by `tbot plugins check`."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias
from unittest import SkipTest

import attrs

from tbot_core.system.foreign_exceptions import assert_failure

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

ContractCase: TypeAlias = Callable[[Any], None]
"""A case: its name begins with its number, its docstring is the promise, and it raises AssertionError where that is
broken."""


class NotClaimed(SkipTest):
    """The subject does not claim what the case is about: pytest skips it."""


def demand(condition: bool, words: str) -> None:  # noqa: FBT001 - called like an assertion
    """Raise AssertionError with this message unless the condition holds; unlike `assert`, also under `python -O`."""
    if not condition:
        raise AssertionError(words)


class ContractTests:
    """A pytest class with one test for each of `cases`; it needs no import of pytest."""

    cases: ClassVar[tuple[ContractCase, ...]]

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run a test that has the argument `case` once for each case."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=[case.__name__ for case in self.cases])


@attrs.frozen(kw_only=True)
class CaseResult:
    """What became of a case: `words` say why it failed or was not claimed; `trace` is the traceback of an error."""

    number: str
    promise: str
    outcome: Literal["passed", "failed", "not claimed"]
    words: str = ""
    trace: str = ""


def run_cases(
    cases: Sequence[ContractCase], subject: Callable[[], AbstractContextManager[Any]]
) -> tuple[CaseResult, ...]:
    """Run each case on a subject of its own; any exception of a plugin is a failure of that case only."""
    return tuple(_run(case, subject) for case in cases)


def _run(case: ContractCase, subject: Callable[[], AbstractContextManager[Any]]) -> CaseResult:
    number, promise = case.__name__.partition("_")[0], (case.__doc__ or "").partition("\n")[0]
    try:
        with subject() as one:
            case(one)
    except NotClaimed as reason:
        return CaseResult(number=number, promise=promise, outcome="not claimed", words=str(reason))
    except AssertionError as fault:
        return CaseResult(number=number, promise=promise, outcome="failed", words=str(fault))
    except BaseException as fault:  # noqa: BLE001  -- a plugin's own error is the finding
        assert_failure(fault)
        words = f"{type(fault).__name__}: {fault}"
        trace = "".join(traceback.format_exception(fault))
        return CaseResult(number=number, promise=promise, outcome="failed", words=words, trace=trace)
    return CaseResult(number=number, promise=promise, outcome="passed")
