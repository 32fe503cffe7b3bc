from dataclasses import dataclass

from manifests.providers import NameRules
from workers.store import Checksum


@dataclass
class F:
    checksum: Checksum
    if_absent: bool
    name_rules: NameRules
    provider: str | None


def probe_target(store, prefix, token):
    return F(Checksum.CRC64NVME, True, NameRules(), "seaweedfs")
