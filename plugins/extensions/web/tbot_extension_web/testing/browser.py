"""A browser of one person: it keeps cookies, follows redirects, and sends forms with the token of the page."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Final

import attrs
from starlette.types import ASGIApp

from tbot_extension_web.testing.client import Answer, ask_once

if TYPE_CHECKING:
    from collections.abc import Mapping


_CSRF: Final = re.compile(r'name="csrf" value="([^"]*)"')
_MOST: Final = 5
_EDGE: Final = "the-edge-of-a-part"


@attrs.define(kw_only=True)
class Browser:
    """Open pages and send forms; `place` is the address of the page that is shown, `answer` the page."""

    app: ASGIApp
    cookies: dict[str, str] = attrs.field(factory=dict)
    place: str = ""
    answer: Answer | None = None

    def open(self, path: str) -> Answer:
        """Open a page."""
        return self._follow("GET", path, {})

    def send(self, path: str, form: Mapping[str, str] | None = None) -> Answer:
        """Send a form to the path, with the token of the page that is shown."""
        return self._follow("POST", path, {"csrf": self.token, **(form or {})})

    def upload(self, path: str, form: Mapping[str, str], files: Mapping[str, bytes]) -> Answer:
        """Send a form with files to the path, to the byte."""
        parts = [(f'name="{name}"', text.encode()) for name, text in {"csrf": self.token, **form}.items()]
        parts += [(f'name="{name}"; filename="{name}"', data) for name, data in files.items()]
        head = "--{0}\r\nContent-Disposition: form-data; {1}\r\n\r\n"
        body = b"".join(head.format(_EDGE, names).encode() + data + b"\r\n" for names, data in parts)
        return self._follow("POST", path, {}, body + f"--{_EDGE}--\r\n".encode())

    @property
    def token(self) -> str:
        """The token of the form that is shown."""
        match = _CSRF.search(self.text)
        return match.group(1) if match else ""

    @property
    def text(self) -> str:
        """The page that is shown."""
        return "" if self.answer is None else self.answer.text

    def _follow(self, method: str, path: str, form: Mapping[str, str], raw: bytes | None = None) -> Answer:
        answer = self._ask(method, path, form, raw)
        for _ in range(_MOST):
            if answer.status != 303:
                break
            method, path = "GET", answer.headers["location"]
            answer = self._ask(method, path, {})
        self.place, self.answer = path, answer
        return answer

    def _ask(self, method: str, path: str, form: Mapping[str, str], raw: bytes | None = None) -> Answer:
        sent = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        sent |= {} if raw is None else {"content-type": f"multipart/form-data; boundary={_EDGE}"}
        answer = ask_once(self.app, method, path, sent, form if raw is None else raw)
        for line in answer.cookies:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if not morsel.value or morsel["max-age"] == "0":
                    self.cookies.pop(name)
        return answer
