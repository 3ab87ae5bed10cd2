"""A card, brought up to date with a public map of prices: what would change, and what is left as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, NamedTuple

from schemas.rate_card import RateCardBody2, read_body
from services.cli.rate_card.differences import Change
from services.cli.rate_card.price_maps.lines import PER, Entry, LeftOut, Line, Place
from services.cli.rate_card.revision import Parents, Revision, differing, line_of, revise, written
from services.domain.model_prices import INPUT, OUTPUT
from services.runtime.command_failed import CommandFailed

Model = tuple[str, str]
"""Provider and name."""
Aliases = Mapping[str, Mapping[str, str]]
"""By provider, to each other name of a model the one on the card."""


class Wanted(NamedTuple):
    """What is to be taken from the map."""

    providers: Collection[str] = ()
    """Only these; none: all of the card's."""
    add: Sequence[str] = ()
    """New models, as NAME or PROVIDER/NAME."""
    add_all: bool = False
    tier: str | None = None
    """Of the new models; None: that of the model on the card whose price is nearest."""


class Added(NamedTuple):
    """A new model, and why it has its tier."""

    tier: str
    like: Model | None
    """The model whose tier it has been given, by price alone; None where the tier was said."""


class Proposal(NamedTuple):
    """What comes of a card and a map."""

    body: dict[str, Any]
    compared: dict[str, int]
    """By provider, how many models both list."""
    changes: list[Change]
    added: dict[Model, Added]
    kept: list[tuple[Model, str]]
    """What stays on the card because the map does not state it."""
    left_out: list[tuple[Model, LeftOut]]
    """What the map says of models that both list, and the card cannot say."""
    missing: list[Model]
    """Models of the card that the map does not list."""
    unlisted: list[Model]
    """Models of the map that the card does not list."""


class _Card(NamedTuple):
    body: Mapping[str, Any]
    read: RateCardBody2
    aliases: Aliases
    parents: Parents

    @property
    def units(self) -> list[str]:
        return [*self.read.units]

    def per(self, unit: str) -> int | None:
        found = self.read.units.get(unit)
        return None if found is None else self.read.units[found.in_ or unit].per


def propose(body: Mapping[str, Any], entries: Sequence[Entry], aliases: Aliases, wanted: Wanted) -> Proposal:
    """The body of a card with the map's prices. Raises CommandFailed where it cannot be asked so."""
    read = read_body(body, unknown="ignore")
    if not isinstance(read, RateCardBody2):
        raise CommandFailed("the card is by schema 1; prices are brought up to date on cards of schema 2 alone")
    parents = {unit: read.units[unit].in_ or unit for unit in read.inherit}
    card = _Card(body, read, aliases, parents)
    providers = _providers(card, wanted)
    models = {provider: dict(body["models"].get(provider, {})) for provider in (*body["models"], *providers)}
    proposal = Proposal({**body, "models": models}, {}, [], {}, [], [], [], [])
    index = _index(entries)
    for provider in providers:
        for model in read.models.get(provider, {}):
            _revise(proposal, card, (provider, model), _found(index, card, (provider, model)))
    _add(proposal, card, [entry for entry in entries if entry.provider in providers], wanted)
    return proposal


def _providers(card: _Card, wanted: Wanted) -> list[str]:
    unknown = sorted(set(wanted.providers) - set(card.read.models))
    if unknown and not (wanted.add or wanted.add_all):
        raise CommandFailed(f"the card lists no models of {', '.join(unknown)}; --add or --add-all adds some")
    return sorted(wanted.providers or card.read.models)


def _index(entries: Iterable[Entry]) -> dict[Model, list[Entry]]:
    index: dict[Model, list[Entry]] = {}
    for entry in entries:
        for name in entry.names:
            index.setdefault((entry.provider, name), []).append(entry)
    return index


def _found(index: Mapping[Model, list[Entry]], card: _Card, model: Model) -> list[Entry]:
    """By its name, or else by its other names."""
    provider, name = model
    others = (alias for alias, of in card.aliases.get(provider, {}).items() if of == name)
    return index.get(model) or [entry for alias in others for entry in index.get((provider, alias), [])]


def _revise(proposal: Proposal, card: _Card, model: Model, found: list[Entry]) -> None:
    provider, name = model
    if not found:
        proposal.missing.append(model)
        return
    proposal.compared[provider] = proposal.compared.get(provider, 0) + 1
    proposal.left_out.extend((model, left) for left in dict.fromkeys(each for one in found for each in one.left_out))
    line = _one_line(proposal, model, found)
    if line is None:
        return
    on_card = card.read.models[provider][name]
    before = line_of(on_card)
    after = _revised(proposal, card, model, before, line)
    proposal.kept.extend((model, kept) for kept in after.kept)
    changes = [Change(("models", provider, name, *change[:1]), *change[1:]) for change in differing(before, after.line)]
    if changes:
        proposal.changes.extend(changes)
        proposal.body["models"][provider][name] = written(on_card.tier, after.line, card.units)


