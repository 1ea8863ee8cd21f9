"""Numbers of DICOM attributes: absent, empty, damaged and without end are told apart, and each fault is named."""

import math
from typing import Any

from mple.data.images import DataError


def number(about: Any, keyword: str, *, first: bool = False) -> float | None:
    """A finite number, or nothing where the attribute is absent or empty; of several the first, where that is meant.

    Raises DataError: it is no finite number, or there are several.
    """
    try:
        value = about.get(keyword)
        values = [one for one in _listed(value) if one not in (None, "")]
        if not values:
            return None
        numbers = [float(one) for one in (values[:1] if first else values)]
    except (ValueError, TypeError, OverflowError, NotImplementedError) as fault:
        raise DataError(f"{keyword} is no number: {fault}") from None
    if len(numbers) > 1:
        raise DataError(f"{keyword} has {len(numbers)} values; needs one")
    if not math.isfinite(numbers[0]):
        raise DataError(f"{keyword} is {numbers[0]}; needs a finite number")
    return numbers[0]


def whole(about: Any, keyword: str, default: int | None = None) -> int:
    """A whole number, 0 or above.

    Raises DataError: it is missing and there is no default, or it is none.
    """
    value = number(about, keyword)
    if value is None:
        if default is None:
            raise DataError(f"it has no {keyword}")
        return default
    if value < 0 or value != int(value):
        raise DataError(f"{keyword} is {value:g}; needs a whole number, 0 or above")
    return int(value)


def has_value(about: Any, keyword: str) -> bool:
    """Whether an attribute is there and not empty."""
    value = about.get(keyword)
    return value is not None and len(_listed(value)) > 0 and _listed(value)[0] not in (None, "")


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str | bytes | int | float) or not hasattr(value, "__len__"):
        return [value]
    return list(value)
