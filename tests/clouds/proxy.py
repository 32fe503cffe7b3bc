"""A cloud that is played: one of the local servers behind a proxy that keeps a profile's rules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from noria.benchmarks.servers import REGION, S3Server
from noria.workers.stores.s3.sigv4 import Signer, SigningKeys
from tests.clouds.profiles import CloudProfile
from tests.clouds.rules import History, combined
from tests.support.fault_proxy.exchange import Resign
from tests.support.fault_proxy.proxy import FaultProxy
from tests.support.fault_proxy.rules import Action, ProxiedRequest


class CloudProxy(FaultProxy):
    """Made by run_cloud(). Faults that a test adds go before the profile's rules."""

    def __init__(self, profile: CloudProfile, upstream: str, *, resign: Resign | None) -> None:
        self._rules = [each.rule for each in profile.differences if each.rule is not None]
        self._history = History()
        super().__init__(upstream, seed=0, resign=resign)

    def chosen(self, request: ProxiedRequest) -> tuple[Action | None, str]:
        fault, place = super().chosen(request)
        if fault is not None:
            return fault, place
        self._history.note(request)
        actions = [rule.action(request, self._history) for rule in self._rules]
        return combined([action for action in actions if action is not None]), ""


@contextlib.contextmanager
def run_cloud(
    profile: CloudProfile, upstream: str, *, resign: Resign | None = None
) -> Iterator[CloudProxy]:
    proxy = CloudProxy(profile, upstream, resign=resign)
    try:
        yield proxy
    finally:
        proxy.close()


def signed_again(server: S3Server) -> Resign:
    """Signs what the proxy has changed with the server's own keys."""
    keys = SigningKeys(access_key=server.access_key, secret_key=server.secret_key)

    def resign(request: ProxiedRequest) -> dict[str, str]:
        old = ("authorization", "x-amz-date", "x-amz-content-sha256", "host")
        unsigned = ("content-length", "expect", "connection", "accept-encoding", "user-agent")
        headers = {name: value for name, value in request.headers.items() if name not in old}
        signed = {name: value for name, value in headers.items() if name not in unsigned}
        path, _, query = request.target.partition("?")
        host = request.headers["host"]
        payload = request.headers["x-amz-content-sha256"]
        signer = Signer(host, REGION, lambda: keys)
        return {
            "host": host,
            **headers,
            **signer.sign(request.method, path, query, signed, payload),
        }

    return resign
