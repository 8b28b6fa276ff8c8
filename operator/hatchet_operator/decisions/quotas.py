"""When a ResourceQuota may have room for a pod again.

A pod is admitted by what the quota's *status* says is allowed and used, which its controller writes; ``spec.hard`` is
what people change, a moment before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from hatchet_operator.resources.base import Json

_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([eE][+-]?[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")
_SUFFIXES = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(1000), "Ki": Decimal(1024)} | {
    suffix + binary: Decimal(base) ** power
    for power, suffix in enumerate("MGTPE", start=2)
    for binary, base in (("", 1000), ("i", 1024))
}


def is_for_lack_of_room(message: str) -> bool:
    """Whether the API server refused an object because a quota has no room for it now."""
    return "exceeded quota" in message


def quantity(text: str) -> Decimal | None:
    """Return the value of a quantity as Kubernetes writes them, such as 1500m or 2Gi; None: it is none."""
    if (match := _QUANTITY.fullmatch(text)) is None:
        return None
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SUFFIXES[suffix or ""]


@dataclass(frozen=True, slots=True)
class Quota:
    """What a ResourceQuota says, by name of resource.

    Args:
        wanted: What may be used, as people wrote it.
        hard: What may be used, as far as its controller has noticed.
        used: What is used.
    """

    wanted: Mapping[str, str]
    hard: Mapping[str, str]
    used: Mapping[str, str]

    @classmethod
    def read(cls, obj: Json) -> Self:
        status = obj.get("status") or {}
        return cls(
            wanted=(obj.get("spec") or {}).get("hard") or {},
            hard=status.get("hard") or {},
            used=status.get("used") or {},
        )


def may_have_room(before: Quota, now: Quota) -> bool:
    """Whether a quota allows anything more than before, or less of it is used."""
    return (
        _allows_more(now.wanted, before.wanted)
        or _allows_more(now.hard, before.hard)
        or any(_is_lower(now.used.get(name), used) for name, used in before.used.items() if name in now.used)
    )


def _allows_more(bounds: Mapping[str, str], before: Mapping[str, str]) -> bool:
    """Whether any bound was raised or taken away."""
    return any(name not in bounds or _is_lower(bound, bounds[name]) for name, bound in before.items())


def _is_lower(text: str | None, than: str) -> bool:
    value, other = quantity(text or ""), quantity(than)
    return value is not None and other is not None and value < other
