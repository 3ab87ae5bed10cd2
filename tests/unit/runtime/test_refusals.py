"""What use cases refuse, told over HTTP."""

from __future__ import annotations

from schemas.dead_letters import Reason
from services.key_registry.api import refusals as registry_refusals
from services.key_registry.rules.refusals import Code as RegistryCode
from services.ledger.admission import DoorReason
from services.ledger.api import STATUS
from services.ledger.refusals import Code as LedgerCode
from services.runtime.problems import problem_of
from services.runtime.refusals import Refusal


def test_every_code_of_the_registry_has_a_status() -> None:
    assert set(registry_refusals._STATUS) == set(RegistryCode)


def test_every_code_of_the_ledger_has_a_status() -> None:
    assert set(STATUS) == {*LedgerCode, *Reason, *DoorReason}


def test_codes_that_both_have_are_told_alike() -> None:
    both = registry_refusals._STATUS.keys() & STATUS.keys()
    assert both == {"not_found", "insufficient_scope", "organization_forbidden"}
    assert all(registry_refusals._STATUS[code] == STATUS[code] for code in both)


def test_a_field_and_when_to_try_again_are_told() -> None:
    of_field = problem_of(
        Refusal(RegistryCode.KEY_INVALID, "Not taken.", field="api_key"), {RegistryCode.KEY_INVALID: 422}
    )
    assert (of_field.status, of_field.code, of_field.detail, of_field.headers) == (422, "key_invalid", "Not taken.", {})
    assert of_field.more == {"errors": [{"field": "api_key", "detail": "Not taken."}]}
    later = problem_of(Refusal(LedgerCode.BUSY, "Later.", retry_seconds=5), STATUS)
    assert (later.status, later.headers, later.more) == (503, {"Retry-After": "5"}, {})


def test_an_invalid_request_names_its_field_in_one_sentence() -> None:
    refusal = Refusal(RegistryCode.INVALID_REQUEST, "must be a time", field="effective_from")
    problem = problem_of(refusal, registry_refusals._STATUS)
    assert problem.detail == "The request is not valid: effective_from"
    assert problem.more == {"errors": [{"field": "effective_from", "detail": "must be a time"}]}
