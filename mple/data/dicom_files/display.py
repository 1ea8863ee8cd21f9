"""How a DICOM file wants its values shown: rescale, window or lookup table, padding, colours.

An attribute is looked for where the standard has it and in this order: the frame's own functional group, the groups
that all frames share, the root. Values go through the rescale (or the modality table), then through the window of the
configuration, else the file's own lookup table or window, else their own range. Pixel padding and what is no number are
background: black, also where MONOCHROME1 turns the rest over.

Legend: H W size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.data.dicom_files.layout import Layout
from mple.data.dicom_files.lookup import Table, sequence_table
from mple.data.dicom_files.numbers import has_value, number
from mple.data.images import DataError

WAY_OUT = "set `window = [centre, width]` in [data]"
_RESCALES = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "DoseGridScaling")
_WINDOWS = ("VOILUTSequence", "WindowCenter", "WindowWidth")
_BAND = 1 << 20
"""Values that are computed with at once."""
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_PHILIPS_GROUP = (0x2005, 0x140F)
"""Where Philips repeats a frame's attributes within its functional group."""
_ABSURD = 512
"""A window this many times as wide as all values that a file can have shows none of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Centre and width of what is shown, and the function between."""

    centre: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, kw_only=True, slots=True)
class Display:
    """What a file says of its grey values, checked."""

    slope: float = 1.0
    intercept: float = 0.0
    modality: Table | None = None
    voi: Table | None = None
    window: Window | None = None
    """Of the configuration or, without a VOI table, of the file."""

    @property
    def is_stretched(self) -> bool:
        """Whether nothing says what is black and what is white."""
        return self.voi is None and self.window is None


def display_of(about: Any, layout: Layout, window: Sequence[float], *, little_endian: bool) -> Display:
    """What a file with grey values says of them.

    Args:
        about: Attributes of the file.
        layout: Of its pixels.
        window: Centre and width by the configuration, or nothing.
        little_endian: Whether its numbers are.

    Raises DataError: a value is missing, no number, or leaves nothing to be seen; the text names it and the way out.
    """
    where = _first_with(about, "PixelValueTransformationSequence", _RESCALES)
    modality, slope, intercept = None, number(where, "RescaleSlope"), number(where, "RescaleIntercept")
    if slope is None:
        slope = number(where, "DoseGridScaling")
    if has_value(where, "ModalityLUTSequence"):
        item = where.get("ModalityLUTSequence")[0]
        modality = sequence_table(item, signed_inputs=layout.is_signed, little_endian=little_endian)
        slope = intercept = None
    if slope == 0:
        raise DataError("RescaleSlope is 0, which makes all values one; correct the file, or take it out of the table")
    display = Display(slope=1.0 if slope is None else slope, intercept=intercept or 0.0, modality=modality)
    if window:
        return replace(display, window=Window(centre=window[0], width=window[1]))
    low, high = _possible(layout, display)
    where = _first_with(about, "FrameVOILUTSequence", _WINDOWS)
    if has_value(where, "VOILUTSequence"):
        item = where.get("VOILUTSequence")[0]
        voi = sequence_table(item, signed_inputs=low < 0, little_endian=little_endian)
        return replace(display, voi=voi)
    own = _own_window(where)
    if own is not None and math.isfinite(high - low) and layout.element == "PixelData":
        _refuse_absurd(own, low, high)
    return replace(display, window=own)


