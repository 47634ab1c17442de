"""Requests to a running bot: files in the instance's folder `control/`, written atomically, polled every 50 ms.

The files `kill` and `stop` apply with any content and any owner. Every other request is a JSON document in its own
file. A request that only restricts is executed with any owner and mode, which are recorded as its flaw. A request that
permits something needs the right owner and mode. An invalid document is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.system import filesystem, random, secure_files

if TYPE_CHECKING:
    from pathlib import Path

KILL: Final = "kill"
STOP: Final = "stop"
POLL_S: Final = 0.05
LARGEST_ORDER: Final = 2**62
"""The largest order of a request; those of the commands do not go beyond it either."""

_SUFFIX: Final = ".json"
_LARGEST: Final = 4096
_NAME: Final = 12


class ControlVerb(StrEnum):
    """The requests to a running bot."""

    KILL = "kill"
    KILL_FLATTEN = "kill-flatten"
    KILL_CLEAR = "kill-clear"
    STOP = "stop"
    STOP_FLATTEN = "stop-flatten"
    STOP_KEEP = "stop-keep"
    STOP_CANCEL = "stop-cancel"
    DEFENSE_ON = "defense-on"
    DEFENSE_OFF = "defense-off"
    ARM = "arm"
    DISARM = "disarm"
    CONFIRM = "confirm"
    REJECT = "reject"
    FAILOVER_CONFIRM = "failover-confirm"
    ACCEPT_JOURNAL = "accept-journal"


RESTRICTING_VERBS: Final = frozenset(
    {
        ControlVerb.KILL,
        ControlVerb.KILL_FLATTEN,
        ControlVerb.STOP,
        ControlVerb.STOP_FLATTEN,
        ControlVerb.STOP_KEEP,
        ControlVerb.DEFENSE_ON,
        ControlVerb.DISARM,
        ControlVerb.REJECT,
    }
)
"""The verbs that only restrict trading."""

CONFIRMATION_VERBS: Final = frozenset({ControlVerb.CONFIRM, ControlVerb.REJECT})
"""The answers to an entry that needs a confirmation."""

WITHDRAWALS: Final[Mapping[ControlVerb, frozenset[ControlVerb]]] = {
    ControlVerb.KILL_CLEAR: frozenset({ControlVerb.KILL, ControlVerb.KILL_FLATTEN}),
    ControlVerb.STOP_CANCEL: frozenset({ControlVerb.STOP, ControlVerb.STOP_FLATTEN, ControlVerb.STOP_KEEP}),
    ControlVerb.DEFENSE_OFF: frozenset({ControlVerb.DEFENSE_ON}),
}
"""The earlier requests that each of these withdraws."""


@attrs.frozen(kw_only=True)
class ControlRequest:
    """A request in the folder: `name` of its file, `actor` who made it, `made` when (UTC), by the clock of then.

    `order` is above the number of the journal's last event, and above the order of each request, that its author could
    see: what is asked for later has more, however the clock is set. 0: nothing was known. `flaw`: why others could
    have changed its file; "" if only its owner can.
    """

    name: str
    verb: ControlVerb
    actor: str
    made: datetime
    order: int = 0
    arguments: Mapping[str, str] = attrs.field(factory=dict)
    flaw: str = ""


@attrs.frozen(kw_only=True)
class RefusedRequest:
    """A refused file and the reason, in `words` that name neither it nor its folder."""

    name: str
    words: str


@attrs.frozen(kw_only=True)
class ControlFolderState:
    """The content of the folder: whether the kill and stop files exist, requests in their order, and refused ones."""

    kill: bool = False
    stop: bool = False
    requests: tuple[ControlRequest, ...] = ()
    refused: tuple[RefusedRequest, ...] = ()

    @property
    def answers(self) -> dict[str, ControlRequest]:
        """The answers that no bot has read yet, by the id of the entry; of several the one that counts."""
        found: dict[str, ControlRequest] = {}
        for one in self.requests:
            if one.verb in CONFIRMATION_VERBS:
                name = one.arguments.get("id", "")
                found[name] = effective_answer(found.get(name), one)
        return found


def effective_answer(earlier: ControlRequest | None, later: ControlRequest) -> ControlRequest:
    """Of two answers to an entry the one that counts: the first one, but a rejection until the entry is sent."""
    if earlier is None or (earlier.verb is ControlVerb.CONFIRM and later.verb is ControlVerb.REJECT):
        return later
    return earlier


EMPTY_FOLDER: Final = ControlFolderState()


def prepare_folder(folder: Path) -> None:
    """Create the folder with access for its owner only."""
    filesystem.make_folder(folder, mode=0o700)


def kill_file_exists(folder: Path) -> bool:
    """Whether the kill file exists; checked inside the second barrier of every send.

    Raises AccessError if that cannot be determined.
    """
    return filesystem.is_visible(folder / KILL)


def read_folder(folder: Path) -> ControlFolderState:
    """The current content of the folder; a missing folder is empty.

    Raises AccessError if the folder cannot be read; entries must then be blocked, because a kill could be hidden.
    """
    try:
        entries = filesystem.entries(folder)
    except AccessError:
        if filesystem.is_present(folder):
            raise
        return EMPTY_FOLDER
    names = [path for path in entries if not path.name.startswith(".")]
    if not names:
        return EMPTY_FOLDER
    requests: list[ControlRequest] = []
    refused: list[RefusedRequest] = []
    for path in names:
        if path.name in {KILL, STOP}:
            continue
        match _read(path):
            case ControlRequest() as request:
                requests.append(request)
            case RefusedRequest() as other:
                refused.append(other)
    present = {path.name for path in names}
    requests.sort(key=lambda request: (request.order, request.made, request.name))
    return ControlFolderState(
        kill=KILL in present, stop=STOP in present, requests=tuple(requests), refused=tuple(refused)
    )


def write_request(  # noqa: PLR0913  -- the parts of a request
    folder: Path,
    verb: ControlVerb,
    *,
    actor: str,
    now: datetime,
    order: int = 0,
    arguments: Mapping[str, str] | None = None,
) -> str:
    """Write a request atomically and return its file name; the file stays until the bot has recorded it."""
    name = f"{verb.value}-{random.token(_NAME)}{_SUFFIX}"
    put_request(
        folder, ControlRequest(name=name, verb=verb, actor=actor, made=now, order=order, arguments=arguments or {})
    )
    return name


def put_request(folder: Path, request: ControlRequest) -> None:
    """Write a request to the folder under its own name."""
    prepare_folder(folder)
    header = {"verb": request.verb.value, "actor": request.actor, "made": request.made.isoformat()}
    document = header | {"order": request.order, "arguments": dict(request.arguments)}
    filesystem.write_atomic(folder / request.name, json.dumps(document, sort_keys=True).encode())


def remove_request(folder: Path, name: str) -> None:
    """Delete the file of a recorded request."""
    filesystem.remove(folder / name)


def _read(path: Path) -> ControlRequest | RefusedRequest:
    # The request in a file, or why it is refused: owner, mode, kind or content.
    #
    # Owner and mode are checked after the verb is known: a kill must not be refused for them.
    try:
        content = secure_files.inspect(path, limit=_LARGEST)
    except secure_files.PrivateFileError as fault:
        return RefusedRequest(name=path.name, words=f"{fault.flaw.value}.")
    flaw = content.flaws[0].value if content.flaws else ""
    try:
        request = _request(path.name, json_document.parse_json(bytes(content.data.view)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return RefusedRequest(name=path.name, words=f"{flaw or 'it is no request that a command of tbot wrote'}.")
    if flaw and request.verb not in RESTRICTING_VERBS:
        return RefusedRequest(name=path.name, words=f"{flaw}.")
    return attrs.evolve(request, flaw=flaw)


def _request(name: str, document: Mapping[str, Any]) -> ControlRequest:
    # The request of a document; raises ValueError, KeyError or TypeError for anything else.
    if set(document) - {"order"} != {"verb", "actor", "made", "arguments"}:
        raise ValueError("fields")
    actor, arguments, order = document["actor"], document["arguments"], document.get("order", 0)
    texts = (actor, *arguments.keys(), *arguments.values())
    made = datetime.fromisoformat(document["made"])
    if not all(isinstance(text, str) and text.isprintable() for text in texts) or made.utcoffset() is None:
        raise ValueError("values")
    if type(order) is not int or not 0 <= order <= LARGEST_ORDER:
        raise ValueError("order")
    verb = ControlVerb(document["verb"])
    return ControlRequest(name=name, verb=verb, actor=actor, made=made, order=order, arguments=arguments)
