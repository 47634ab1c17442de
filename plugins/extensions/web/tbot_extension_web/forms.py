"""Reads the form of a request: in time, within a size, and text but for the files that its route takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from starlette.requests import Request

MOST_FORM_BYTES: Final = 1_000_000
MOST_FIELDS: Final = 1_000
FILE_NAME: Final = "{}:file"
READ_S: Final = 10.0
"""How long a form may take to arrive."""

_UTF_8: Final = frozenset({b"", b"utf-8", b"utf8"})


async def read_form(request: Request, files: AbstractSet[str] = frozenset()) -> dict[str, str]:
    """The fields of a form; `files` are those that may be a file, whose bytes that are no text are surrogates.

    How a file is called is the field FILE_NAME with its name. Raises HTTPException for a form that is too large or too
    slow, or is none.
    """
    body = await _body(request)
    kind, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"charset", b"").lower() not in _UTF_8:
        raise HTTPException(415, "A form is sent as UTF-8.")
    try:
        if kind == b"application/x-www-form-urlencoded":
            pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
            return dict(pairs)
        if kind == b"multipart/form-data" and files:
            return await _parts(request, files)
    except ValueError as fault:  # UnicodeError is one
        raise HTTPException(400, "The form cannot be read: its fields are not text.") from fault
    raise HTTPException(415, "A form is sent as the page sends it.")


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST_FORM_BYTES:
        raise HTTPException(413, f"A form has at most {MOST_FORM_BYTES:,} bytes, and says how many.")
    try:
        async with asyncio.timeout(READ_S):
            return await request.body()
    except TimeoutError as fault:
        raise HTTPException(408, f"The form did not arrive within {READ_S:g} s.") from fault
    except ClientDisconnect as fault:
        raise HTTPException(400, "The form did not arrive.") from fault


async def _parts(request: Request, files: AbstractSet[str]) -> dict[str, str]:
    async with request.form(max_files=len(files), max_fields=MOST_FIELDS) as form:
        found = {}
        for name, value in form.multi_items():
            if not (isinstance(value, str) or name in files):
                raise ValueError(name)
            if isinstance(value, str):
                found[name] = value
                continue
            found[name] = (await value.read()).decode(errors="surrogateescape")
            found[FILE_NAME.format(name)] = value.filename or ""
        return found
