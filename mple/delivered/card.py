"""`model_card.md`: what whoever uses a delivered network should know of it, in the sections that model cards have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mple.delivered.check import Check
from mple.delivered.folder import DeliveredRecord
from mple.delivered.loading import onnx_use, torch_lines, torch_use, torchvision_lines
from mple.model.trunks import TRUNKS
from mple.per_node import Common
from mple.plan import PrivacyMode, RunPlan, choices_of, write_settings
from mple.printable import printable

if TYPE_CHECKING:
    from jinja2 import Template

_SPLIT_WORDS = {"val": "Validation", "test": "Test"}
_template: "Common[None, Template]" = Common()
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~!])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One value that the network was measured by."""

    name: str
    """Of the metric."""
    of_class: str = ""
    """Where it is of one."""
    split: str
    """`val` or `test`."""
    whose: str
    """The site's name, or "all sites"."""
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval, where one is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureTable:
    """All figures of one split and of one site, or of all."""

    title: str
    whole: tuple[Figure, ...]
    """Those of all classes together."""
    metrics: tuple[str, ...]
    """Those that classes have figures of."""
    classes: tuple[tuple[str, tuple[Figure | None, ...]], ...]
    """Of each class a figure for each of these metrics, where there is one."""


def figure_tables(figures: Sequence[Figure]) -> list[FigureTable]:
    """Figures as the card shows them, in the order in which their splits, metrics and classes come first."""
    tables = []
    for split, whose in dict.fromkeys((one.split, one.whose) for one in figures):
        here = [one for one in figures if (one.split, one.whose) == (split, whose)]
        of_classes = {(one.of_class, one.name): one for one in here if one.of_class}
        metrics = tuple(dict.fromkeys(name for _, name in of_classes))
        names = dict.fromkeys(name for name, _ in of_classes)
        tables.append(
            FigureTable(
                title=f"{_SPLIT_WORDS.get(split, split)} pictures of {whose}",
                whole=tuple(one for one in here if not one.of_class),
                metrics=metrics,
                classes=tuple((name, tuple(of_classes.get((name, metric)) for metric in metrics)) for name in names),
            )
        )
    return tables


def model_card(record: DeliveredRecord, plan: RunPlan, figures: Sequence[Figure] = ()) -> str:
    """The card's text, in Markdown. Names that came from others are printable in it, and no markup."""
    about = record.about
    return _template.get(None, _loaded).render(
        about=about,
        record=record,
        plan=plan,
        tables=figure_tables(figures),
        check=Check.text(record.check),
        noisy=plan.privacy.mode is PrivacyMode.NOISE,
        weights=TRUNKS[plan.model.trunk].weights(about.model_width, len(about.classes)),
        settings=write_settings(choices_of(plan)),
        torchvision=torchvision_lines(about),
        torch=torch_lines(),
        torch_use=torch_use(about),
        onnx_use=onnx_use(),
    )


def _loaded() -> "Template":
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
    templates.filters["cell"] = _cell
    return templates.get_template("model_card.md.j2")


def _plain(value: object) -> str:
    """A text of others with no markup in it."""
    return _MARKUP.sub(r"\\\1", printable(str(value)))


def _interval(figure: Figure) -> str:
    # All or none of a few pictures make draws without any spread, which is no certainty.
    known = figure.low is not None and figure.high is not None and figure.low < figure.high
    return f"{figure.low:.3f} to {figure.high:.3f}" if known else ""


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    interval = _interval(figure)
    return f"{figure.value:.3f} ({interval})" if interval else f"{figure.value:.3f}"
