"""HTTPS_PROXY and its like: which proxy leads where, and how it is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from noria.manifests.errors import ConfigurationError
from noria.workers.http.client import HttpClient, HttpSettings, Request, TransportError
from noria.workers.http.proxies import Proxies
from noria.workers.http.response import Sink
from tests.support.connect_proxy import connect_proxy
from tests.support.scripted import Caller, scripted
from tests.workers.http.test_client import Authority

BODY = os.urandom(1 << 20) * 3


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://a.example.org:443", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://a.example.org:443", "p:3128"),
        ({"HTTPS_PROXY": "p:3128\n"}, "https://a.example.org:443", "p:3128"),
        ({"HTTPS_PROXY": "http://p"}, "https://a.example.org:443", "p:80"),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "https://a:443", "q:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://a:80", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a:80", "p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://a:443", None),
        ({"ALL_PROXY": "http://p:1"}, "https://a:443", "p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "https://a:443", "q:1"),
    ],
)
def test_which_proxy(environment: dict[str, str], url: str, proxy: str | None) -> None:
    scheme, _, rest = url.partition("://")
    name, _, port = rest.partition(":")
    found = Proxies.of(environment).leading_to(scheme, name, int(port))
    assert (None if found is None else f"{found.name}:{found.port}") == proxy


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "a.example.org", True),
        ("example.org", "example.org", True),
        ("example.org", "a.example.org", True),
        (".example.org", "a.Example.org", True),
        ("*.example.org", "a.example.org", True),
        ("example.org", "notexample.org", False),
        ("a.example.org", "example.org", False),
        ("other, example.org", "a.example.org", True),
        ("other example.org", "a.example.org", True),
        ("example.org:443", "a.example.org", True),
        ("example.org:8443", "a.example.org", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("0.0.1", "127.0.0.1", False),
        ("::1", "::1", True),
        ("[::1]:443", "::1", True),
        ("localhost,127.0.0.1", "127.0.0.1", True),
        ("", "a.example.org", False),
        (",", "a.example.org", False),
    ],
)
def test_what_needs_no_proxy(no_proxy: str, host: str, direct: bool) -> None:
    proxies = Proxies.of({"HTTPS_PROXY": "http://p:1", "NO_PROXY": no_proxy})
    assert (proxies.leading_to("https", host, 443) is None) is direct


@pytest.mark.parametrize(
    "url", ["socks5://p:1", "https://user:hunter2@p:1", "http://", "http://hunter2@p:x"]
)
def test_a_proxy_of_another_kind_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        Proxies.of({"HTTPS_PROXY": url}).leading_to("https", "a", 443)
    assert "hunter2" not in caught.value.message


def play(caller: Caller) -> None:
    while head := caller.request():
        assert b"proxy-authorization" not in head.lower()
        if head.startswith(b"PUT"):
            caller.say("HTTP/1.1 100 Continue")
            assert caller.body(len(BODY)) == BODY
            caller.say("HTTP/1.1 200 OK", "content-length: 0")
        else:
            caller.say("HTTP/1.1 200 OK", f"content-length: {len(BODY)}", body=BODY)


def move(client: HttpClient) -> None:
    """A body each way, twice: on one connection."""
    for _ in range(2):
        into = memoryview(bytearray(len(BODY)))
        assert client.exchange(Request(method="GET", target="/a?b"), Sink(into=into)).filled
        assert into == BODY
        put = Request(method="PUT", target="/a", body=memoryview(BODY))
        assert client.exchange(put).status == 200
    client.close()


@pytest.mark.parametrize("password", [None, "user:p@ss/w:rd"])
def test_https_goes_through_a_tunnel(tmp_path: Path, password: str | None) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    with (
        scripted(play, authority.context()) as host,
        connect_proxy(password=password) as proxy,
    ):
        proxies = Proxies.of({"HTTPS_PROXY": proxy.url})
        move(HttpClient(HttpSettings(url=host.url, ca_bundle=str(authority.path), proxies=proxies)))
    assert proxy.seen == [f"CONNECT {host.url.removeprefix('https://')} HTTP/1.1"]


@pytest.mark.parametrize("password", [None, "user:secret"])
def test_plain_http_is_forwarded(password: str | None) -> None:
    with scripted(play) as host, connect_proxy(password=password) as proxy:
        proxies = Proxies.of({"HTTP_PROXY": proxy.url})
        move(HttpClient(HttpSettings(url=host.url, proxies=proxies)))
    assert proxy.seen == [f"GET {host.url}/a?b HTTP/1.1", f"PUT {host.url}/a HTTP/1.1"] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_named(scheme: str) -> None:
    with connect_proxy(password="user:secret") as proxy:
        wrong = f"http://user:hunter2@{proxy.address}"
        for url, word in ((f"http://{proxy.address}", "asks for"), (wrong, "refuses its user")):
            proxies = Proxies.of({"ALL_PROXY": url})
            client = HttpClient(HttpSettings(url=f"{scheme}://127.0.0.1:9", proxies=proxies))
            with pytest.raises(ConfigurationError, match=word) as caught:
                client.exchange(Request(method="GET", target="/"))
            assert f"{proxy.address} (ALL_PROXY)" in caught.value.message
            assert "hunter2" not in caught.value.message
            client.close()


@pytest.mark.parametrize(
    ("status", "error"), [(403, ConfigurationError), (503, TransportError), (302, TransportError)]
)
def test_a_tunnel_that_is_refused(status: int, error: type[Exception]) -> None:
    with connect_proxy(refuses=status) as proxy:
        proxies = Proxies.of({"HTTPS_PROXY": proxy.url})
        client = HttpClient(HttpSettings(url="https://127.0.0.1:9", proxies=proxies))
        with pytest.raises(error, match=str(status)):
            client.exchange(Request(method="GET", target="/"))
        client.close()


def test_a_proxy_that_is_not_there_is_named() -> None:
    proxies = Proxies.of({"HTTPS_PROXY": "http://user:hunter2@127.0.0.1:9"})
    client = HttpClient(HttpSettings(url="https://store.example.org", proxies=proxies))
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:9 \(HTTPS_PROXY\)") as caught:
        client.exchange(Request(method="GET", target="/"))
    assert "hunter2" not in str(caught.value)


def test_plain_http_does_not_leave_this_machine_through_a_proxy() -> None:
    proxies = Proxies.of({"HTTP_PROXY": "http://proxy.example.org:3128"})
    with pytest.raises(ConfigurationError, match="NO_PROXY"):
        HttpClient(HttpSettings(url="http://127.0.0.1:9000", proxies=proxies))
    HttpClient(
        HttpSettings(url="http://127.0.0.1:9000", proxies=proxies, allow_plain_http=True)
    ).close()
