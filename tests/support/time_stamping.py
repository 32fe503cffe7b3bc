"""A time-stamping authority of this machine: `openssl ts` behind a small HTTP server."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = dn
prompt = no
[dn]
CN = root of a test
[root]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
[stamps]
basicConstraints = CA:false
extendedKeyUsage = critical,timeStamping
[server]
subjectAltName = IP:127.0.0.1
[tsa]
default_tsa = test_tsa
[test_tsa]
serial = {folder}/serial
signer_cert = {folder}/stamps.pem
certs = {folder}/root.pem
signer_key = {folder}/stamps.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
"""

Answer = Callable[[bytes], bytes]


@dataclass(slots=True)
class TimeStampingAuthority:
    """It answers as RFC 3161 has it, or as `answer` says."""

    folder: Path
    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    """Queries that came."""
    answer: Answer | None = None
    status: int = 200

    @property
    def roots(self) -> Path:
        return self.folder / "root.pem"

    def stamp(self, query: bytes) -> bytes:
        """The whole answer to a query: of anything else, that it is refused."""
        (self.folder / "query").write_bytes(query)
        said = ("-queryfile", self.folder / "query", "-out", self.folder / "answer")
        _openssl("ts", "-reply", "-config", self.folder / "config", *said)
        return (self.folder / "answer").read_bytes()

    def stamp_of(self, data: bytes) -> bytes:
        """A time stamp of these bytes, asked for by another client."""
        (self.folder / "data").write_bytes(data)
        query = self.folder / "own-query"
        said = ("-data", self.folder / "data", "-sha256", "-cert", "-out", query)
        _openssl("ts", "-query", *said)
        return self.stamp(query.read_bytes())

    def confirms(self, stamp: Path, data: bytes) -> bool:
        """Whether openssl takes a time stamp for one of these bytes, by this authority."""
        (self.folder / "data").write_bytes(data)
        said = ("-data", self.folder / "data", "-in", stamp, "-CAfile", self.roots)
        return (
            subprocess.run(("openssl", "ts", "-verify", *said), capture_output=True).returncode == 0
        )


@contextlib.contextmanager
def time_stamping(folder: Path, *, tls: bool = False) -> Iterator[TimeStampingAuthority]:
    """An authority that answers on loopback, while the context lasts."""
    folder.mkdir()
    authority = TimeStampingAuthority(folder)
    _make_certificates(folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, authority))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    authority.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/tsr"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield authority
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, authority: TimeStampingAuthority, *given: object) -> None:
        self._authority = authority
        super().__init__(*given)  # type: ignore[arg-type]  # as the server gives them

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/timestamp-query"
        query = self.rfile.read(int(self.headers["Content-Length"]))
        self._authority.asked.append(query)
        answer = (self._authority.answer or self._authority.stamp)(query)
        self.send_response(self._authority.status)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *said: object) -> None:
        """Nothing: a test's output is its own."""


def _make_certificates(folder: Path) -> None:
    config = folder / "config"
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    root = folder / "root"
    for name in ("root", "stamps", "server"):
        _openssl(
            "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / f"{name}.key"
        )
    said = ("-key", f"{root}.key", "-config", config)
    _openssl("req", "-x509", *said, "-extensions", "root", "-days", "9", "-out", f"{root}.pem")
    for name in ("stamps", "server"):
        request, key = folder / f"{name}.csr", folder / f"{name}.key"
        asked = ("-key", key, "-config", config, "-subj", f"/CN={name} of a test")
        _openssl("req", "-new", *asked, "-out", request)
        by = ("-CA", f"{root}.pem", "-CAkey", f"{root}.key", "-CAcreateserial", "-days", "9")
        extended = ("-extfile", config, "-extensions", name)
        _openssl("x509", "-req", "-in", request, *by, *extended, "-out", folder / f"{name}.pem")


def _openssl(*said: str | Path) -> None:
    subprocess.run(("openssl", *map(str, said)), check=True, capture_output=True)
