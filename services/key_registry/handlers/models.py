"""Models: what cards say of them, and the other names by which runners report them (docs/contract.md, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import NamedTuple

from sqlmodel import Session, select

from services.domain.directory import ModelAliases
from services.domain.faults import did_you_mean
from services.domain.model_prices import ModelPrice
from services.domain.permissions import PLANS_WRITE, Caller
from services.domain.rate_card import RateCard
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event, Subject
from services.key_registry.database.sessions import Sessions, one_moment
from services.key_registry.database.tables import ModelAliasesRow
from services.key_registry.handlers.refusals import refusals_audited
from services.key_registry.handlers.registry import Registry, card_for
from services.key_registry.log.changes import model_aliases_change
from services.key_registry.log.outbox import LogWriter, log_time
from services.key_registry.rules import policy
from services.key_registry.rules.refusals import Code
from services.runtime.logs import logger
from services.runtime.refusals import Refusal

_log = logger(__name__)


class AliasesView(NamedTuple):
    """All other names of a provider's models."""

    aliases: ModelAliases
    added: tuple[str, ...]
    """Those that were not known before."""
    seq: int
    """The number of the last change of them in the log; 0 before the first."""


class Model(NamedTuple):
    """One model as a card lists it, and its other names."""

    provider: str
    model: str
    price: ModelPrice
    aliases: tuple[str, ...]


class Models(NamedTuple):
    """Every model of the card in force."""

    card: RateCard
    at: datetime
    models: tuple[Model, ...]


def _of_provider(aliases: ModelAliases) -> Subject:
    return Subject(None, provider=aliases.provider)


@refusals_audited(Event.ADD_ALIASES, _of_provider)
def add_aliases(registry: Registry, caller: Caller, new: ModelAliases) -> AliasesView:
    """Add other names of models. What is known already changes nothing; it is good for every organization.

    Raises Refusal ``alias_exists`` where one of them stands for another model, and ``unknown_model`` where no card that
    is published lists one.
    """
    policy.require_scope(caller, PLANS_WRITE)
    if not caller.is_everywhere:
        raise Refusal(Code.FORBIDDEN, "Names of models are everybody's: this needs a token for every organization.")
    with registry.sessions.begin() as session:
        log = LogWriter(session, dates_itself=True)
        known, seq = _known(session, new.provider)
        _require_listed(registry, session, new)
        added = _added(known, new)
        if added:
            known = {**known, **added}
            seq = _save(session, log, ModelAliases(new.provider, known))
            detail = {"added": str(len(added)), "first": next(iter(added))}
            audit.append(session, Entry(caller, Event.ADD_ALIASES, _of_provider(new), detail))
    return AliasesView(ModelAliases(new.provider, known), tuple(added), seq)


def publish_aliases(sessions: Sessions, packaged: ModelAliases) -> int:
    """Add those that are not there yet; how many. A name that stands for another model here stays as it is."""
    with sessions.begin() as session:
        # What is there already needs no lock, and holds up no change.
        if not _missing(session, packaged):
            return 0
        log = LogWriter(session, dates_itself=True)
        missing = _missing(session, packaged)
        if not missing:
            return 0
        known, _ = _known(session, packaged.provider)
        _save(session, log, ModelAliases(packaged.provider, {**known, **missing}))
    _log.info("model aliases published", provider=packaged.provider, added=len(missing))
    return len(missing)


def published_aliases(sessions: Sessions) -> tuple[ModelAliases, ...]:
    """All of them, by provider."""
    with sessions.begin() as session:
        rows = session.exec(select(ModelAliasesRow)).all()
        return tuple(ModelAliases(row.provider, dict(row.aliases)) for row in rows)


def list_models(registry: Registry, at: datetime | None) -> Models:
    """Every model of the card that is in force at ``at``, or now, in the order of their names, with all other names."""
    with registry.sessions.begin() as session:
        one_moment(session)
        moment = log_time(session) if at is None else at
        card = card_for(registry.cards.cards(session), moment)
        rows = session.exec(select(ModelAliasesRow)).all()
    names: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for alias, model in sorted(row.aliases.items()):
            # Which a card lists under its own name is no other name.
            if (row.provider, alias) not in card.models:
                names.setdefault((row.provider, model), []).append(alias)
    models = (Model(*key, price, tuple(names.get(key, ()))) for key, price in sorted(card.models.items()))
    return Models(card, moment, tuple(models))


def save_aliases(session: Session, aliases: ModelAliases, seq: int) -> None:
    """Put them in place of what stood there."""
    session.merge(ModelAliasesRow(provider=aliases.provider, aliases=dict(aliases.aliases), seq=seq))


def _save(session: Session, log: LogWriter, aliases: ModelAliases) -> int:
    seq = log.append(model_aliases_change, aliases)
    save_aliases(session, aliases, seq)
    return seq


def _known(session: Session, provider: str) -> tuple[dict[str, str], int]:
    row = session.get(ModelAliasesRow, provider, populate_existing=True)
    return ({}, 0) if row is None else (row.aliases, row.seq)


def _missing(session: Session, packaged: ModelAliases) -> dict[str, str]:
    known, _ = _known(session, packaged.provider)
    return {alias: model for alias, model in packaged.aliases.items() if alias not in known}


def _added(known: Mapping[str, str], new: ModelAliases) -> dict[str, str]:
    for alias, model in new.aliases.items():
        if known.get(alias, model) != model:
            raise Refusal(
                Code.ALIAS_EXISTS,
                f"{alias} stands for {known[alias]}. A name is only ever added, and never changed: what was priced by "
                "it stays as it is.",
                field=f"aliases.{alias}",
            )
    return {alias: model for alias, model in new.aliases.items() if alias not in known}


def _require_listed(registry: Registry, session: Session, new: ModelAliases) -> None:
    listed = {name for card in registry.cards.cards(session) for owner, name in card.models if owner == new.provider}
    for alias, model in new.aliases.items():
        if model not in listed:
            near = get_close_matches(model, sorted(listed), n=2)
            raise Refusal(
                Code.UNKNOWN_MODEL,
                f"No rate card lists {new.provider}/{model}{did_you_mean(near)}",
                field=f"aliases.{alias}",
            )
