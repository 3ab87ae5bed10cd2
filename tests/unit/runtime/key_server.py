"""An identity provider of the tests: a real HTTP server for a JWKS that does what it is told, and signing keys."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt import PyJWS
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from tests.patience import PATIENCE_SECONDS

Serve = Callable[["BaseHTTPRequestHandler"], None]


class Signer(NamedTuple):
    """A key that signs tokens."""

    kid: str
    algorithm: str
    private: Ed25519PrivateKey | RSAPrivateKey

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public half as it stands in a JWKS."""
        of: Any = OKPAlgorithm if self.algorithm == "EdDSA" else RSAAlgorithm
        public: dict[str, Any] = of.to_jwk(self.private.public_key(), as_dict=True)
        return public | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | changes

    def private_jwk(self) -> dict[str, Any]:
        """The whole key, as it must never stand in a JWKS."""
        of: Any = OKPAlgorithm if self.algorithm == "EdDSA" else RSAAlgorithm
        whole: dict[str, Any] = of.to_jwk(self.private, as_dict=True)
        return whole | {"kid": self.kid, "use": "sig", "alg": self.algorithm}

    def pem(self) -> bytes:
        """The public half, as everybody may know it."""
        public = self.private.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token; ``header`` changes its header."""
        # Not jwt.encode: it refuses some of the claims that a test wants to see refused.
        payload = json.dumps(claims, default=lambda at: int(at.timestamp())).encode()
        return PyJWS().encode(payload, self.private, self.algorithm, headers={"kid": self.kid} | header)


def ed25519(kid: str) -> Signer:
    """A new EdDSA key."""
    return Signer(kid, "EdDSA", Ed25519PrivateKey.generate())


def rsa(kid: str, bits: int = 2048) -> Signer:
    """A new RS256 key."""
    return Signer(kid, "RS256", generate_private_key(65_537, bits))


def assemble(header: object, claims: object, signature: bytes = b"") -> str:
    """A token of these parts, however wrong they are."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class KeyServer:
    """What it serves can be changed at any time; it counts the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = 0
        self.serve: Serve = document(b"{}")

    def publish(self, *keys: Signer) -> None:
        """Serve these keys from now on."""
        self.serve = document(json.dumps({"keys": [key.jwk() for key in keys]}).encode())


def document(body: bytes, status: int = 200, **headers: str) -> Serve:
    """Answer with this body."""

    def serve(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return serve


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """A server on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            serving.requests += 1
            serving.serve(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            # That a client goes away in the middle of an answer is what some tests are about.
            pass

    server = Server(("127.0.0.1", 0), Handler)
    serving = KeyServer(f"http://127.0.0.1:{server.server_port}/jwks.json")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_SECONDS)
