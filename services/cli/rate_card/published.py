"""What is published, where a registry can be asked; else what ships with us."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr

    from services.key_registry.database.sessions import Sessions
    from services.key_registry.rate_cards import CardDocument


def read_cards(registry: SecretStr | None) -> tuple[list[CardDocument], str]:
    """The cards in the order of publication, and which these are: ``published``, or ``packaged`` without a registry."""
    from services.key_registry.handlers.cards import published_cards
    from services.key_registry.rate_cards import packaged_cards

    if registry is None:
        return list(packaged_cards()), "packaged"
    with sessions(registry) as opened:
        return published_cards(opened), "published"


def read_aliases(registry: SecretStr | None) -> Mapping[str, Mapping[str, str]]:
    """By provider, to each other name of a model the one on the cards."""
    from services.key_registry.handlers.models import published_aliases
    from services.key_registry.model_aliases import packaged_aliases

    if registry is None:
        return {each.provider: each.aliases for each in packaged_aliases()}
    with sessions(registry) as opened:
        return {each.provider: each.aliases for each in published_aliases(opened)}


@contextmanager
def sessions(registry: SecretStr) -> Iterator[Sessions]:
    """Sessions on its database, closed with the block."""
    from services.key_registry.database.sessions import open_engine, sessions_on

    engine = open_engine(registry.get_secret_value())
    try:
        yield sessions_on(engine)
    finally:
        engine.dispose()
