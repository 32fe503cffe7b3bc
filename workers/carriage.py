"""What travels with an object besides its bytes, fitted to what the target can hold.

No attribute is dropped where it is written. All are looked at here, once for each object and before
anything of it is sent: what the target cannot hold is refused, left or mapped, as the policy says,
and the receipt names it (AttributeChange). The stores still refuse what this file would let pass.

manifests/plan/attributes.py is the table of what goes where.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

from noria.manifests.errors import AttributesRefused
from noria.manifests.model import AttributeChange, Attributes, Treatment
from noria.manifests.plan.attributes import ATTRIBUTES
from noria.manifests.plan.providers import limits_for
from noria.workers.stores.metadata import encode_words, is_ascii, is_identifier, is_text, is_token

HEADERS: Final = (
    "content_type",
    "content_encoding",
    "content_language",
    "content_disposition",
    "cache_control",
)
_TAG_NAME_MAX, _TAG_VALUE_MAX = 128, 256
_AZURE_TAG = re.compile(r"[A-Za-z0-9 +\-./:=_]*")
"""Set Blob Tags, Azure Storage REST API reference."""
_FILE_NAME = re.compile(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]+))')
_SETTINGS: Final = {cause: fate.settings for fate in ATTRIBUTES for cause in fate.counted}
"""The settings that say what becomes of what cannot be carried."""
_RENAMED: Final = "rename_"
_RENAMED_FROM: Final = "rename_key_"
"""As AzCopy writes what it renames, so that its users find the names again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributePolicy:
    """What becomes of attributes that the target cannot hold."""

    metadata: Treatment = Treatment.REFUSE
    headers: Treatment = Treatment.REFUSE
    """Content-Disposition and the like."""
    tags: Treatment = Treatment.REFUSE
    others: Treatment = Treatment.LEAVE
    """Expires, redirect, type of blob, storage class, encryption, retention and legal hold."""
    lossless: bool = False
    """What would be left is refused, and so are tags that cannot be read, and names of metadata
    that lose their case."""
    class_is_chosen: bool = False
    """The job says which storage class or tier is written, so that the source's is not missed."""
    encryption_is_chosen: bool = False
    retention_is_carried: bool = False
    target_drops_tags: bool = False
    """It takes a write with tags and drops them without a word, as the probe has seen."""

    def without_refusals(self) -> AttributePolicy:
        """Return the same, but for leaving what would be refused."""
        kept: dict[str, Any] = {
            part: Treatment.LEAVE
            for part in ("metadata", "headers", "tags", "others")
            if getattr(self, part) is Treatment.REFUSE
        }
        return replace(self, lossless=False, **kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """The attributes to write, and how they differ from the source's."""

    attributes: Attributes
    changes: frozenset[AttributeChange] = frozenset()

    def without_tags(self, change: AttributeChange) -> Carriage:
        """Return the same without tags, because of what `change` says."""
        attributes = replace(self.attributes, tags={})
        return Carriage(attributes=attributes, changes=self.changes | {change})


def fit_attributes(
    attributes: Attributes, provider: str, policy: AttributePolicy, *, key: str
) -> Carriage:
    """Return the attributes as a target of this provider can hold them.

    `provider` is a store's, of manifests.plan.providers. Raises AttributesRefused if the policy
    refuses a change.
    """
    if provider == "local":
        # Files hold everything as it is, in an extended attribute.
        return Carriage(attributes=attributes)
    most_tags = limits_for(provider).max_tags
    fitting = _Fitting(policy, key, most_tags, azure=provider == "azure")
    fitted: dict[str, Any] = {
        "metadata": fitting.metadata(attributes.metadata),
        "tags": fitting.tags(attributes.tags),
        **{name: fitting.header(name, getattr(attributes, name)) for name in HEADERS},
        **fitting.others(attributes),
    }
    return Carriage(attributes=replace(attributes, **fitted), changes=frozenset(fitting.changes))


@dataclass(slots=True)
class _Fitting:
    policy: AttributePolicy
    key: str
    most_tags: int
    azure: bool
    changes: set[AttributeChange] = field(default_factory=set)

    def metadata(self, metadata: Mapping[str, str]) -> dict[str, str]:
        kept: dict[str, str] = {}
        taken: set[str] = set()
        # What fits goes first: a name that is made up here never takes the place of one that is.
        unfit_last = sorted(metadata.items(), key=lambda pair: not self._holds(*pair))
        for name, value in unfit_last:
            pairs = {name: value}
            if name.lower() in taken or not self._holds(name, value):
                pairs = self._mapped(name, value) if self.policy.metadata is Treatment.MAP else {}
                if not pairs or any(other.lower() in taken for other in pairs):
                    self._leave(self.policy.metadata, AttributeChange.METADATA_LEFT, "metadata")
                    continue
                self.changes.add(AttributeChange.METADATA_MAPPED)
            elif not self.azure and name != name.lower():
                # S3 writes all names in lower case, whatever the policy.
                self._change(AttributeChange.METADATA_LOWERED, "the case of its metadata's names")
            kept |= pairs
            taken.update(other.lower() for other in pairs)
        return kept

    def header(self, name: str, value: str | None) -> str | None:
        if value is None or (is_ascii if self.azure else is_text)(value):
            return value
        mapped = encoded_file_name(value) if name == "content_disposition" else None
        if mapped is not None and is_ascii(mapped) and self.policy.headers is Treatment.MAP:
            self.changes.add(AttributeChange.HEADER_MAPPED)
            return mapped
        what = name.replace("_", "-").title()
        self._leave(self.policy.headers, AttributeChange.HEADER_LEFT, what)
        return None

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        kept: dict[str, str] = {}
        for name, value in tags.items():
            fits = 0 < len(name) <= _TAG_NAME_MAX and len(value) <= _TAG_VALUE_MAX
            if self.azure:
                fits = fits and all(_AZURE_TAG.fullmatch(text) for text in (name, value))
            if fits and len(kept) < self.most_tags and not self.policy.target_drops_tags:
                kept[name] = value
            else:
                self._leave(self.policy.tags, AttributeChange.TAGS_LEFT, "tags")
        return kept

    def others(self, attributes: Attributes) -> dict[str, Any]:
        """Return the attributes of the policy's `others` as the target holds them."""
        policy = self.policy
        kept: dict[str, Any] = {
            "expires": attributes.expires,
            "website_redirect": attributes.website_redirect,
        }
        for name, change in (
            ("expires", AttributeChange.EXPIRES_LEFT),
            ("website_redirect", AttributeChange.REDIRECT_LEFT),
        ):
            value = kept[name]
            if value is not None and (self.azure or not is_text(value)):
                self._leave(policy.others, change, name.replace("_", " "))
                kept[name] = None
        if attributes.storage_class is not None and not policy.class_is_chosen:
            self._leave(policy.others, AttributeChange.CLASS_LEFT, "storage class or tier")
        if attributes.blob_type is not None:
            self._leave(policy.others, AttributeChange.BLOB_TYPE_LEFT, "type of blob")
        if attributes.encryption is not None and not policy.encryption_is_chosen:
            self._leave(policy.others, AttributeChange.ENCRYPTION_LEFT, "encryption")
        return kept | self._retention(attributes)

    def _retention(self, attributes: Attributes) -> dict[str, Any]:
        if (attributes.retain_until or 0) < time.time():
            # None, or one that is over, which no store takes.
            attributes = replace(attributes, retain_mode=None, retain_until=None)
        retained = attributes.retain_mode is not None or attributes.legal_hold
        if retained and not self.policy.retention_is_carried:
            what = "retention or legal hold"
            self._leave(self.policy.others, AttributeChange.RETENTION_LEFT, what)
            return {"retain_mode": None, "retain_until": None, "legal_hold": False}
        return {"retain_mode": attributes.retain_mode, "retain_until": attributes.retain_until}

    def _holds(self, name: str, value: str) -> bool:
        if self.azure:
            return is_identifier(name) and is_ascii(value)
        return is_token(name) and is_text(value, edges=True)

    def _mapped(self, name: str, value: str) -> dict[str, str]:
        """Return metadata that says the same in names and values that the target holds, if any."""
        if not is_text(value, edges=True):
            return {}
        if self.azure and not is_ascii(value):
            # As Amazon S3 hands out such a value to its clients.
            value = encode_words(value, key=self.key)
        if is_identifier(name):
            return {name: value}
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        was = name if is_ascii(name) else encode_words(name, key=self.key)
        return {_RENAMED + plain: value, _RENAMED_FROM + plain: was}

    def _leave(self, treatment: Treatment, change: AttributeChange, what: str) -> None:
        if treatment is Treatment.REFUSE:
            raise AttributesRefused(
                f"the target cannot hold its {what} as at the source: change that, or set "
                f"{_SETTINGS[change]} (ATTRIBUTES.md says how)",
                key=self.key,
            )
        self._change(change, f"its {what}")

    def _change(self, change: AttributeChange, what: str) -> None:
        if self.policy.lossless:
            raise lost(what, key=self.key)
        self.changes.add(change)


def lost(what: str, *, key: str) -> AttributesRefused:
    """Return the error of an object that would lose something where nothing may be lost."""
    return AttributesRefused(
        f"{what} would be lost: change that at the source, or plan without representable", key=key
    )


def encoded_file_name(disposition: str) -> str | None:
    """Return a Content-Disposition whose file name is in the form of RFC 8187, which is ASCII.

    None if it names no file.
    """
    found = _FILE_NAME.search(disposition)
    if found is None:
        return None
    name = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    encoded = f"filename*=UTF-8''{quote(name.strip(), safe='')}"
    return disposition[: found.start()] + encoded + disposition[found.end() :]
