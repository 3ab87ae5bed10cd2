"""What each of the client libraries is told of how Kafka is reached. They differ in how they ask for a token."""

from __future__ import annotations

from typing import Any

from aiokafka.abc import AbstractTokenProvider as AwaitedTokenProvider
from kafka.net.sasl.oauth import AbstractTokenProvider

from services.runtime.kafka_access import KafkaAccess
from services.runtime.settings import SettingsError

METADATA_MS = 10_000
"""How old at most a client's knowledge of the cluster is. aiokafka, which looks for the beginning of a partition where
its leader was, asks anew only then: by default after five minutes."""


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """Reads the token anew for every connection."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access

    def token(self) -> str:
        """The token now. Raises OSError, after which the libraries try again."""
        try:
            return self._access.token()
        except SettingsError as error:
            raise OSError(str(error)) from None


class _AwaitedTokenFile(AwaitedTokenProvider):  # type: ignore[misc]  # nor has aiokafka
    """The same for aiokafka. The file is small, so the loop reads it itself."""

    def __init__(self, access: KafkaAccess) -> None:
        self._file = _TokenFile(access)

    async def token(self) -> str:
        """As above."""
        return self._file.token()


def kafka_python_options(access: KafkaAccess) -> dict[str, Any]:
    """For any client of kafka-python. Raises SettingsError where a file cannot be used."""
    return _options(access, _TokenFile)


def aiokafka_options(access: KafkaAccess) -> dict[str, Any]:
    """For any client of aiokafka. Raises SettingsError where a file cannot be used."""
    return _options(access, _AwaitedTokenFile)


def _options(access: KafkaAccess, token_provider: type) -> dict[str, Any]:
    told = access.options()
    return told if access.token_file is None else {**told, "sasl_oauth_token_provider": token_provider(access)}
