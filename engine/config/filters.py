"""[filter] of a job file: what the job leaves out, because its user says so."""

from __future__ import annotations

import re
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from noria.manifests.errors import ConfigurationError
from noria.manifests.plan.bounds import moment_of, parse_age, parse_bound_size
from noria.manifests.plan.filters import Filters, TextFilter, tags_regex, types_regex, words_regex
from noria.manifests.plan.globs import check_regex, path_rules

Moments = tuple[datetime | None, datetime | None]
"""Between which an object has to be written last; None: any."""

TIER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _check_age(text: str) -> str:
    parse_age(text)
    return text


def _check_tier(text: str) -> str:
    if not TIER.fullmatch(text):
        raise ValueError("this is not a tier or storage class; write Hot, or STANDARD_IA")
    return text


def _text(number: Any) -> Any:
    """Seconds may be written as a number, and a date as TOML has it."""
    if isinstance(number, date):
        return number.isoformat()
    return str(number) if isinstance(number, int) and not isinstance(number, bool) else number


BoundSize = Annotated[int, BeforeValidator(parse_bound_size), Field(ge=0, le=1 << 60)]
Age = Annotated[str, BeforeValidator(_text), AfterValidator(_check_age)]
Tier = Annotated[str, AfterValidator(_check_tier)]
Words = Annotated[str, Field(min_length=1)]


class FilterConfig(BaseModel):
    """[filter]: fixed when the job is planned; another filter is another job.

    An entry has to pass all that is said here. Names are those below the source's prefix, and
    patterns mean what they mean to rclone: see manifests/plan/globs.py.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: tuple[str, ...] = ()
    """Patterns. If there is one, what nothing matches is left out. They come before the others."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out; they come after `include`."""
    rules: tuple[str, ...] = ()
    """"+ PATTERN" and "- PATTERN" in order, "!" to forget all before it; they come last. The first
    pattern that matches decides. `rules_from` names a file of them, one on a line, with # and ; for
    comments; it is read when the job file is."""
    min_size: BoundSize | None = None
    """Smaller objects are left out. A number of bytes, 10M or 10MiB for 10 * 1024 * 1024, or 10MB
    for 10,000,000."""
    max_size: BoundSize | None = None
    """Larger objects are left out."""
    min_age: Age | None = None
    """Younger objects are left out: 90s, 1h30m, 2d, 2w, 1M (30 days), 1y (365), before the moment
    at which the job is planned; or a date such as 2026-01-31 or 2026-01-31T08:00:00Z, in the time
    zone of the machine unless it says one. An object without a known time is not left out."""
    max_age: Age | None = None
    """Older objects are left out."""
    tiers: tuple[Tier, ...] = ()
    """Storage classes or tiers of which alone objects are moved, such as Hot; in any case."""
    exclude_tiers: tuple[Tier, ...] = ()
    """Those of which none is moved."""
    types: tuple[Words, ...] = ()
    """Content types of which alone objects are moved, without parameters: text/csv, image/*."""
    exclude_types: tuple[Words, ...] = ()
    """Those of which none is moved."""
    tags: tuple[Words, ...] = ()
    """KEY=VALUE, or KEY for any value: objects without any of these tags are left out. For a source
    in Azure: other stores do not list tags."""
    exclude_tags: tuple[Words, ...] = ()
    """Objects with one of these tags are left out."""

    @model_validator(mode="after")
    def _can_be_applied(self) -> Self:
        try:
            path_rules(self.include, self.exclude, self.rules)
        except ConfigurationError as error:
            raise ValueError(error.message) from error
        for each in (self._tiers, self._types, self._tags):
            for regex in (each.wanted, each.unwanted) if each is not None else ():
                if regex is not None:
                    check_regex(regex)
        if None not in (self.min_size, self.max_size) and self.min_size > self.max_size:  # type: ignore[operator]  # neither is None
            raise ValueError("min_size is more than max_size, so that nothing passes")
        return self

    @property
    def asked(self) -> dict[str, Any]:
        """What is asked for, as JSON; empty if nothing is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def moments(self, now: datetime) -> Moments:
        """What the ages mean now. Raises ConfigurationError if nothing has both."""
        first = None if self.max_age is None else moment_of(self.max_age, now)
        last = None if self.min_age is None else moment_of(self.min_age, now)
        if first is not None and last is not None and first > last:
            raise ConfigurationError(
                f"filter.min_age {self.min_age} is more than max_age {self.max_age}, so that "
                "nothing passes"
            )
        return first, last

    def filters(self, moments: Moments, *, unnamed_tier: str | None) -> Filters:
        """As manifests/plan/filters.py takes it."""
        return Filters(
            names=path_rules(self.include, self.exclude, self.rules),
            min_bytes=self.min_size,
            max_bytes=self.max_size,
            modified_from=moments[0],
            modified_to=moments[1],
            tiers=self._tiers,
            unnamed_tier=unnamed_tier,
            types=self._types,
            tags=self._tags,
        )

    @property
    def _tiers(self) -> TextFilter | None:
        return _text_filter(words_regex(self.tiers), words_regex(self.exclude_tiers))

    @property
    def _types(self) -> TextFilter | None:
        return _text_filter(types_regex(self.types), types_regex(self.exclude_types))

    @property
    def _tags(self) -> TextFilter | None:
        return _text_filter(tags_regex(self.tags), tags_regex(self.exclude_tags))


def _text_filter(wanted: str | None, unwanted: str | None) -> TextFilter | None:
    if wanted is None and unwanted is None:
        return None
    return TextFilter(wanted=wanted, unwanted=unwanted)


def read_rules(path: Path) -> list[str]:
    """The rules of a file, one on a line; "-" is standard input, which is read once.

    Raises ConfigurationError, which names the line.
    """
    is_input = str(path) == "-"
    try:
        text = sys.stdin.buffer.read() if is_input else path.read_bytes()
        lines = text.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"cannot read {path}: it is not UTF-8") from error
    rules = []
    for number, line in enumerate(lines, 1):
        rule = line.strip()
        if not rule or rule[0] in "#;":
            continue
        try:
            path_rules((), (), [rule])
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}, line {number}: {error.message}") from error
        rules.append(rule)
    return rules
