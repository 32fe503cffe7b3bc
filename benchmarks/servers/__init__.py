"""Real servers on free loopback ports, each one child process with its data in a temporary folder.

    with run_seaweedfs() as seaweedfs:
        seaweedfs.client().create_bucket(Bucket="reads")

A `run_...` returns when the server answers, and raises `ServerFailed` with its log if it does not.
When the block ends, the process is killed and the folder removed. A server also dies with the
*thread* that started it, however that thread ends: the kernel sees to it. So start servers from
the main thread. dataset.py has what they are filled with.
"""

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
    "Azurite",
    "Prometheus",
    "S3Server",
    "ServerFailed",
    "ServerProcess",
    "ToolMissing",
    "find_tool",
    "free_ports",
    "run_azurite",
    "run_prometheus",
    "run_rclone_s3",
    "run_seaweedfs",
]
