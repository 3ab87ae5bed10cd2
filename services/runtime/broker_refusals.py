"""Why Kafka does not let us in, or not do what we have to, in one sentence for operators, without a secret.

The client libraries try again by themselves whatever it was, and say in the end only that no broker could be reached.
So a broker is asked before a client is made, by a connection that is for nothing else.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka.conn import create_conn
from aiokafka.errors import GroupAuthorizationFailedError as AwaitedGroupRefused
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.errors import KafkaError as AwaitedKafkaError
from aiokafka.errors import TopicAuthorizationFailedError as AwaitedTopicRefused
from aiokafka.protocol.metadata import MetadataRequest
from kafka import KafkaAdminClient
from kafka.errors import AuthorizationError, GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from services.runtime.kafka_access import KafkaAccess, SecurityProtocol
from services.runtime.kafka_clients import METADATA_MS, aiokafka_options, kafka_python_options
from services.runtime.settings import SettingsError

NO_ANSWER = "the broker does not answer"
_ASK_SECONDS = 5.0
_AUTHORIZATION = (AuthorizationError, AwaitedTopicRefused, AwaitedGroupRefused)
_AUTHENTICATION = (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError)


class BrokerRefused(KafkaError, AwaitedKafkaError):  # type: ignore[misc]  # the libraries have no types
    """Kafka is there and refuses us; trying again helps once somebody has mended it. An error of either library."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class Right(NamedTuple):
    """What a process must be allowed, in the words of Kafka's ACLs."""

    operation: str
    """``Read``, ``Write``, ``DescribeConfigs``."""
    kind: str
    """``topic`` or ``group``."""
    name: str

    @property
    def as_told(self) -> str:
        """The operation as kafka-python names it: ``DESCRIBE_CONFIGS``."""
        return re.sub(r"\B([A-Z])", r"_\1", self.operation).upper()


def cause(error: BaseException) -> str:
    """What is told of an error: why Kafka refused us, or what; else its kind."""
    if isinstance(error, _AUTHORIZATION):
        return f"authorization: {error}"
    return str(error) if isinstance(error, BrokerRefused) else type(error).__name__


def client_options(access: KafkaAccess) -> dict[str, Any]:
    """What a client of kafka-python is told. Raises BrokerRefused where a broker refuses us; waits for none that is
    away. Not on an event loop.
    """
    if access.protocol is not SecurityProtocol.PLAINTEXT:
        asyncio.run(_knock(access))
    return _usable(access, kafka_python_options)


async def awaited_client_options(access: KafkaAccess) -> dict[str, Any]:
    """The same for aiokafka."""
    await _knock(access)
    return _usable(access, aiokafka_options) | {"metadata_max_age_ms": METADATA_MS}


async def _knock(access: KafkaAccess) -> None:
    access.warn_of_readers()
    why = await trouble(access)
    if why not in (None, NO_ANSWER):
        raise BrokerRefused(why)


def _usable(access: KafkaAccess, options: Callable[[KafkaAccess], dict[str, Any]]) -> dict[str, Any]:
    try:
        return options(access)
    except SettingsError as error:
        # A file that could be used when we started.
        raise BrokerRefused(str(error)) from None


async def trouble(access: KafkaAccess) -> str | None:
    """Why no broker lets us in, in one sentence: NO_ANSWER where none answers. None where one does; without encryption
    and SASL, nobody is asked.
    """
    if access.protocol is SecurityProtocol.PLAINTEXT:
        return None
    try:
        options = aiokafka_options(access)
        if access.token_file is not None:
            access.token()
    except SettingsError as error:
        return str(error)
    for server in options.pop("bootstrap_servers"):
        try:
            await _connect(server, options)
        except ssl.SSLCertVerificationError as error:
            return f"certificate: that of the broker {server} is not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            return f"certificate: no TLS with the broker {server} came about: {error.reason}"
        except _AUTHENTICATION as error:
            return f"authentication: the broker {server} does not accept {_who(access)} ({type(error).__name__})"
        except (ConnectionResetError, KafkaConnectionError):
            return (
                f"connection: the broker {server} ends it at once; does it speak {access.protocol} there, "
                f"and accept {_who(access)}?"
            )
        except (OSError, ValueError, TimeoutError, AwaitedKafkaError):
            continue
        return None
    return NO_ANSWER


async def _connect(server: str, options: Mapping[str, Any]) -> None:
    host, _, port = server.strip().rpartition(":")
    timeout_ms = int(_ASK_SECONDS * 1000)
    connection = await create_conn(
        host.strip("[]"), int(port), request_timeout_ms=timeout_ms, max_idle_ms=None, **options
    )
    try:
        # A client's certificate or token that is not accepted shows only at the first question; after the latter
        # aiokafka believes itself let in, and the answer is empty.
        if not (await connection.send(MetadataRequest([]))).brokers:
            raise SaslAuthenticationFailed
    finally:
        connection.close()


def _who(access: KafkaAccess) -> str:
    if access.username is not None:
        return f"the user {access.username} with its password"
    if access.token_file is not None:
        return "our token"
    return "us without a certificate" if access.cert_file is None else "our certificate"


def require(access: KafkaAccess, admin: KafkaAdminClient, rights: Iterable[Right]) -> None:
    """Raise BrokerRefused where a right is missing, and KafkaError. A topic that is not there forbids nothing."""
    if access.protocol is SecurityProtocol.PLAINTEXT:
        return
    for right in rights:
        if not _may(admin, right):
            who = access.username or "who we are"
            raise BrokerRefused(
                f"authorization: {who} may not {right.operation} the {right.kind} {right.name}; an ACL is missing"
            )


def _may(admin: KafkaAdminClient, right: Right) -> bool:
    try:
        if right.kind == "group":
            described = admin.describe_groups([right.name])[right.name]
        else:
            (described,) = admin.describe_topics([right.name])
    except GroupAuthorizationFailedError:
        return False
    if described.get("error_code") == TopicAuthorizationFailedError.errno:
        return False
    # Nothing where the broker does not tell: of what is not there yet, and where it knows no ACLs.
    allowed = described["authorized_operations"]
    return not allowed or right.as_told in allowed