def grey_pixels(
    values: NDArray[np.generic], background: NDArray[np.bool_], layout: Layout, display: Display
) -> NDArray[np.uint8]:
    """Grey from 0, black, to 255 (H, W) of stored values; background and what is no number is black.

    Raises DataError: the rescale leaves nothing of the values.
    """
    known = np.isfinite(values) & ~background
    _check_rescale(values[known], display)
    bands = row_bands(values.shape)
    low, high = (math.inf, -math.inf) if display.is_stretched and layout.allocated > 1 else (0.0, 1.0)
    if low > high:
        for band in bands:
            shown = _rescaled(values[band], display)[known[band]]
            low, high = float(shown.min(initial=low)), float(shown.max(initial=high))
    pixels = np.empty(values.shape, np.uint8)
    for band in bands:
        shown = _rescaled(values[band], display)
        if display.voi is not None:
            levels = display.voi.of(shown) / display.voi.top
        elif display.window is not None:
            levels = windowed(shown, display.window.centre, display.window.width, display.window.function)
        else:
            levels = _between(shown, low, high)
        levels = 1.0 - levels if layout.photometric == "MONOCHROME1" else levels
        pixels[band] = eight_bits(np.where(background[band] | np.isnan(values[band]), 0.0, levels))
    return pixels


def grey_values(values: NDArray[np.generic], background: NDArray[np.bool_], display: Display) -> NDArray[np.float64]:
    """Stored values after the rescale (any number of them), but for background and what is no number.

    Raises DataError: as `grey_pixels`.
    """
    known = values[np.isfinite(values) & ~background]
    _check_rescale(known, display)
    return _rescaled(known, display)


