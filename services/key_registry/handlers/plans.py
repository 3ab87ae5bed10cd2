"""The plans of an organization."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from services.domain.directory import PlanHistory
from services.domain.permissions import PLANS_WRITE, Caller
from services.domain.scope import Plan, PlanPeriod, change_plan
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event
from services.key_registry.database import credentials as repository
from services.key_registry.database.sessions import one_moment
from services.key_registry.handlers.refusals import backdated, refusals_audited, whole_organization
from services.key_registry.handlers.registry import Registry, check_backdating, start_of
from services.key_registry.log.changes import plan_change
from services.key_registry.log.outbox import LogWriter, log_time
from services.key_registry.rules import policy
from services.key_registry.rules.preconditions import ANY, Expected


class PlanView(NamedTuple):
    """The plan of now, and all plans there were."""

    org_id: str
    plan: Plan
    history: tuple[PlanPeriod, ...]
    revision: int
    """The number of its last change in the log; 0 before the first."""


@refusals_audited(Event.SET_PLAN, whole_organization)
def set_plan(
    registry: Registry,
    caller: Caller,
    org_id: str,
    plan: Plan,
    effective_from: datetime | None = None,
    expected: Expected = ANY,
) -> PlanView:
    """Put the organization on ``plan`` from now, or backdated. Saying the same twice changes nothing.

    Keys stay switched on whatever the plan; which of them are used follows from it.
    """
    policy.require_organization(caller, org_id)
    policy.require_scope(caller, PLANS_WRITE)
    check_backdating(caller, effective_from)
    with registry.sessions.begin() as session:
        log = LogWriter(session)
        seq = repository.plan_seq(session, org_id)
        expected.require(seq)
        before = repository.plans_of(session, org_id)
        history = PlanHistory(org_id, change_plan(before, plan, start_of(effective_from, log.now)))
        if history.plans != before:
            seq = log.append(plan_change, history)
            repository.save_plans(session, history, seq)
            detail = {"plan": plan.value, **backdated(effective_from)}
            audit.append(session, Entry(caller, Event.SET_PLAN, whole_organization(org_id), detail))
    return PlanView(org_id, plan, history.plans, seq)


@refusals_audited(Event.SHOW_PLAN, whole_organization)
def get_plan(registry: Registry, caller: Caller, org_id: str) -> PlanView:
    """The organization's plan of now, and its history."""
    policy.require_organization(caller, org_id)
    with registry.sessions.begin() as session:
        one_moment(session)
        now = log_time(session)
        history = PlanHistory(org_id, repository.plans_of(session, org_id))
        return PlanView(org_id, history.plan_at(now), history.plans, repository.plan_seq(session, org_id))
