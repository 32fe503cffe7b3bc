"""Pages of the reference that are made from the code: nothing of them is written by hand."""

from docs.reference.causes import causes_page
from docs.reference.commands import commands_page, exit_codes_page
from docs.reference.metrics import metrics_page
from docs.reference.settings import settings_page
from docs.reference.status_document import status_page

__all__ = ["reference_pages"]


def reference_pages() -> dict[str, str]:
    """The text of each page, by its place in the site."""
    return {
        "reference/causes.md": causes_page(),
        "reference/commands.md": commands_page(),
        "reference/exit-codes.md": exit_codes_page(),
        "reference/job-file.md": settings_page(),
        "reference/metrics.md": metrics_page(),
        "reference/status.md": status_page(),
    }
