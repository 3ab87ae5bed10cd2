"""The public keys that tokens are checked with: read from a JWKS, kept, and read anew when they are rotated.

Whoever sends tokens must not be able to make us slow, or to make us hammer the URL: a token under a known key never
waits, keys are read in a thread of their own, one reading at a time, and junk key ids cause few readings.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.runtime.http_client import http_client
from services.runtime.logs import logger
from services.runtime.token_buckets import TokenBuckets

_log = logger(__name__)

ALGORITHMS = frozenset({"EdDSA", "RS256"})
JWKS_BYTES_MAX = 1024 * 1024
READ_SECONDS_MAX = 5.0
FRESH_SECONDS = 300.0
"""After this time keys are read anew, so that one that was taken back goes; until that is done, they still count."""
TRUSTED_SECONDS = 24 * 3600.0
"""Keys that could not be read anew for this long no longer count: nobody knows whether they were taken back."""
READINGS_AT_ONCE = 4
SECONDS_PER_READING = 5.0
_WAITING_MAX = 16
_RSA_BITS_MIN = 2048

Clock = Callable[[], float]


class KeysUnavailable(Exception):
    """The keys cannot be had at present."""


class _Reading:
    """One attempt to read the keys."""

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.done = threading.Event()


class SigningKeys:
    """The keys of one JWKS by their ids. Threads share it."""

    def __init__(self, read: Callable[[], bytes], clock: Clock = time.monotonic) -> None:
        """``read`` returns the JWKS, or raises as ``read_url`` does. Reading begins at once."""
        self._read = read
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()
        self._reading: _Reading | None = None
        self._failed = False
        """Whether the last reading was in vain, so that nobody knows whether there are other keys by now."""
        self._allowance = TokenBuckets(1 / SECONDS_PER_READING, READINGS_AT_ONCE, clock=clock)
        self._waiting = threading.BoundedSemaphore(_WAITING_MAX)
        # Now, so that the first tokens need not wait for it.
        self._begin_reading()

    def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of this id; None where there is none. Raises KeysUnavailable where that cannot be known."""
        found = self._trusted().get(kid)
        if found is None:
            self._wait_for_reading()
            keys = self._trusted()
            if not keys or (kid not in keys and self._failed):
                raise KeysUnavailable
            return keys.get(kid)
        self._freshen()
        return found

    def counts(self, key: jwt.PyJWK) -> bool:
        """Whether this very key is still the one of its id, as they were last read. Never waits."""
        self._freshen()
        return self._trusted().get(str(key.key_id)) is key

    def _freshen(self) -> None:
        if self._clock() - self._read_at > FRESH_SECONDS:
            self._begin_reading()

    def _trusted(self) -> Mapping[str, jwt.PyJWK]:
        return self._keys if self._clock() - self._read_at <= TRUSTED_SECONDS else {}

    def _wait_for_reading(self) -> None:
        # The service has only so many threads: they must not all stand here while a URL is slow.
        if not self._waiting.acquire(blocking=False):
            raise KeysUnavailable
        try:
            reading = self._begin_reading()
            if reading is not None and not reading.done.wait(READ_SECONDS_MAX):
                raise KeysUnavailable
        finally:
            self._waiting.release()

    def _begin_reading(self) -> _Reading | None:
        """The reading under way, or a new one; None where there were enough of late."""
        with self._lock:
            now = self._clock()
            # One that takes far too long is given up, or a URL that never ends an answer would stop us for ever.
            if self._reading is not None and now - self._reading.started_at <= 2 * READ_SECONDS_MAX:
                return self._reading
            if self._allowance.take(None) > 0:
                return None
            self._reading = reading = _Reading(now)
        threading.Thread(target=self._carry_out, args=(reading,), name="jwks", daemon=True).start()
        return reading

    def _carry_out(self, reading: _Reading) -> None:
        keys: Mapping[str, jwt.PyJWK] | None = None
        try:
            keys = parse_jwks(self._read())
        except (OSError, ValueError, TypeError, RecursionError, jwt.PyJWTError) as error:
            _log.error("JWKS cannot be read", error=type(error).__name__)
        finally:
            with self._lock:
                if self._reading is reading:
                    self._reading, self._failed = None, keys is None
                    if keys is not None:
                        self._keys, self._read_at = keys, self._clock()
            reading.done.set()


def parse_jwks(document: bytes) -> Mapping[str, jwt.PyJWK]:
    """The keys that may sign tokens, by id. Raises ValueError, TypeError or PyJWTError where there is none."""
    loaded = json.loads(document)
    if not isinstance(loaded, dict):
        raise TypeError("a JWKS is a JSON object")
    keys = jwt.PyJWKSet.from_dict(loaded).keys
    usable = {key.key_id: key for key in keys if isinstance(key.key_id, str) and _is_usable(key)}
    if not usable:
        raise ValueError("no key in the JWKS has a kid and is for signatures with EdDSA or RS256")
    return usable


def _is_usable(key: jwt.PyJWK) -> bool:
    if key.algorithm_name not in ALGORITHMS or key.public_key_use not in (None, "sig"):
        return False
    public = key.key
    if hasattr(public, "private_bytes"):
        _log.error("the JWKS holds a private key, which is not used; replace it, others may have read it")
        return False
    return not isinstance(public, RSAPublicKey) or public.key_size >= _RSA_BITS_MIN


def read_file(path: Path) -> bytes:
    """A JWKS from a file. Raises OSError, or ValueError where it is too large."""
    with path.open("rb") as file:
        document = file.read(JWKS_BYTES_MAX + 1)
    _check_size(document)
    return document


def read_url(url: str) -> bytes:
    """A JWKS over HTTP, without following redirects. Raises OSError, or ValueError where it is too large or no URL."""
    import httpx

    deadline = time.monotonic() + READ_SECONDS_MAX
    body = bytearray()
    # Not compressed: a small answer could unpack to one that fills the memory.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        with (
            http_client(url, seconds=READ_SECONDS_MAX) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            if not answer.is_success:
                raise ConnectionError(f"the JWKS is answered {answer.status_code}")
            for chunk in answer.iter_raw():
                body += chunk
                _check_size(body)
                if time.monotonic() > deadline:
                    raise TimeoutError("the JWKS takes too long")
    except httpx.HTTPError as error:
        raise ConnectionError(f"the JWKS cannot be asked for: {type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise ValueError("the address of the JWKS is no URL") from error
    return bytes(body)


def _check_size(document: bytes | bytearray) -> None:
    if len(document) > JWKS_BYTES_MAX:
        raise ValueError("the JWKS is too large")
