"""What a map of prices would change on a card, in words: grouped on a screen, or all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import groupby

from services.cli.rate_card.differences import Change
from services.cli.rate_card.proposal import Model, Proposal

_COLUMNS = 100
_LINES_MAX = 34
_FEW = 3


def screen(proposal: Proposal, source: str) -> list[str]:
    """By provider and kind of change, in at most 34 lines of 100 columns."""
    groups = [_of_provider(proposal, provider) for provider in _providers(proposal)]
    around = [_head(proposal, source), *_besides(proposal, source)]
    lines = [around[0], *(line for group in _cut(groups, _LINES_MAX - len(around)) for line in group), *around[1:]]
    return [line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}…" for line in lines]


def everything(proposal: Proposal, source: str) -> list[str]:
    """One line for each place."""
    lines = [_head(proposal, source)]
    lines += [f"  {_model(change)} {_changed(change)}" for change in proposal.changes]
    lines += [f"  {'/'.join(model)} is new, {_tier(proposal, model)}" for model in proposal.added]
    lines += [f"  {'/'.join(model)} {kept} stays: {source} does not state it" for model, kept in proposal.kept]
    lines += [f"  {'/'.join(model)} {left.what} is left out: {left.why}" for model, left in proposal.left_out]
    lines += [f"  {'/'.join(model)} is not in {source}" for model in proposal.missing]
    return [*lines, *(f"  {'/'.join(model)} is in {source} alone" for model in proposal.unlisted)]


def _head(proposal: Proposal, source: str) -> str:
    models = {change.subject for change in proposal.changes}
    both, new = sum(proposal.compared.values()), len(proposal.added)
    also = f"; new: {new:,}" if new else ""
    return (
        f"Listed by the card and {source}: {_models(both)}; different: {len(models):,}, in"
        f" {len(proposal.changes):,} places{also}."
    )


def _providers(proposal: Proposal) -> list[str]:
    named = [change.group for change in proposal.changes] + [provider for provider, _ in proposal.added]
    return sorted(set(named))


def _of_provider(proposal: Proposal, provider: str) -> list[str]:
    changes = [change for change in proposal.changes if change.group == provider]
    differing = len({change.subject for change in changes})
    new = [model for model in proposal.added if model[0] == provider]
    also = f", {len(new):,} new" if new else ""
    lines = [f"{provider}: {differing:,} of {proposal.compared.get(provider, 0):,} models{also}"]
    lines += [f"  {line}" for line in _kinds(changes)]
    return lines + [f"  new: {name}, {_tier(proposal, (provider, name))}" for _, name in new]


def _kinds(changes: list[Change]) -> Iterator[str]:
    """The prices of most weight first: those that change, then what is gained and gone."""
    for verb, of in (("", _alters), ("gone: ", _goes), ("gained: ", _comes)):
        found = sorted(filter(of, changes), key=_kind)
        kinds = [(kind, list(group)) for kind, group in groupby(found, key=_kind)]
        for kind, group in sorted(kinds, key=lambda each: (each[0] not in ("input", "output"), -len(each[1]))):
            names = [*dict.fromkeys(change.path[2] for change in group)]
            if verb:
                yield f"{verb}{kind} ({len(names):,}): {', '.join(names)}"
            else:
                examples = ", ".join(_example(change, kind) for change in _largest(group))
                yield f"{kind} ({len(names):,}){_range(group)}: {examples}"


def _alters(change: Change) -> bool:
    return change.before is not None and change.after is not None


def _goes(change: Change) -> bool:
    return change.after is None


def _comes(change: Change) -> bool:
    return change.before is None


def _kind(change: Change) -> str:
    return _kind_of(change.path[3])


def _kind_of(place: str) -> str:
    """The unit for plain prices; of others how the request was served, and how long its input was."""
    label, _, limit = place.partition(" above ")
    *served, unit = [label] if label.startswith("factor") else label.split(" ")
    if limit:
        return " ".join([*served, "prices above", limit])
    return " ".join([*served, "prices"]) if served else unit


def _range(group: Iterable[Change]) -> str:
    percent = sorted({round(100 * change.growth) for change in group if change.growth is not None})
    if not percent:
        return ""
    ends = dict.fromkeys((percent[0], percent[-1]))
    return f" {' to '.join(f'{end:+,} %' for end in ends)}"


def _largest(group: list[Change]) -> list[Change]:
    return sorted(group, key=lambda change: abs(change.growth or Fraction()), reverse=True)[:_FEW]


def _example(change: Change, kind: str) -> str:
    place = "" if change.path[3] == kind else f"{change.path[3]} "
    return f"{change.path[2]} {place}{change.before} → {change.after}"


def _changed(change: Change) -> str:
    was = change.before is not None
    said = f"{change.before} → {change.after}" if was and change.after is not None else (change.after or change.before)
    growth = "" if change.growth is None else f" ({round(100 * change.growth):+,} %)"
    return f"{change.path[3]} {'' if was else 'gained: '}{said}{' is gone' if change.after is None else growth}"


def _model(change: Change) -> str:
    return "/".join(change.path[1:3])


def _tier(proposal: Proposal, model: Model) -> str:
    added = proposal.added[model]
    guessed = "" if added.like is None else f", a guess: {'/'.join(added.like)} costs about as much"
    return f"tier {added.tier}{guessed}"


def _cut(groups: list[list[str]], lines_max: int) -> list[list[str]]:
    """The groups, of which the longest are cut until all fit; of very many groups the last are counted."""
    if len(groups) > lines_max:
        return [group[:1] for group in groups[: lines_max - 1]] + [[f"and {len(groups) - lines_max + 1:,} providers"]]
    kept = [len(group) for group in groups]
    while sum(kept) > lines_max:
        kept[kept.index(max(kept))] -= 1
    return [_shortened(group, length) for group, length in zip(groups, kept, strict=True)]


def _shortened(group: list[str], length: int) -> list[str]:
    left = len(group) - length + 1
    return (
        group if len(group) <= length or length == 1 else [*group[: length - 1], f"  and {left:,} kinds of change more"]
    )


def _besides(proposal: Proposal, source: str) -> Iterator[str]:
    changed = {change.path[1:3] for change in proposal.changes}
    beside = [model for model, _ in proposal.kept if model in changed]
    if beside:
        yield f"Look at what stays beside prices that change: {_names(beside)}"
    if proposal.kept:
        yield f"Stays, as {source} does not state it: {_counted(_kind_of(kept) for _, kept in proposal.kept)}"
    if proposal.left_out:
        yield f"Left out (--all says why): {_counted(left.what for _, left in proposal.left_out)}"
    if proposal.missing:
        yield f"Stay, as they are not in {source}: {_names(proposal.missing)}"
    if proposal.unlisted:
        yield f"In {source} alone: {_models(len(proposal.unlisted))} of these providers; --add takes one over."


def _names(models: Iterable[Model]) -> str:
    names = [name for _, name in dict.fromkeys(models)]
    return f"{_models(len(names))}: {', '.join(names)}"


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count:,} models"


def _counted(said: Iterable[str]) -> str:
    said = list(said)
    count: Callable[[str], int] = said.count
    return ", ".join(f"{each} ({count(each):,})" for each in sorted(set(said), key=lambda each: (-count(each), each)))