def eight_bits(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Levels from 0 to 1 as 0 to 255, rounded; those beyond are clipped."""
    return np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def row_bands(shape: tuple[int, ...]) -> list[slice]:
    """Rows of a picture piece by piece, as floats of all of it would take far more memory than its pixels."""
    rows = max(1, _BAND // max(1, math.prod(shape[1:])))
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]


def padding(values: NDArray[Any], cells: NDArray[Any], layout: Layout, about: Any) -> NDArray[np.bool_]:
    """Where pixel padding is (H, W): the padding value, or all from it to the limit of its range.

    Padding may use bits of a cell that values do not, so cells count as well. Files mix up signed and unsigned numbers
    for it, so it is read by its bits.
    """
    prefix = layout.element.removesuffix("PixelData")
    if prefix and str(about.get(f"{prefix}PixelPaddingValue")) == "nan":
        return np.zeros(values.shape, np.bool_)
    value, limit = (number(about, f"{prefix}PixelPadding{name}") for name in ("Value", "RangeLimit"))
    if value is None:
        return np.zeros(values.shape, np.bool_)
    ends = (value, value if limit is None else limit)
    if prefix:
        ends = (float(values.dtype.type(ends[0])), float(values.dtype.type(ends[1])))
        return np.asarray((values >= min(ends)) & (values <= max(ends)))
    found = np.zeros(values.shape, np.bool_)
    for numbers, bits in ((values, layout.stored), (cells, layout.allocated)):
        first, last = (_in_bits(end, bits, layout) for end in ends)
        if first is not None and last is not None:
            found |= np.asarray((numbers >= min(first, last)) & (numbers <= max(first, last)))
    return found


def windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Levels from 0 to 1 by a window, as DICOM PS3.3 C.11.2.1.2 defines `LINEAR`, `LINEAR_EXACT` and `SIGMOID`.

    `LINEAR` is defined from a width of 1 on, for whole numbers; below that, values are fractions and `LINEAR_EXACT`
    shows them.

    Raises DataError: the function has another name, the width is not above 0, or a number is not finite.
    """
    if not (width > 0 and math.isfinite(width) and math.isfinite(centre)):
        raise DataError(f"a window of centre {centre:g}, width {width:g} is not allowed; the width is above 0")
    if function not in _FUNCTIONS:
        raise DataError(f"VOILUTFunction {function!r} is not allowed; choose of {', '.join(_FUNCTIONS)}")
    with np.errstate(over="ignore", invalid="ignore"):
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
        if function == "LINEAR" and width >= 1:
            centre, width = centre - 0.5, width - 1
        if not width:
            return (values > centre).astype(np.float64)
        return np.clip((values - centre) / width + 0.5, 0, 1)


def _first_with(about: Any, macro: str, keywords: Sequence[str]) -> Any:
    """The first place that has a value for one of these; the root where none has.

    Raises DataError: groups of several frames say different things of the only one.
    """
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        items = about.get(groups) if has_value(about, groups) else []
        found = [next((place for place in _places(item, macro) if _any(place, keywords)), None) for item in items]
        if len({str(place and [place.get(keyword) for keyword in keywords]) for place in found}) > 1:
            raise DataError(f"{groups} has {len(found)} frames, which differ, for the only one that the file holds")
        if found and found[0] is not None:
            return found[0]
    return about


def _any(place: Any, keywords: Sequence[str]) -> bool:
    return any(has_value(place, keyword) for keyword in keywords)


def _places(group: Any, macro: str) -> Iterator[Any]:
    """Where a functional group keeps an attribute: in its macro or, with some vendors, beside it."""
    if has_value(group, macro):
        yield group.get(macro)[0]
    yield group
    if _PHILIPS_GROUP in group and group[_PHILIPS_GROUP].VR == "SQ" and group[_PHILIPS_GROUP].value:
        yield group[_PHILIPS_GROUP].value[0]


def _own_window(where: Any) -> Window | None:
    try:
        centre, width = number(where, "WindowCenter", first=True), number(where, "WindowWidth", first=True)
        if centre is None and width is None:
            return None
        if centre is None or width is None:
            raise DataError("it has only one of WindowCenter and WindowWidth")
        function = str(where.get("VOILUTFunction") or "LINEAR").strip().upper()
        windowed(np.zeros(1), centre, width, function)
    except DataError as fault:
        raise DataError(f"{fault}; {WAY_OUT}") from None
    return Window(centre=centre, width=width, function=function)


def _possible(layout: Layout, display: Display) -> tuple[float, float]:
    """Lowest and highest value that a file of this layout can have after the rescale."""
    if display.modality is not None:
        return 0.0, float(display.modality.top)
    lowest = -(2.0 ** (layout.stored - 1)) if layout.is_signed else 0.0
    ends = [end * display.slope + display.intercept for end in (lowest, lowest + 2.0**layout.stored - 1)]
    return min(ends), max(ends)


def _refuse_absurd(window: Window, low: float, high: float) -> None:
    centre, width = window.centre, window.width
    if width > _ABSURD * (high - low) or centre + width < low or centre - width > high:
        raise DataError(
            f"its window of centre {centre:g}, width {width:g} shows none of the values that it can have, {low:g} to "
            f"{high:g}; {WAY_OUT}"
        )


def _check_rescale(known: NDArray[np.generic], display: Display) -> None:
    """Refuse a rescale in whose results the steps between values are lost."""
    if display.modality is not None or not known.size:
        return
    stored = (float(known.min()), float(known.max()))
    highest = max(abs(end * display.slope + display.intercept) for end in stored)
    step = 1.0 if known.dtype.kind in "ui" else stored[1] - stored[0]
    if not math.isfinite(highest) or (step and np.spacing(highest) > step * abs(display.slope)):
        raise DataError(
            f"RescaleSlope {display.slope:g} with RescaleIntercept {display.intercept:g} leaves nothing of its values; "
            "correct the file, or take it out of the table"
        )


def _rescaled(values: NDArray[np.generic], display: Display) -> NDArray[np.float64]:
    if display.modality is not None:
        return display.modality.of(values).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, np.float64) * display.slope + display.intercept


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """0 for the lowest and 1 for the highest value, halved on the way as their difference may be no float."""
    if not low < high:
        return np.zeros(values.shape)
    return np.clip((values / 2 - low / 2) / (high / 2 - low / 2), 0, 1)


def _in_bits(number: float, bits: int, layout: Layout) -> int | None:
    """A number of a cell as it reads in so many of its bits; nothing where it takes more."""
    for read in (int(number), int(number) - (1 << layout.allocated)):
        if -(1 << (bits - 1)) <= read < 1 << bits:
            lowest = -(1 << (bits - 1)) if layout.is_signed else 0
            return (read - lowest) % (1 << bits) + lowest
    return None
