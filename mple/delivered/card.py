"""`model_card.md`: what whoever uses a delivered network should know of it, in the sections that model cards have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mple.delivered.check import Check
from mple.delivered.folder import DeliveredRecord
from mple.delivered.loading import onnx_use, torch_lines, torch_use, torchvision_lines
from mple.model.trunks import TRUNKS
from mple.plan import PrivacyMode, RunPlan, choices_of, write_settings
from mple.printable import printable

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~!])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One value that the network was measured by."""

    name: str
    """Of the metric, and of the class where it is of one."""
    split: str
    """`val` or `test`."""
    whose: str
    """The site's name, or "all sites"."""
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval, where one is known."""


def model_card(record: DeliveredRecord, plan: RunPlan, figures: Sequence[Figure] = ()) -> str:
    """The card's text, in Markdown. Names that came from others are printable in it, and no markup."""
    # It takes a moment to load, and only a delivery needs it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("mple.delivered"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # Markdown: `plain` below is what escapes
    )
    templates.filters["plain"] = _plain
    templates.filters["interval"] = _interval
    about = record.about
    return templates.get_template("model_card.md.j2").render(
        about=about,
        record=record,
        plan=plan,
        figures=figures,
        check=Check.text(record.check),
        noisy=plan.privacy.mode is PrivacyMode.NOISE,
        weights=TRUNKS[plan.model.trunk].weights(about.model_width, len(about.classes)),
        settings=write_settings(choices_of(plan)),
        torchvision=torchvision_lines(about),
        torch=torch_lines(),
        torch_use=torch_use(about),
        onnx_use=onnx_use(),
    )


def _plain(value: object) -> str:
    """A text of others with no markup in it."""
    return _MARKUP.sub(r"\\\1", printable(str(value)))


def _interval(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.4f} to {figure.high:.4f}"
