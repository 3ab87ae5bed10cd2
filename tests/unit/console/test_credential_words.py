"""Everything that the registry says of a key has words, and every refusal a remedy."""

from __future__ import annotations

from itertools import product

import pytest

from services.console import credential_words as words
from services.console.apis import ApiError
from services.console.form_problems import Problem
from services.console.prices import own_key_prices
from services.console.spaces import space_of, spaces
from services.console.words import DONE, trouble
from services.domain.permissions import CREDENTIALS_WRITE, Caller
from services.domain.resolution import Reason
from services.domain.scope import Plan, ScopeType
from services.key_registry.api.refusals import ADDED, CHANGED
from services.key_registry.audit.trail import Event
from services.key_registry.providers.probes import CheckReason, Result
from services.key_registry.rules.health import Outcome
from services.key_registry.rules.refusals import Code
from services.key_registry.rules.standing import Status

SHADOWS = (Reason.ORGANIZATION_KEY, Reason.PLAN_NOT_ENTITLED, Reason.PROVIDER_NOT_SUPPORTED)
_REFUSALS = {*ADDED, *CHANGED, Code.KEY_INVALID, Code.KEY_UNCHANGED, Code.NOTHING_TO_UNDO} - {Code.NOT_FOUND}


def test_every_status_has_words_of_its_own():
    others = [words.status_of({"status": status.value, "shadowed_by": None}) for status in Status]
    shadowed = [words.status_of({"status": "shadowed", "shadowed_by": reason.value}) for reason in SHADOWS]
    said = [each.words for each in (*others, *shadowed)]
    assert len(set(said)) == len(said)
    assert shadowed[0].words == "Your organization's key is used instead"


def test_every_answer_of_a_provider_has_words_and_only_a_refusal_is_bad():
    for result, reason in product(Result, CheckReason):
        check = {"result": result.value, "reason": reason.value, "checked_at": "2026-11-29T12:00:00Z"}
        said = words.check_of({"provider": "openai", "check": check})
        assert said.words.startswith("OpenAI ")
        assert (said.tone == words.BAD) is (result is Result.INVALID)
        if result is Result.UNKNOWN and reason not in (CheckReason.ACCEPTED, CheckReason.REJECTED):
            assert said.more != "It did not say."
    assert words.check_of({"provider": "openai", "check": None}) is None


def test_every_report_and_every_reason_why_a_key_applies_has_words():
    for outcome in Outcome:
        assert words.health_of({"health": {"outcome": outcome.value}}).words
    named = {"not_model_usage", "platform_claimed", "claimed_key"}
    for reason in (
        *(each.value for each in Reason if each.value not in named),
        "credential_lost",
        "credential_unusable",
    ):
        assert words.applies(reason).words != reason


def test_the_history_tells_every_change_of_a_key_and_no_lease():
    changes = {event.value for event in Event if event.value.startswith("credential.")}
    assert set(words.EVENTS) == changes - {"credential.show", "credential.list"}
    row = {"action": "credential.change", "detail": {"enabled": "false"}}
    assert words.event_of(row) == "Switched off"
    assert words.event_of({"action": "credential.add", "detail": {}}) == "Added"
    checked = {"action": "credential.verify", "detail": {"result": "unknown", "reason": "timed_out"}}
    assert words.event_of(checked) == "Checked: unknown (timed out)"


@pytest.mark.parametrize("code", sorted(_REFUSALS))
def test_every_refusal_of_a_change_is_told_with_what_helps(code):
    generic = {trouble(status, "") for status in (403, 404, 409, 412, 422, 429, 503)}
    told = trouble(409, code.value)
    assert told not in generic
    assert told.remedy


def test_what_a_field_is_refused_for_is_told_at_the_field():
    error = ApiError(
        "key registry", 422, "invalid_request", "x", errors=({"field": "api_key", "detail": "must be long"},)
    )
    problem = Problem.of(error)
    assert (problem.field, problem.says.heading) == ("api_key", "The key cannot be used")
    assert problem.says.remedy == "It must be long."
    for away in (
        ApiError("key registry", 503, "service_away", "x"),
        ApiError("key registry", 401, "invalid_token", "x"),
    ):
        with pytest.raises(ApiError):
            Problem.of(away)
    asked = Problem.question(["anthropic"], "openai")
    assert asked.says.heading == "This looks like a key of Anthropic. Save it for OpenAI nevertheless?"


def test_prices_are_those_of_the_card_a_model_of_each_tier():
    def model(name, tier, tier_credits, provider="anthropic", aliases=()):
        return {
            "provider": provider,
            "model": name,
            "tier": tier,
            "tier_credits": tier_credits,
            "aliases": list(aliases),
        }

    card = {
        "own_key": {"providers": ["anthropic", "openai"], "node_call_credits": "1", "token_factor": "0.5"},
        "models": [
            model("claude-opus-9", "expert", "30", aliases=["a", "b"]),
            model("claude-opus-8", "expert", "31", aliases=["c"]),
            model("claude-sonnet-4-6", "advanced", "20"),
            model("sonar", "standard", "2", "perplexity"),
        ],
    }
    prices = own_key_prices(card)
    assert set(prices) == {"anthropic", "openai"}
    assert [(call.model, call.list_credits, call.own_credits) for call in prices["anthropic"].calls] == [
        ("claude-sonnet-4-6", "20", "1"),
        ("claude-opus-9", "30", "1"),
    ]
    assert prices["anthropic"].token_percent == "50"
    assert prices["openai"].calls == ()


def test_the_tabs_are_ones_own_and_everybodys_for_whoever_sees_them():
    member = Caller("ann", "acme", "member", {"t2": "member", "t1": "admin"}, frozenset())
    admin = Caller("ada", "acme", "admin", {}, frozenset())
    operator = Caller("ops", "*", "admin", {}, frozenset({CREDENTIALS_WRITE}))
    labels = [[space.label for space in spaces(caller, "acme")] for caller in (member, admin, operator)]
    assert labels == [
        ["Personal", "Team t1", "Team t2", "Organization"],
        ["Personal", "Organization", "Everybody's"],
        ["Organization", "Everybody's"],
    ]
    assert space_of({"level": "team", "id": "t2"}, member, "acme").id == "t2"
    for other in ({}, {"level": "team", "id": "t3"}, {"level": "all"}, {"level": "<x>"}):
        assert space_of(other, member, "acme").level == ScopeType.PERSONAL
    in_pro = {space.label for space in spaces(member, "acme") if space.is_included(Plan.PRO)}
    assert in_pro == {"Personal", "Team t1", "Team t2"}


def test_what_was_done_has_words():
    done = {f"credential_{what}" for what in ("added", "checked", "replaced", "brought_back", "renamed", "deleted")}
    assert done <= set(DONE)
