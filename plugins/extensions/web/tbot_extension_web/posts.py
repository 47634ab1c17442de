"""What forms have in common: they are made after a question, once, and answered by a page that a reload only shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import TbotError
from tbot_extension_web.texts import clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response

    from tbot_extension_web.call import Call

ONCE: Final = "once"
"""The field with the number of a form that counts once."""

SURE: Final = "sure"
"""The field that says that the person was asked."""

_OWN: Final = frozenset({ONCE, SURE, "csrf"})


@attrs.frozen(kw_only=True)
class Question:
    """What a person is asked before a request: what it does, and the button that makes it; `back` leads away.

    `fields` are sent with the answer.
    """

    title: str
    text: str
    button: str
    back: str
    facts: tuple[str, ...] = ()
    fields: Mapping[str, str] = attrs.field(factory=dict)


def is_sure(call: Call) -> bool:
    """Whether the person has answered the question that comes first."""
    return call.form.get(SURE) == "yes"


async def answered(
    call: Call, handler: Callable[[Call], Awaitable[Response]], ask: Callable[[Call], Awaitable[Question]] | None
) -> Response:
    """Handle a form of a session: after a question where there is one, once, and with an answer that is kept."""
    path = call.request.url.path
    call = attrs.evolve(call, keeps=True)
    try:
        if ask is not None and not is_sure(call):
            asked = {name: text for name, text in call.form.items() if name not in _OWN}
            question = await ask(call)
            return call.page("sure.html", question=question, action=path, asked={**asked, **question.fields})
        if number := call.form.get(ONCE, ""):
            before = call.site.sent.sent_before(call.user, number)
            if before is not None:
                return call.to(path, _SENT.format(clock(before)))
        return await handler(call)
    except TbotError as fault:
        return call.page("message.html", 400, title="Not done", text=fault.message, remedy=fault.remedy, back=path)


_SENT: Final = "This form was sent at {} already, and counts once: nothing was done again. Shown is how it is now."


async def show_answer(call: Call) -> Response:
    """The answer to a form; where it is not kept any longer, the page of the form."""
    kept = call.site.answers.read(call.user, call.request.path_params["number"])
    if kept is None:
        return call.to(local_path(call.request.query_params.get("of", "/")))
    return call.page(kept.template, kept.code, **{"path": kept.path, **kept.values})


async def forget_answers(call: Call) -> Response:
    """Keep the answers of the session no longer, for what was shown once and has been written down."""
    call.site.answers.forget(call.user)
    return call.to(local_path(call.form.get("next", "/")))


def local_path(path: str) -> str:
    """The path, where it is one of this page and nothing else, so that no link leads away; else the dashboard's."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
