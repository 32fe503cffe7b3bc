"""The MD5 of an object that is read at once, against the one that its source states.

Azure states it as Content-MD5. S3 states it as the ETag of what was written in one request, but not
every server does, and none for objects under keys of its own. So an ETag that looks like an MD5
counts once some of this source's have been seen to be the MD5s of their bytes.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Final

from noria.workers.stores.protocol import ObjectHead

KNOWN: Final = 3
"""So many ETags that are MD5s, and one that is not contradicts its bytes."""
TRIED: Final = 16
"""So many that are not, and none that is: this source's ETags are something else."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")


class StatedMd5:
    """What is known of one source's ETags; shared by all transfers of a process.

    Several threads may count at once: one more or less makes no difference.
    """

    def __init__(self) -> None:
        self._equal = 0
        self._other = 0

    def contradicts(self, head: ObjectHead, body: memoryview) -> bool:
        """Return True if the source states an MD5 that these bytes do not have."""
        stated = head.attributes.content_md5
        if stated is None and not self._may_be_md5(head):
            return False
        md5 = hashlib.md5(body, usedforsecurity=False)
        if stated is not None:
            return stated != b64encode(md5.digest()).decode()
        if md5.hexdigest() == head.etag:
            self._equal += 1
            return False
        self._other += 1
        return self._equal >= KNOWN

    def _may_be_md5(self, head: ObjectHead) -> bool:
        if self._other >= TRIED and not self._equal:
            return False
        return head.attributes.encryption is None and _MD5.fullmatch(head.etag) is not None
