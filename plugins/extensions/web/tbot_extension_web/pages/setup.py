"""The set-up: a page for each step, and at the end the instance."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

import attrs
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from tbot_core.actions.plugins import approve_lock, propose_lock
from tbot_core.errors import TbotError
from tbot_core.instance.sources import is_set_up
from tbot_extension_web.access.security_log import SecurityLog
from tbot_extension_web.opening import open_made_instance
from tbot_extension_web.setup.begin_steps import left_open, of_chosen_file
from tbot_extension_web.setup.fields import judged, values_of
from tbot_extension_web.setup.state import SetUpState
from tbot_extension_web.setup.steps import needed_steps, step_named
from tbot_extension_web.setup.summary import summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response

    from tbot_core.actions.setup_draft import Draft, SetUp
    from tbot_extension_web.call import Call
    from tbot_extension_web.server import Address
    from tbot_extension_web.setup.fields import FormField
    from tbot_extension_web.setup.step import Step

SUMMARY: Final = "summary"


async def begin(call: Call) -> Response:
    """Go on where the set-up was."""
    return call.to(f"/setup/{await call.work(lambda: _next(_state(call)))}")


async def show(call: Call) -> Response:
    """The questions of a step, or the summary."""
    return (
        call.page("setup/summary.html", **await call.work(_summary, call))
        if _named(call) == SUMMARY
        else (await _step_page(call))
    )


async def send(call: Call) -> Response:
    """Store the answers of a step, and go on; answers that are not allowed are shown with what is wrong."""
    outcome = await call.work(_keep, call)
    if isinstance(outcome, str):
        return call.to(f"/setup/{outcome}")
    return await _step_page(call, *outcome)


async def test(call: Call) -> Response:
    """Store the answers, try them, and show the result."""
    outcome = await call.work(_keep, call)
    if not isinstance(outcome, str):
        return await _step_page(call, *outcome)
    await call.work(_try, call)
    return call.to(f"/setup/{_named(call)}")


async def judge_field(call: Call) -> Response:
    """What is wrong with one field as it is written now, for the script of the page; empty where nothing is."""
    return HTMLResponse(html.escape(await call.work(_judged, call)))


async def create(call: Call) -> Response:
    """Make the instance with the plugins that the form has shown approved, and show what `tbot check` finds."""
    shown = await call.work(_summary, call)
    if call.form.get("plugins", "") != shown["used"].digest:
        return call.page("setup/summary.html", 400, **{**shown, "faults": (_OTHER_PLUGINS, *shown["faults"])})
    approved = await call.work(_create, call)
    first = call.site.first_run
    later = None if first is None else open_made_instance(call.site, first)
    return call.to("/check", *approved, *([] if later is None or later.loopback else [later_address(later)]))


def later_address(address: Address) -> str:
    """What is missing for an address that other machines reach."""
    return (
        f"The page will listen on {address.url}, where every login needs a one-time code: turn the codes on now, then "
        "start `tbot web` again. It stays on this machine until an admin has them."
    )


_OTHER_PLUGINS: Final = "The plugins differ from those that were shown. Read the list, then approve it."


def _create(call: Call) -> Sequence[str]:
    # The person has read the list with its warnings; what cannot be approved is said.
    setup = _setup(call)
    with setup.turn:
        if is_set_up(setup.instance):  # by who pressed the button at the same time
            return ()
        setup.finish(setup.read())
    try:
        proposal = propose_lock(call.site.home, call.actor)
        approve_lock(proposal)
    except TbotError as fault:
        return (f"No plugin is approved: {fault}",)
    return (proposal.result, *proposal.warnings)


async def _step_page(call: Call, fields: Sequence[FormField] = (), faults: Sequence[str] = ()) -> Response:
    values = await call.work(_step_values, call, fields)
    code = 400 if fields or faults else 200
    return call.page(values["step"].template, code, **values, faults=faults)


def _step_values(call: Call, fields: Sequence[FormField]) -> dict[str, Any]:
    state = _state(call)
    steps, step = _steps_at(call, state)
    names = [one.name for one in steps]
    place = names.index(step.part_of or step.name)
    back = step.part_of or (names[place - 1] if place else "")
    return {
        "steps": _listed(steps, state, step.part_of or step.name),
        "step": step,
        "fields": fields or step.fields(state),
        "back": f"/setup/{back}" if back else "",
        "result": state.draft.notes.get(step.name, "") if step.test else "",
        "absent": {},
        "failures": (),
        **step.shows(state),
    }


def _keep(call: Call) -> str | tuple[Sequence[FormField], Sequence[str]]:
    # The name of the next step; the judged fields where answers are not allowed.
    setup = _setup(call)
    return setup.change(lambda draft: _kept(call, SetUpState(setup=setup, draft=draft)))


def _kept(call: Call, state: SetUpState) -> tuple[Draft, str | tuple[Sequence[FormField], Sequence[str]]]:
    _, step = _steps_at(call, state)
    if "later" not in call.form or not step.later:
        fields = judged(step.fields(state), call.form)
        values = values_of(fields)
        if any(field.fault for field in fields):
            return state.draft, (fields, ())
        if found := step.faults(state, values):
            fields = tuple(field.with_faults(words for name, words in found if name == field.name) for field in fields)
            known = {field.name for field in fields}
            return state.draft, (
                fields,
                tuple(of_chosen_file(words, call.form) for name, words in found if name not in known),
            )
        before, state = state, step.keep(state, values)
        if step.answers(before) != step.answers(state):
            state = state.noted(step.name, "")  # what was tried were other answers
    if not step.part_of:
        state = state.changed(done=tuple(dict.fromkeys((*state.draft.done, step.name))))
    return state.draft, step.part_of or _next(state, step.name)


def _next(state: SetUpState, after: str = "") -> str:
    # The first step without an answer, after this one if there is one; else the summary.
    names = [step.name for step in needed_steps(state)]
    place = names.index(after) + 1 if after in names else 0
    ahead = [*names[place:], *names[:place]]
    return next((name for name in ahead if name not in state.draft.done), SUMMARY)


def _try(call: Call) -> None:
    # It takes as long as a login or a message does: the result is noted unless other answers were sent meanwhile.
    tried = _state(call)
    _, step = _steps_at(call, tried)
    if step.test is None:
        raise HTTPException(404)
    found = step.test(tried)
    words = f"{'Passed' if found.passed else 'Failed'}: {found.words}"

    def noted(draft: Draft) -> tuple[Draft, None]:
        state = SetUpState(setup=tried.setup, draft=draft)
        return (state.noted(step.name, words) if step.answers(state) == step.answers(tried) else state).draft, None

    tried.setup.change(noted)


def _judged(call: Call) -> str:
    state = _state(call)
    _, step = _steps_at(call, state)
    wanted = call.request.query_params.get("name", "")
    found = [field for field in step.fields(state) if field.name == wanted]
    return judged(found, call.form)[0].fault if found else ""


def _summary(call: Call) -> dict[str, Any]:
    state = _state(call)
    steps = needed_steps(state)
    return {"steps": _listed(steps, state, SUMMARY), "back": f"/setup/{steps[-1].name}", **summary(state)}


def _listed(steps: Sequence[Step], state: SetUpState, present: str) -> list[Mapping[str, Any]]:
    # The list of steps as it is shown, the summary last.
    names = [*((step.name, step.title) for step in steps), (SUMMARY, "Summary")]
    done, later = set(state.draft.done), left_open(state)
    return [
        {
            "path": f"/setup/{name}",
            "title": title,
            "mark": "" if name not in done else "later" if name in later else "done",
            "present": name == present,
        }
        for name, title in names
    ]


def _steps_at(call: Call, state: SetUpState) -> tuple[tuple[Step, ...], Step]:
    step = step_named(state, _named(call))
    if step is None:
        raise HTTPException(404)
    return needed_steps(state), step


def _named(call: Call) -> str:
    return str(call.request.path_params["step"])


def _state(call: Call) -> SetUpState:
    setup = _setup(call)
    return SetUpState(setup=setup, draft=setup.read())


def _setup(call: Call) -> SetUp:
    if call.site.setup is None:
        raise HTTPException(404)
    setup = call.site.setup
    return attrs.evolve(setup, vault=SecurityLog(vault=setup.vault).acting(call.user.user))
