"""The map of the site: each page's path, and what answers there."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from services.console.pages import (
    credential,
    credentials,
    dead_letters,
    models,
    new_credential,
    organizations,
    reader,
    receipts,
    savings,
    statement,
    usage,
    what_if,
)
from services.console.sign_in import pages as sign_in
from services.console.sign_in import with_provider
from services.console.site import form, page
from services.console.visit import Visit


async def first_page(visit: Visit) -> Response:
    """Where whoever names no page goes."""
    return visit.go_to(savings.PATH)


ROUTES: list[BaseRoute] = [
    page("/", first_page, about_organization=False),
    page(credentials.PATH, credentials.credentials),
    page(new_credential.PATH, new_credential.new_credential),
    form(new_credential.PATH, new_credential.add_credential),
    page(credential.PATH, credential.credential),
    form(credential.PATH, credential.change_credential),
    page(credential.DELETE_PATH, credential.delete_page),
    form(credential.DELETE_PATH, credential.delete_credential),
    page(models.PATH, models.models, about_organization=False),
    page(savings.PATH, savings.savings),
    page(usage.PATH, usage.usage),
    page(usage.EXPORT_PATH, usage.export),
    page(what_if.PATH, what_if.what_if),
    page(statement.PATH, statement.statement),
    page(statement.FILE_PATH, statement.statement_file),
    page(dead_letters.PATH, dead_letters.dead_letters),
    page(receipts.PATH, receipts.receipt, about_organization=False),
    page(organizations.PATH, organizations.organizations, about_organization=False),
    page(reader.PATH, reader.preferences, about_organization=False),
    form(reader.PATH, reader.keep, sure=False),
    Route(sign_in.PATH, sign_in.sign_in_page),
    Route(f"{sign_in.PATH}/token", sign_in.with_token, methods=["POST"]),
    Route(f"{sign_in.PATH}/persona", sign_in.as_persona, methods=["POST"]),
    Route(f"{sign_in.PATH}/start", with_provider.start, methods=["GET"]),
    Route(f"{sign_in.PATH}/callback", with_provider.come_back, methods=["GET"]),
    form("/sign-out", sign_in.sign_out, sure=False),
    form("/sign-out/everywhere", sign_in.sign_out_everywhere, sure=False),
]
