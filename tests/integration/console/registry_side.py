"""A real key registry beside the console's ledger, served over HTTP, that asks providers of this machine."""

from __future__ import annotations

from contextlib import contextmanager

from pydantic import SecretStr

from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import BODY_BYTES_MAX, registry_app
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.cards import publish_rate_card
from services.key_registry.handlers.models import publish_aliases
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.metrics import registry_metrics
from services.key_registry.migrations import upgrade
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.providers.checks import ProviderChecks
from services.key_registry.rate_cards import packaged_cards
from services.key_registry.settings import RegistrySettings
from services.runtime.rate_limit import RateLimit
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings
from services.runtime.tokens import TokenVerifier
from tests.integration.key_registry.conftest import write_keyring

_UNLIMITED = CallLimits(RateLimit(1e6, 10**6), RateLimit(1e6, 10**6))
_NEVER_ASKED = "xai"


@contextmanager
def registry_on(stack, providers):
    """The application on the stack's PostgreSQL; it asks the local providers, but for one that it never asks."""
    upgrade(stack.dsn("registry_owner", "registry"))
    kek_file = write_keyring(stack.folder / "kek.json")
    settings = RegistrySettings(
        registry_dsn=SecretStr(stack.dsn("registry_service", "registry")),
        kek_file=kek_file,
        jwt_jwks_file=stack.signing_key.jwks_file,
    )
    urls = {name: url for name, url in providers.base_urls.items() if name != _NEVER_ASKED}
    engine = open_engine(settings.registry_dsn.get_secret_value())
    registry = Registry(sessions_on(engine), load_keyring(kek_file), checks=ProviderChecks(urls, 10))
    for card in packaged_cards():
        publish_rate_card(registry.sessions, card)
    for aliases in packaged_aliases():
        publish_aliases(registry.sessions, aliases)
    bodies = BodyBounds.of(HttpSettings(), BODY_BYTES_MAX)
    metrics = registry_metrics(registry.sessions)
    yield registry_app(registry, TokenVerifier(settings), metrics, {}, _UNLIMITED, bodies)
    engine.dispose()
