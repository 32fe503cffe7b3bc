"""Which proxy leads to a host, as HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say.

What curl does: names in lower case go first, NO_PROXY lists hosts and domains (`example.org` is the
host and all below it), addresses and networks (`10.0.0.0/8`), all with or without a port, or `*`.
Only proxies that speak plain HTTP are used. What they carry is not theirs to read if the store is
reached over https: that is a tunnel (CONNECT; RFC 9110, 9.3.6), with TLS from end to end.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from noria.manifests.errors import ConfigurationError
from noria.workers.http.environment import read_variable

DEFAULT_PORT: Final = 80
"""Of a proxy whose URL names none: what the clouds' own clients take; curl takes 1080."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy."""

    name: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of Proxy-Authorization. None: the proxy asks for none."""
    variable: str
    """The environment variable that names it, for messages."""

    def __str__(self) -> str:
        return f"{self.name}:{self.port} ({self.variable})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The proxies of one environment. An empty one: everything is reached directly."""

    https: str | None = field(default=None, repr=False)
    http: str | None = field(default=None, repr=False)
    https_variable: str = "HTTPS_PROXY"
    http_variable: str = "HTTP_PROXY"
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Proxies:
        """As the environment says. Raises ConfigurationError if a value cannot be read."""
        https_variable, https = _first(environment, "https_proxy", "all_proxy")
        http_variable, http = _first(environment, "http_proxy", "all_proxy")
        words = (read_variable(environment, "no_proxy", "NO_PROXY") or "").lower()
        return cls(
            https=https,
            http=http,
            https_variable=https_variable,
            http_variable=http_variable,
            no_proxy=tuple(words.replace(",", " ").split()),
        )

    def leading_to(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for a host; None if it is reached directly.

        Raises ConfigurationError for a proxy of a kind that is not supported.
        """
        url = self.https if scheme == "https" else self.http
        if url is None or any(_matches(word, host, port) for word in self.no_proxy):
            return None
        return _parse(url, self.https_variable if scheme == "https" else self.http_variable)


NO_PROXIES: Final = Proxies()


def _first(environment: Mapping[str, str], *names: str) -> tuple[str, str | None]:
    for name in names:
        for spelled in (name, name.upper()):
            value = read_variable(environment, spelled)
            if value is not None:
                return spelled, value
    return names[0].upper(), None


def _parse(url: str, variable: str) -> Proxy:
    """A proxy from its URL, whose scheme may be missing. A message repeats nothing of the URL."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port, parts = None, None, urlsplit("http://")
    if parts.scheme != "http":
        raise ConfigurationError(
            f"{variable} names a proxy of a kind that is not supported ({parts.scheme[:10]}): name "
            "one as http://[USER:PASSWORD@]HOST:PORT, or the store's host in NO_PROXY"
        )
    if not name:
        raise ConfigurationError(
            f"{variable} is not the URL of a proxy: write http://[USER:PASSWORD@]HOST:PORT"
        )
    authorization = None
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(words.encode()).decode()}"
    return Proxy(
        name=name,
        port=DEFAULT_PORT if port is None else port,
        authorization=authorization,
        variable=variable,
    )


def _matches(word: str, host: str, port: int) -> bool:
    """Return True if a word of NO_PROXY is about this host."""
    if word == "*":
        return True
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and "/" in word:
        try:
            return address in ipaddress.ip_network(word, strict=False)
        except ValueError:
            return False
    name, separator, number = word.rpartition(":")
    if separator and number.isdecimal() and (name.startswith("[") or ":" not in name):
        if int(number) != port:
            return False
        word = name
    word = word.strip("[]").removeprefix("*").strip(".")
    if address is not None:
        return word == host
    return bool(word) and (host == word or host.endswith(f".{word}"))
