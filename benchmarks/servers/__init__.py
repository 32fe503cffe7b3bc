"""Real servers on free loopback ports, for tests and benchmarks."""

from noria.benchmarks.servers.alertmanager import Alertmanager, run_alertmanager
from noria.benchmarks.servers.azurite import AZURITE_BLOB, NODE, Azurite, run_azurite
from noria.benchmarks.servers.process import (
    READY_POLL_SECONDS,
    READY_SECONDS,
    ROOT,
    ServerFailed,
    ServerProcess,
    ToolMissing,
    find_tool,
    free_ports,
)
from noria.benchmarks.servers.prometheus import Prometheus, run_prometheus
from noria.benchmarks.servers.s3 import (
    REGION,
    SEAWEEDFS_GRPC_OFFSET,
    S3Server,
    run_rclone_s3,
    run_seaweedfs,
)

__all__ = [
    "AZURITE_BLOB",
    "NODE",
    "READY_POLL_SECONDS",
    "READY_SECONDS",
    "REGION",
    "ROOT",
    "SEAWEEDFS_GRPC_OFFSET",
    "Alertmanager",
    "Azurite",
    "Prometheus",
    "S3Server",
    "ServerFailed",
    "ServerProcess",
    "ToolMissing",
    "find_tool",
    "free_ports",
    "run_alertmanager",
    "run_azurite",
    "run_prometheus",
    "run_rclone_s3",
    "run_seaweedfs",
]