def _one_line(proposal: Proposal, model: Model, found: list[Entry]) -> Line | None:
    lines = [entry.line for entry in found if entry.line is not None]
    if not lines:
        proposal.left_out.append((model, LeftOut("the model", "the map has no line for it that a card can say")))
    elif any(line != lines[0] for line in lines):
        proposal.left_out.append((model, LeftOut("the model", "the map prices it differently under several names")))
    else:
        return lines[0]
    return None


def _revised(proposal: Proposal, card: _Card, model: Model, before: Line, stated: Line) -> Revision:
    known = _of_units(proposal, card, model, stated)
    revision = revise(before, known, card.parents)
    proposal.left_out.extend((model, left) for left in revision.left_out)
    return revision


def _of_units(proposal: Proposal, card: _Card, model: Model, line: Line) -> Line:
    """Without units that the card does not have, or prices for another number of."""
    known = {unit for unit, per in PER.items() if card.per(unit) == per}
    units = [place.unit for place in line.usd] + [unit for window in line.windows for unit in window.usd]
    unknown = dict.fromkeys(unit for unit in units if unit not in known)
    proposal.left_out.extend((model, LeftOut(unit, "the card has no such unit")) for unit in unknown)
    usd = {place: micros for place, micros in line.usd.items() if place.unit in known}
    windows = tuple(
        each._replace(usd={unit: micros for unit, micros in each.usd.items() if unit in known}) for each in line.windows
    )
    return Line(usd, tuple(window for window in windows if window.usd), line.uplifts)


def _add(proposal: Proposal, card: _Card, entries: list[Entry], wanted: Wanted) -> None:
    new = _new(card, entries)
    proposal.unlisted.extend(new)
    for model in dict.fromkeys(new if wanted.add_all else _asked_for(new, wanted.add)):
        proposal.unlisted.remove(model)
        line = _of_units(proposal, card, model, new[model])
        tier = Added(wanted.tier, None) if wanted.tier else _like(card, line)
        proposal.added[model] = tier
        proposal.body["models"][model[0]][model[1]] = written(tier.tier, line, card.units)


def _new(card: _Card, entries: Iterable[Entry]) -> dict[Model, Line]:
    """Models that are billed for input, that the card lists under none of their names, and that have one price."""
    found: dict[Model, list[Line]] = {}
    for entry in entries:
        listed = {*card.read.models.get(entry.provider, {}), *card.aliases.get(entry.provider, {})}
        if entry.line is not None and Place(INPUT) in entry.line.usd and not listed.intersection(entry.names):
            found.setdefault((entry.provider, entry.names[0]), []).append(entry.line)
    return {model: lines[0] for model, lines in found.items() if all(line == lines[0] for line in lines)}


def _asked_for(new: Mapping[Model, Line], names: Iterable[str]) -> Iterator[Model]:
    for name in dict.fromkeys(names):
        found = [model for model in new if name in (model[1], "/".join(model))]
        if len(found) > 1:
            raise CommandFailed(f"--add {name}: say of which provider: {', '.join('/'.join(each) for each in found)}")
        if not found:
            near = get_close_matches(name, [text for model in new for text in (model[1], "/".join(model))], n=1)
            raise CommandFailed(
                f"--add {name}: is no new model of these providers in the map"
                + (f"; did you mean {near[0]}?" if near else "; --provider says of which")
            )
        yield found[0]


def _like(card: _Card, line: Line) -> Added:
    """The tier of the model whose price is nearest, for a person to confirm."""
    price = _weight({place.unit: micros for place, micros in line.usd.items() if place == Place(place.unit)})
    listed = {(provider, name): each for provider, lines in card.read.models.items() for name, each in lines.items()}
    weights = {model: _weight(each.usd) for model, each in listed.items()}
    comparable = [model for model, weight in weights.items() if weight]
    if not comparable:
        raise CommandFailed("the card lists no model to compare a new one with; --tier says its tier")
    like = min(comparable, key=lambda model: (_apart(price, weights[model]), model))
    return Added(listed[like].tier, like)


def _weight(usd: Mapping[str, int]) -> int:
    # Three tokens in for one out, as is usual for comparing prices of models.
    return 3 * usd.get(INPUT, 0) + usd.get(OUTPUT, 0)


def _apart(one: int, other: int) -> Fraction:
    return Fraction(max(one, other), min(one, other))
