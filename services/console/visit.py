"""What a page is given: who asks, about which organization, the services for that person, and how to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.console.apis import Api
from services.console.filters import Asked, asked_of
from services.console.preferences import Preferences
from services.console.rendering import render
from services.console.sign_in.session import Session
from services.console.times import today_in
from services.domain.permissions import Caller

SEE_OTHER = 303
TOLD = "told"
"""The field of a URL by which a page says what was just done: a key of ``words.DONE``."""


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in."""

    request: Request
    caller: Caller
    session: Session = field(repr=False)
    registry: Api
    ledger: Api
    preferences: Preferences
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The fields of a form that was sent; none of a page that was asked for."""

    @property
    def query(self) -> Mapping[str, str]:
        """What the URL asks with."""
        return self.request.query_params

    @property
    def asked(self) -> Asked:
        """What the URL asks for, in days of the reader's time zone. Raises UnusableFormError."""
        zone = self.preferences.time_zone
        return asked_of(self.query, today_in(zone), zone)

    @property
    def org_id(self) -> str:
        """The organization that the page is about; empty where one still has to be chosen."""
        own = "" if self.caller.is_everywhere else self.caller.org_id
        return self.query.get("org_id", "").strip() or own

    def link(self, path: str, **fields: str | None) -> str:
        """A page of ours about the same organization; fields that are empty are left out."""
        about = {"org_id": self.org_id} if self.caller.is_everywhere and self.org_id else {}
        given = {name: value for name, value in (about | fields).items() if value}
        return f"{path}?{urlencode(given)}" if given else path

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """The template of that name, which finds this visit as ``visit``."""
        return HTMLResponse(render(template, self, **values), status)

    def go_to(self, path: str, *, told: str | None = None, **fields: str | None) -> Response:
        """Where to go on after a form: never answer one with a page, or reloading it sends it again."""
        return RedirectResponse(self.link(path, **fields, **{TOLD: told}), SEE_OTHER)
