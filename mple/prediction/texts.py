"""Predictions as text for people, as JSON and as CSV for programs. Pure.

Legend: N pictures, C classes or labels.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence

from mple.prediction.predictions import Predictions
from mple.printable import printable, spreadsheet_cell

_SHOWN_CLASSES = 3
_SHORT = {"sensitivity": "sens.", "specificity": "spec.", "threshold": "thr."}
_BAR = 40
"""Signs of a bar of probability 1."""


def as_text(predictions: Predictions, top: int | None) -> str:
    """A line for each picture with its `top` likeliest classes, three by default, or, of all classes, a line for each
    with a bar; labels that count as present are marked; then the scores, if known."""
    count = min(top or _SHOWN_CLASSES, len(predictions.classes))
    block = count > _SHOWN_CLASSES and count == len(predictions.classes)
    lines = [*(_blocks(predictions) if block else _lines(predictions, count))]
    if predictions.several:
        lines.append("+ counts as present: at its threshold or above")
    return "\n".join([*lines, *_score_lines(predictions)]) + "\n"


def _lines(predictions: Predictions, count: int) -> Iterator[str]:
    classes, names = _shown(predictions.classes), _shown(predictions.names)
    name_width, class_width = max(map(len, names)), max(map(len, classes))
    truths = [", ".join(classes[place] for place in predictions.true(number) or ()) for number in range(len(names))]
    true_width = max(class_width, *map(len, truths)) if predictions.several else class_width
    for number, name in enumerate(names):
        cells = [name.ljust(name_width)]
        if predictions.labels is not None:
            cells.append(f"is {truths[number] or '-':{true_width}}")
        said = predictions.said(number) if predictions.several else []
        for place in predictions.likeliest(number, count):
            mark = (" +" if place in said else "  ") if predictions.several else ""
            cells.append(f"{classes[place]:{class_width}} {predictions.probabilities_NC[number, place]:.4f}{mark}")
        yield "  ".join(cells).rstrip()


def _blocks(predictions: Predictions) -> Iterator[str]:
    classes = _shown(predictions.classes)
    width = max(map(len, classes))
    for number, name in enumerate(_shown(predictions.names)):
        true = predictions.true(number)
        yield name if true is None else f"{name}  is {', '.join(classes[place] for place in true) or '-'}"
        said = predictions.said(number) if predictions.several else []
        for place in predictions.likeliest(number, len(classes)):
            chance = float(predictions.probabilities_NC[number, place])
            mark = (" +" if place in said else "  ") if predictions.several else ""
            yield f"  {classes[place]:{width}} {chance:.4f}{mark} {'#' * round(_BAR * chance)}".rstrip()


def _score_lines(predictions: Predictions) -> Iterator[str]:
    if not predictions.scores:
        return
    yield ""
    yield from _aligned(overall_rows(predictions))
    headings, *rows = score_rows(predictions)
    yield ""
    yield from _aligned([*_headings(headings), *rows])
    more = "; thr.: the threshold that validation chose" if predictions.thresholds else ""
    yield f"over {len(predictions.names)} pictures; intervals are of 95 %{more}"


def overall_rows(predictions: Predictions) -> list[tuple[str, ...]]:
    """A table of scores over all classes with their intervals, its headings first."""
    rows: list[tuple[str, ...]] = [("metric", "value", "from", "to")]
    for name, one in predictions.scores.items():
        ends = ("", "") if one.interval is None else one.interval
        rows.append((name.replace("_", " "), _number(one.value), *map(_number, ends)))
    return rows


def score_rows(predictions: Predictions) -> list[tuple[str, ...]]:
    """A table of scores by class, its headings first."""
    by_class = {name: one.by_class for name, one in predictions.scores.items() if one.by_class is not None}
    rows = [("label" if predictions.several else "class", *(name.replace("_", " ") for name in by_class))]
    for place, name in enumerate(_shown(predictions.classes)):
        rows.append((name, *(_number(values[place]) for values in by_class.values())))
    return rows


def _number(value: float | str | None) -> str:
    return value if isinstance(value, str) else "-" if value is None else f"{value:.4f}"


def _headings(names: Sequence[str]) -> list[tuple[str, ...]]:
    """A row for each word of the longest name, so that columns are narrow."""
    words = [" ".join(_SHORT.get(word, word) for word in name.split()).split() for name in names]
    height = max(map(len, words))
    padded = [[""] * (height - len(one)) + one for one in words]
    return [*zip(*padded, strict=True)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _shown(names: Sequence[str]) -> list[str]:
    return [printable(name) for name in names]


def as_json(predictions: Predictions, top: int | None) -> str:
    """One object: `run_id, plan_sha256, task, classes, predictions[{image, class, probabilities{class: p}}]`; of labels
    `labels`, a list, in the place of `class`, and `thresholds` beside the predictions. `probabilities` holds the `top`
    likeliest classes, all by default, in descending order. Where the truth is known each prediction has `label`, or
    `true`: for each label 1, 0 or null; and there are the objects `scores` and, of 95 %, `intervals`, by metric, and
    `scores_by_class` and `intervals_by_class`."""
    classes, count = predictions.classes, top or len(predictions.classes)
    rows: list[dict[str, object]] = []
    for number, name in enumerate(predictions.names):
        said = [classes[place] for place in predictions.said(number)]
        row: dict[str, object] = {"image": name} | ({"labels": said} if predictions.several else {"class": said[0]})
        if predictions.labels is not None and predictions.several:
            truth = predictions.labels[number].tolist()
            row["true"] = {name: None if one < 0 else one for name, one in zip(classes, truth, strict=True)}
        elif predictions.labels is not None:
            row["label"] = classes[int(predictions.labels[number])]
        places = predictions.likeliest(number, count)
        row["probabilities"] = {classes[place]: float(predictions.probabilities_NC[number, place]) for place in places}
        rows.append(row)
    whole: dict[str, object] = {
        "run_id": predictions.run_id,
        "plan_sha256": predictions.plan_sha256,
        "task": predictions.task,
        "classes": classes,
    }
    if predictions.several:
        whole["thresholds"] = {name: predictions.threshold(place).chance for place, name in enumerate(classes)}
    whole["predictions"] = rows
    if scores := predictions.scores:
        whole["scores"] = {name: one.value for name, one in scores.items()}
        whole["intervals"] = {name: one.interval for name, one in scores.items()}
        whole["scores_by_class"] = {
            name: dict(zip(classes, one.by_class, strict=True)) for name, one in scores.items() if one.by_class
        }
        whole["intervals_by_class"] = {
            name: dict(zip(classes, one.intervals, strict=True)) for name, one in scores.items() if one.intervals
        }
    return json.dumps(whole, indent=2) + "\n"


def as_csv(predictions: Predictions) -> str:
    """A header and a row for each picture: `image`, what the network says (`class`, or `labels` parted by |), a column
    of probability for each class, and where the truth is known `true`, or `true NAME` for each label, empty where it is
    unknown. Cells that a spreadsheet would take for formulas follow on an apostrophe."""
    classes, file = predictions.classes, io.StringIO()
    known = predictions.labels is not None
    truths = [f"true {name}" for name in classes] if predictions.several else ["true"]
    table = csv.writer(file)
    header = ["image", "labels" if predictions.several else "class", *classes, *(truths if known else ())]
    table.writerow(map(spreadsheet_cell, header))
    for number, name in enumerate(predictions.names):
        said = "|".join(classes[place] for place in predictions.said(number))
        row: list[object] = [name, said, *(f"{chance:.6f}" for chance in predictions.probabilities_NC[number])]
        if predictions.labels is not None and predictions.several:
            row += ["" if one < 0 else str(one) for one in predictions.labels[number].tolist()]
        elif predictions.labels is not None:
            row.append(classes[int(predictions.labels[number])])
        table.writerow(map(spreadsheet_cell, row))
    return file.getvalue()
