"""Laws of the core, for arbitrary registry logs and events."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.domain.credits import round_half_even
from services.domain.directory import Credential, Directory, ModelAliases, PlanHistory, directory_of
from services.domain.entries import EntryKind, charge, reprice
from services.domain.model_prices import UnpricedError
from services.domain.rating import Amounts, bill_of, price_of, rate
from services.domain.resolution import Flag, KeySource, Reason, Use, resolve
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType, change_plan
from services.domain.usage import EventType
from services.domain.windows import differences, touched
from tests.factories import START, card, credential, directory
from tests.strategies import (
    boundaries,
    changes,
    credentials,
    disjoint_intervals,
    events,
    histories,
    instants,
    logs_and_events,
    plan_histories,
)

LEASE = timedelta(seconds=300)
FIRST_CARD = card("card-0")


def outcome(event, known):
    """The rating, or which price is missing: always one of the two."""
    try:
        return rate(event, known)
    except UnpricedError as error:
        return type(error)


def known_after(log):
    return directory_of(enumerate([FIRST_CARD, *log], start=1))


def use_of(event):
    return Use(event.org_id, event.team_id, event.user_id, event.provider, event.occurred_at)


# --- which key --------------------------------------------------------------------------------------------------------


class Facts:
    """What the bare messages say of one use of a model."""

    def __init__(self, event, log, rate_card):
        self.event, self.card = event, rate_card
        self.keys = {change.credential_id: change for change in log if isinstance(change, Credential)}
        plans = {change.org_id: change.plans for change in log if isinstance(change, PlanHistory)}
        holding = [p.plan.value for p in plans.get(event.org_id, ()) if self.is_during(p.interval)]
        self.plan = holding[0] if holding else "free"
        self.levels = {"free": (), "pro": ("team", "personal")}.get(self.plan, ("organization", "team", "personal"))
        self.is_supported = event.provider in rate_card.own_key_providers

    def is_during(self, interval, more=None):
        at = self.event.occurred_at
        if interval.start == interval.end:
            return False
        within = interval.end is None or at < interval.end or (more is not None and at - interval.end <= more)
        return interval.start <= at and within

    def is_within(self, key):
        event = self.event
        owner = {"organization": event.org_id, "team": event.team_id, "personal": event.user_id}[key.scope.type.value]
        return key.org_id == event.org_id and key.provider == event.provider and owner == key.scope.id

    def active(self, level):
        found = [
            key.credential_id
            for key in self.keys.values()
            if key.scope.type == level and self.is_within(key) and any(map(self.is_during, key.active))
        ]
        assert len(found) <= 1
        return found[0] if found else None


def rules_1_to_6(facts):
    if not facts.is_supported:
        return "platform", "provider_not_supported", None
    if facts.plan == "free":
        return "platform", "plan_not_entitled", None
    for level in ("organization", *facts.card.scope_order):
        if level in facts.levels and (key := facts.active(level)):
            return "byok", f"{level}_key", key
    return "platform", "no_credential", None


def by_the_contract(event, log, rate_card):
    """docs/contract.md, section 4 read aloud, over the bare messages: (key source, reason, credential id, flags)."""
    facts = Facts(event, log, rate_card)
    ruled = rules_1_to_6(facts)
    if event.claim is None:
        return (*ruled, ())
    if event.claim.is_platform:
        return "platform", "platform_claimed", None, ("platform_fallback",) if ruled[2] else ()
    key = facts.keys.get(event.claim.credential_id)
    can_be_true = (
        key is not None
        and any(facts.is_during(each, LEASE) for each in key.active)
        and facts.is_supported
        and facts.is_within(key)
        and key.scope.type in facts.levels
    )
    if not can_be_true:
        return (*ruled, ("credential_claim_rejected",))
    bypassed = ruled[1] == "organization_key" and key.scope.type != "organization"
    return "byok", "claimed_key", key.credential_id, ("organization_key_bypassed",) if bypassed else ()


MODEL_USE = events().filter(lambda event: event.provider is not None)


@settings(max_examples=300)
@given(logs_and_events())
def test_resolution_is_what_the_contract_says_for_any_log_and_event(case):
    log, uses = case
    known = known_after(log)
    for event in uses:
        in_force = known.card_at(event.occurred_at)
        if in_force is None or event.provider is None:
            continue
        found = resolve(use_of(event), event.claim, known, in_force)
        key = None if found.credential is None else found.credential.credential_id
        assert (found.key_source, found.reason, key, found.flags) == by_the_contract(event, log, in_force)
        assert resolve(use_of(event), event.claim, known_after(log), in_force) == found


@given(st.lists(changes(), max_size=10), MODEL_USE)
def test_resolution_is_total_even_for_logs_that_no_registry_writes(log, event):
    known = known_after(log)
    found = resolve(use_of(event), event.claim, known, FIRST_CARD)
    assert (found.credential is not None) == (found.key_source is KeySource.BYOK)
    assert found.reason in Reason
    assert len(found.flags) <= 1


@given(histories(), MODEL_USE, disjoint_intervals())
def test_without_an_accepted_claim_the_organizations_key_never_loses(log, event, active):
    known, organization = known_after(log), Scope(ScopeType.ORGANIZATION, event.org_id)
    for change in (
        PlanHistory(event.org_id, (PlanPeriod(Plan.ENTERPRISE, Interval(FIRST_CARD.effective_from, None)),)),
        Credential("one-more", event.org_id, organization, event.provider, active),
    ):
        known.apply(known.seq + 1, change)
    key = known.active_in(event.org_id, *organization, event.provider, event.occurred_at)
    if key is None or event.provider not in FIRST_CARD.own_key_providers or event.occurred_at < START:
        return
    found = resolve(use_of(event), event.claim, known, FIRST_CARD)
    if found.reason is Reason.PLATFORM_CLAIMED:
        assert found.flags == (Flag.PLATFORM_FALLBACK,)
    elif found.reason is Reason.CLAIMED_KEY:
        bypassed = found.credential.scope.type is not ScopeType.ORGANIZATION
        assert found.flags == ((Flag.ORGANIZATION_KEY_BYPASSED,) if bypassed else ())
    else:
        assert found.credential == key
        assert found.reason is Reason.ORGANIZATION_KEY


# --- money ------------------------------------------------------------------------------------------------------------


@given(histories(), events())
def test_list_is_charged_and_saved_in_integers_that_are_never_negative(log, event):
    found = outcome(event, known_after(log))
    if isinstance(found, type):
        return
    (list_mc, charged_mc), saved_mc = found.amounts, found.amounts.saved_mc
    assert {type(list_mc), type(charged_mc), type(saved_mc)} == {int}
    assert list_mc == charged_mc + saved_mc
    assert min(list_mc, charged_mc, saved_mc) >= 0


@given(histories(), events(), credentials())
def test_adding_a_key_never_raises_a_charge(log, event, key):
    known = known_after(log)
    before = outcome(event, known)
    assume(not isinstance(before, type))
    known.apply(known.seq + 1, key._replace(credential_id="one-more"))
    after = outcome(event, known)
    assert after.amounts.list_mc == before.amounts.list_mc
    assert after.amounts.charged_mc <= before.amounts.charged_mc


def test_a_fraction_rounds_half_to_even_as_python_does():
    assert [round(Fraction(half, 2)) for half in (1, 3, 5)] == [0, 2, 2]


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12))
def test_the_one_rounding_is_that_of_an_exact_fraction(numerator, denominator):
    assert round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@settings(max_examples=300)
@given(histories(), events(), st.tuples(*[st.integers(0, 10**10)] * 3))
def test_amounts_equal_an_exact_computation_with_one_rounding(log, event, tokens):
    known = known_after(log)
    if event.type is EventType.TOKEN_USAGE and event.run_id is None:
        fresh, cached, output = tokens
        event = event._replace(input_tokens=fresh + cached, cached_input_tokens=cached, output_tokens=output)
    found = outcome(event, known)
    assume(not isinstance(found, type))
    rate_card, own_key = found.card, found.resolution.key_source is KeySource.BYOK
    if event.type is EventType.NODE_CALL:
        credits_per_call = {"standard": 2, "advanced": 20, "expert": 30}[found.tier]
        list_price = Fraction(credits_per_call * event.calls)
        charged = Fraction(event.calls) if own_key else list_price
    elif event.type is EventType.TOKEN_USAGE:
        line = price_of(event, found)
        fresh, cached, output = (
            Fraction(line.prices.get(unit, 0), 10**12) for unit in ("input", "cache_read", "output")
        )
        usd = (
            (event.input_tokens - event.cached_input_tokens) * fresh
            + event.cached_input_tokens * cached
            + event.output_tokens * output
        )
        list_price = usd / Fraction(5, 1000)
        charged = list_price * Fraction(*rate_card.own_key_token_factor) if own_key else list_price
    elif event.type is EventType.TOKEN_USAGE_V2:
        cost = bill_of(event, rate_card, price_of(event, found)).cost
        list_price = Fraction(*cost) / 10**12 / Fraction(5, 1000)
        charged = list_price * Fraction(*rate_card.own_key_token_factor) if own_key else list_price
    elif event.type is EventType.TOOL_CALL:
        list_price = charged = Fraction(event.calls if event.succeeded else 0)
    else:
        free = event.parent_run_id is not None and not rate_card.charge_subflows
        list_price = charged = Fraction(0 if free else 1)
    assert found.amounts == Amounts(round(list_price * 10**6), round(charged * 10**6))


# --- time -------------------------------------------------------------------------------------------------------------


@given(disjoint_intervals(), instants())
def test_intervals_are_half_open_everywhere(intervals, at):
    key = credential(active=intervals)
    assert key.active_at(at) == any(i.start <= at and (i.end is None or at < i.end) for i in intervals)
    for each in intervals:
        assert each.covers(each.start)
        assert each.end is None or not each.covers(each.end)


@given(disjoint_intervals(), disjoint_intervals(), instants())
def test_differences_are_where_exactly_one_set_covers(one, other, at):
    windows = differences(one, other)
    assert any(w.covers(at) for w in windows) == (any(i.covers(at) for i in one) != any(i.covers(at) for i in other))
    assert all(before.end is not None and before.end < after.start for before, after in pairwise(windows))
    assert not any(window.is_empty for window in windows)


@given(plan_histories(), st.sampled_from(Plan), boundaries(), instants())
def test_a_change_of_plan_leaves_what_was_before_and_holds_from_then_on(history, plan, start, at):
    changed = PlanHistory(history.org_id, change_plan(history.plans, plan, start))
    before, after = directory(history), directory(changed)
    expected = plan if at >= start else before.plan_at(history.org_id, at)
    assert after.plan_at(history.org_id, at) is expected
    periods = [period.interval for period in changed.plans]
    assert not any(one.overlaps(other) for one, other in pairwise(periods))
    assert change_plan(changed.plans, plan, start) == changed.plans


# --- the log ----------------------------------------------------------------------------------------------------------


def state(known):
    return known.seq, dict(known._credentials), dict(known._plans), dict(known._aliases), known.cards


@given(st.lists(changes(), max_size=10), st.data())
def test_reading_any_part_of_the_log_again_changes_nothing(log, data):
    numbered = list(enumerate(log, start=1))
    known = directory_of(numbered)
    before, slots = state(known), dict(known._active)
    again = data.draw(st.lists(st.sampled_from(numbered), max_size=5)) if numbered else []
    suffix = numbered[data.draw(st.integers(0, len(numbered))) :]
    assert not any(known.apply(seq, change) for seq, change in [*again, *suffix])
    assert (state(known), dict(known._active)) == (before, slots)


@given(histories(), st.data(), st.lists(events(), min_size=1, max_size=4))
def test_a_log_that_is_read_in_another_order_gives_the_same_answers(log, data, uses):
    shuffled = Directory()
    for seq, change in data.draw(st.permutations(list(enumerate([FIRST_CARD, *log], start=1)))):
        shuffled.apply(seq, change)
    known = known_after(log)
    assert state(shuffled) == state(known)
    for event in uses:
        assert outcome(event, shuffled) == outcome(event, known)


@given(histories(), st.lists(events(), min_size=1, max_size=4))
def test_a_compacted_log_gives_the_same_answers(log, uses):
    latest = {}
    for seq, change in enumerate([FIRST_CARD, *log], start=1):
        key = (type(change), change.credential_id if isinstance(change, Credential) else change[0])
        latest[key] = (seq, change)
    compacted = directory_of(latest.values())
    for event in uses:
        assert outcome(event, compacted) == outcome(event, known_after(log))


# --- convergence ------------------------------------------------------------------------------------------------------


def key_of(change):
    if isinstance(change, Credential):
        return "credential", change.credential_id
    if isinstance(change, ModelAliases):
        return "model_aliases", change.provider
    return ("plan", change.org_id) if isinstance(change, PlanHistory) else ("rate_card", change.card)


def is_in(event, where, before):
    """Whether the re-rater would look at the entry of ``event``, of which ``before`` says whether it had a price."""
    if not where.window.covers(event.occurred_at):
        return False
    if where.only_unrated:
        # So another name of a model moves nothing that has a price.
        return isinstance(before, type) and event.provider == where.provider
    if where.org_id is None:
        return True
    owner = {"organization": event.org_id, "team": event.team_id, "personal": event.user_id}
    return (
        event.org_id == where.org_id
        and event.provider is not None
        and where.provider in (None, event.provider)
        and (where.scope is None or owner[where.scope.type.value] == where.scope.id)
    )


@settings(max_examples=400)
@given(logs_and_events())
def test_whatever_a_change_moves_lies_in_a_window_that_it_touches(case):
    log, uses = case
    known, said = Directory(), {}
    ratings = [outcome(event, known) for event in uses]
    for seq, change in enumerate([FIRST_CARD, *log], start=1):
        known.apply(seq, change)
        windows = touched(said.get(key_of(change)), change, known.cards)
        said[key_of(change)] = change
        for index, event in enumerate(uses):
            after = outcome(event, known)
            if compared(after) != compared(ratings[index]):
                assert any(is_in(event, where, ratings[index]) for where in windows), (event, change, windows)
            ratings[index] = after


def compared(found):
    """What the ledger would show of a rating: without the history of the credential, which alone is no change."""
    if isinstance(found, type):
        return found
    key = found.resolution.credential
    return found._replace(
        resolution=found.resolution._replace(credential=key and key[:4]), card=found.card.card if found.card else None
    )


@settings(max_examples=400)
@given(logs_and_events(), st.integers(0, 10))
def test_several_changes_at_once_are_covered_from_the_state_before_to_the_state_after(case, split):
    """The re-rater takes each registry key once: from what it said at the last time to what it says now."""
    log, uses = case
    first, whole = [FIRST_CARD, *log[:split]], [FIRST_CARD, *log]
    old, new = (directory_of(enumerate(part, start=1)) for part in (first, whole))
    said = {key_of(change): change for change in first}
    latest = {key_of(change): change for change in whole[len(first) :]}
    windows = [where for key, change in latest.items() for where in touched(said.get(key), change, new.cards)]
    for event in uses:
        before = outcome(event, old)
        if compared(before) != compared(outcome(event, new)):
            assert any(is_in(event, where, before) for where in windows), (event, windows)


@given(histories(max_size=10), events())
def test_every_chain_of_corrections_sums_up_to_the_last_rating(log, event):
    known = directory_of([(1, FIRST_CARD)])
    first = outcome(event, known)
    assume(not isinstance(first, type))
    current = charge(event, first, 1)
    booked, last = [current], first
    for seq, change in enumerate(log, start=2):
        known.apply(seq, change)
        found = outcome(event, known)
        if isinstance(found, type):
            continue
        last = found
        pair = reprice(current, found, seq)
        if pair is not None:
            booked += pair
            current = pair[1]
    assert current.attribution == charge(event, last, 1).attribution
    assert sum(entry.attribution.amounts.list_mc for entry in booked) == last.amounts.list_mc
    assert sum(entry.attribution.amounts.charged_mc for entry in booked) == last.amounts.charged_mc
    assert sum(entry.attribution.amounts.saved_mc for entry in booked) == last.amounts.saved_mc
    assert tuple(map(sum, zip(*(entry.quantities for entry in booked), strict=True))) == tuple(booked[0].quantities)
    assert len({entry.entry_id for entry in booked}) == len(booked)
    # Grouped by anything that corrections change, too: what was taken back leaves nothing behind.
    groups = {}
    for entry in booked:
        group = entry.attribution._replace(amounts=None)
        groups[group] = groups.get(group, 0) + entry.attribution.amounts.charged_mc
    own = current.attribution._replace(amounts=None)
    assert groups.pop(own) == current.attribution.amounts.charged_mc
    assert set(groups.values()) <= {0}
    kinds = [entry.kind for entry in booked]
    assert kinds == [EntryKind.CHARGE, *[EntryKind.REVERSAL, EntryKind.CORRECTION] * (len(booked) // 2)]
