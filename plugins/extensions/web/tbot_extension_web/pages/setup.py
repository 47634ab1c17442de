"""The set-up: a page for each step, and at the end the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from tbot_core.actions.plugin_lock import approve_installed
from tbot_extension_web.opening import open_made_instance
from tbot_extension_web.setup.fields import judged, values_of
from tbot_extension_web.setup.state import SetUpState
from tbot_extension_web.setup.steps import needed_steps
from tbot_extension_web.setup.summary import summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response

    from tbot_core.actions.setup_draft import SetUp
    from tbot_extension_web.call import Call
    from tbot_extension_web.setup.fields import FormField
    from tbot_extension_web.setup.step import Step

SUMMARY = "summary"


async def begin(call: Call) -> Response:
    """Go on where the set-up was."""
    state = await call.work(_state, call)
    steps = await call.work(needed_steps, state)
    return call.to(f"/setup/{next((one.name for one in steps if one.name not in state.draft.done), SUMMARY)}")


async def show(call: Call) -> Response:
    """The questions of a step, or the summary."""
    return (
        call.page("setup/summary.html", **await call.work(_summary, call))
        if _named(call) == SUMMARY
        else (await _step_page(call))
    )


async def send(call: Call) -> Response:
    """Store the answers of a step, and go on; answers that are not allowed are shown with what is wrong."""
    return await _answered(call)


async def create(call: Call) -> Response:
    """Make the instance, and show what `tbot check` finds."""
    await call.work(_create, call)
    if call.site.first_run is not None:
        open_made_instance(call.site, call.site.first_run)
    return call.to("/check")


def _create(call: Call) -> None:
    setup = _setup(call)
    setup.finish(setup.read())
    approve_installed(call.site.home)


async def _step_page(call: Call, fields: Sequence[FormField] = (), faults: Sequence[str] = ()) -> Response:
    values = await call.work(_step_values, call, fields, faults)
    return call.page(values["step"].template, 400 if fields else 200, **values)


def _step_values(call: Call, fields: Sequence[FormField], faults: Sequence[str]) -> dict[str, Any]:
    state = _state(call)
    steps, step = _steps_at(call, state)
    place = [one.name for one in steps].index(step.name)
    return {
        "steps": _listed(steps, state, step.name),
        "step": step,
        "fields": fields or step.fields(state),
        "faults": faults,
        "result": "",
        "back": f"/setup/{steps[place - 1].name}" if place else "",
        "absent": {},
        "failures": (),
        **step.shows(state),
    }


async def _answered(call: Call) -> Response:
    outcome = await call.work(_keep, call)
    if isinstance(outcome, str):
        return call.to(f"/setup/{outcome}")
    return await _step_page(call, *outcome)


def _keep(call: Call) -> str | tuple[Sequence[FormField], Sequence[str]]:
    # The name of the next step; the judged fields where answers are not allowed.
    state = _state(call)
    _, step = _steps_at(call, state)
    if "later" not in call.form or not step.later:
        fields = judged(step.fields(state), call.form)
        values = values_of(fields)
        faults = () if any(one.fault for one in fields) else step.faults(state, values)
        if faults or any(one.fault for one in fields):
            return fields, faults
        state = step.keep(state, values)
    state = state.changed(done=tuple(dict.fromkeys((*state.draft.done, step.name))))
    state.setup.write(state.draft)
    names = [one.name for one in needed_steps(state)]
    after = names[names.index(step.name) + 1 :] if step.name in names else []
    return after[0] if after else SUMMARY


def _summary(call: Call) -> dict[str, Any]:
    state = _state(call)
    steps = needed_steps(state)
    return {"steps": _listed(steps, state, SUMMARY), "back": f"/setup/{steps[-1].name}", **summary(state)}


def _listed(steps: Sequence[Step], state: SetUpState, present: str) -> list[Mapping[str, Any]]:
    # The list of steps as it is shown, the summary last.
    names = [*((one.name, one.title) for one in steps), (SUMMARY, "Summary")]
    return [
        {"path": f"/setup/{name}", "title": title, "done": name in state.draft.done, "present": name == present}
        for name, title in names
    ]


def _steps_at(call: Call, state: SetUpState) -> tuple[tuple[Step, ...], Step]:
    steps = needed_steps(state)
    found = next((one for one in steps if one.name == _named(call)), None)
    if found is None:
        raise HTTPException(404)
    return steps, found


def _named(call: Call) -> str:
    return str(call.request.path_params["step"])


def _state(call: Call) -> SetUpState:
    setup = _setup(call)
    return SetUpState(setup=setup, draft=setup.read())


def _setup(call: Call) -> SetUp:
    if call.site.setup is None:
        raise HTTPException(404)
    return call.site.setup
