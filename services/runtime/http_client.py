"""Asking others over HTTP: with the system's certificates and the environment's proxies."""

from __future__ import annotations

import ssl
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx


def http_client(url: str, *, seconds: float, proxied: bool = True, **options: Any) -> httpx.Client:
    """A client for ``url``, to be closed; no step of a question may take longer than ``seconds``.

    It follows no redirect unless ``options`` of httpx say so, and raises httpx.HTTPError, or httpx.InvalidURL.
    """
    # Here, so that whoever asks nobody does not wait for it to be imported.
    import httpx

    return httpx.Client(**client_options(url, proxied=proxied), timeout=seconds, **options)


def client_options(url: str, *, proxied: bool) -> dict[str, Any]:
    """What any client of httpx that asks ``url`` is made with."""
    # Not what httpx itself takes from the environment: it trusts the certificates that it brings along, and refuses to
    # begin where any proxy that is named is of a kind it does not know.
    proxy = environment_proxy(url) if proxied else None
    return {"verify": _certificates(), "proxy": proxy, "trust_env": False}


def environment_proxy(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for ``url``; None: nobody stands between."""
    from urllib.request import getproxies, proxy_bypass

    address = urlsplit(url)
    proxy = None if proxy_bypass(address.netloc.rpartition("@")[2]) else getproxies().get(address.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
