"""Models over HTTP: what they cost, and their other names (docs/contract.md, sections 2 and 8)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from schemas.fields import Time
from services.key_registry.api.callers import Here, Who
from services.key_registry.api.model_documents import (
    AliasesDocument,
    AliasesRequest,
    ModelsDocument,
    aliases_document,
    models_document,
)
from services.key_registry.api.refusals import answers
from services.key_registry.handlers import models
from services.key_registry.rules.refusals import Code
from services.runtime.problems import PROBLEM_ANSWERS

router = APIRouter(prefix="/v1/models", responses=PROBLEM_ANSWERS, tags=["models"])


@router.get("", summary="Every model with its tier, prices and other names")
def get_models(
    here: Here, _who: Who, at: Annotated[Time | None, Query(description="As of when; absent: now.")] = None
) -> ModelsDocument:
    """By the rate card in force at that time; other names are those of now, for they count whatever an event's time."""
    return models_document(models.list_models(here, at))


@router.post(
    "/aliases",
    status_code=201,
    summary="Add other names of models",
    responses={
        200: {"model": AliasesDocument, "description": "All of them were known before."},
        **answers(201, Code.FORBIDDEN, Code.INSUFFICIENT_SCOPE, Code.ALIAS_EXISTS, Code.UNKNOWN_MODEL),
    },
)
def add_aliases(here: Here, who: Who, body: AliasesRequest, response: Response) -> AliasesDocument:
    """For services with the scope plans:write that are good for every organization. A name is never changed or taken
    away; it prices what comes from now on, and dead letters that are replayed, and moves nothing that is booked."""
    view = models.add_aliases(here, who, body.to_domain())
    response.status_code = 201 if view.added else 200
    return aliases_document(view)
