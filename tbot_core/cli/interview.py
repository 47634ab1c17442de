"""Questions on a terminal, one after the other: a wrong answer is asked again at once, and one can go back.

A script is a function that asks its questions in order. To go back the last answer is dropped, and the script runs
again: it gets the other answers without asking, so that each later question follows from the earlier answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import fill
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

import attrs
import click

T = TypeVar("T")
WIDTH: Final = 78
BACK: Final = frozenset({"<", "back"})
EXPLAIN: Final = "?"
KEYS: Final = "Enter takes the value in [brackets], ? explains the question, < goes back, Ctrl-C ends."
"""What can be typed at each question."""


class AnswerRefused(ValueError):
    """An answer that cannot be used; the text is a sentence that names what is allowed."""


class _WentBack(Exception):
    pass


class _Rewound(Exception):
    def __init__(self, mark: int) -> None:
        super().__init__()
        self.mark = mark


@attrs.frozen(kw_only=True)
class Question(Generic[T]):
    """A question in one line, with the sentences that `?` shows.

    `parse` turns the written text into a value; it raises AnswerRefused, or ValueError, for which `allowed` is shown.
    `default` is what Enter means, None if an answer is required; `shown_default` is its text in the line. `hidden`
    input is not shown.
    """

    label: str
    explanation: str
    parse: Callable[[str], T]
    allowed: str = ""
    default: str | None = None
    shown_default: str = ""
    hidden: bool = False

    @property
    def line(self) -> str:
        """The question as it is asked."""
        words = self.shown_default or self.default or ("" if self.default is None else "empty")
        return f"{self.label}{f' [{words}]' if words else ''}"


def choice(label: str, choices: Mapping[str, str], *, explanation: str, default: str = "") -> Question[str]:
    """A question for one name of `choices`, by the name in any case or by its number in the list."""
    names = list(choices)

    def parse(text: str) -> str:
        wanted = text.strip().lower()
        if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            return names[int(wanted) - 1]
        found = next((name for name in names if name.lower() == wanted), None)
        if found is None:
            raise ValueError(text)
        return found

    numbers = "1" if len(names) == 1 else f"a number from 1 to {len(names)}"
    return Question(
        label=label,
        explanation=explanation,
        parse=parse,
        allowed=f"{numbers}, or a name: {', '.join(names)}",
        default=default or None,
    )


def listed(choices: Mapping[str, str]) -> str:
    """The choices as numbered lines, each with its description."""
    width = max(map(len, choices))
    return "\n".join(
        wrapped(f"{description}", first=f"  {number}  {name:<{width}}  ", rest=" " * (width + 7))
        for number, (name, description) in enumerate(choices.items(), 1)
    )


def wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    """The text in lines of at most 78 columns, with an indent for the first line and one for the others."""
    return fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,  # paths and options stay in one piece
        break_long_words=False,
    )


class Interview:
    """The answers of a person to the questions of a script."""

    def __init__(self) -> None:
        self._given: list[tuple[Any, bool]] = []  # values in order, and whether each was asked for
        self._next = 0

    def run(self, script: Callable[[Interview], T]) -> T:
        """The result of the script, after a person has answered. Raises click.Abort for Ctrl-C and Ctrl-D."""
        while True:
            self._next = 0
            try:
                return script(self)
            except _WentBack:
                self._drop_last_answer()
            except _Rewound as wish:
                del self._given[wish.mark :]

    def say(self, text: str = "") -> None:
        """Show text, unless it was shown before the answers that are repeated."""
        if self._next == len(self._given):
            click.echo(text)

    def ask(self, question: Question[T]) -> T:
        """The value of the answer; a person is asked until it can be used."""
        return cast("T", self._value(lambda: self._asked(question), asked=True))

    def once(self, deed: Callable[[], T]) -> T:
        """The result of the deed, which is not done again when a person goes back to a later question."""
        return cast("T", self._value(deed, asked=False))

    def mark(self) -> int:
        """The present place in the script, for `rewind`."""
        return self._next

    def rewind(self, mark: int) -> NoReturn:
        """Forget the answers since the mark, and continue there."""
        raise _Rewound(mark)

    def _value(self, find: Callable[[], object], *, asked: bool) -> object:
        if self._next == len(self._given):
            self._given.append((find(), asked))
        self._next += 1
        return self._given[self._next - 1][0]

    def _drop_last_answer(self) -> None:
        while self._given:
            _, asked = self._given.pop()
            if asked:
                return
        click.echo("This is the first question.")

    def _asked(self, question: Question[T]) -> T:
        while True:
            text = _read(question)
            word = text.strip().lower()
            if word in BACK:
                raise _WentBack
            if word == EXPLAIN:
                click.echo(wrapped(question.explanation, first="    ", rest="    "))
                continue
            try:
                return question.parse(text or question.default or "")
            except AnswerRefused as fault:
                _refuse(str(fault))
            except ValueError:
                given = "" if question.hidden or not text else f"{text[:40]!r} is not allowed. "
                _refuse(f"{given or 'A value is needed. ' if not text else given}Allowed: {question.allowed}.")


def _read(question: Question[Any]) -> str:
    # One line as it was typed; without blanks around it if it is shown.
    while True:
        try:
            text: str = click.prompt(question.line, default="", show_default=False, hide_input=question.hidden)
            text.encode()
        except UnicodeError:
            _refuse("The input is not UTF-8 text. Allowed: UTF-8 text.")
        else:
            return text if question.hidden else text.strip()


def _refuse(sentence: str) -> None:
    click.echo(wrapped(sentence, first="    ", rest="    "))
