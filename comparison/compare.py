"""A comparison from its network to its figures: every method as two processes, one after the other.

Rows of ours fail the comparison when they fail: a protocol whose logits are not the quantised network's to the last bit
is wrong. Rows from elsewhere are skipped with a reason.
"""

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comparison.elsewhere_row import CHEETAH, ElsewhereRow, run_cheetah
from comparison.expected_bytes import EXPECTED, morphed_contents, phase_bytes
from comparison.learned import LEARNED
from comparison.morphed_network import (
    expected_code_bytes,
    expected_layer_bytes,
    in_order,
    morphed_accuracy,
    secret_order,
)
from comparison.networks.quantised import QuantisedNetwork
from comparison.published import PUBLISHED, REASONS
from comparison.ratios import Ratio, ratios
from comparison.row import MeasuredRow, measured_row
from comparison.traffic import read_traffic
from comparison.two_party.contents import Phase
from comparison.two_party.network_form import form_of
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.session import Method
from comparison.two_processes import CLIENT, SERVER, ComparisonError, PartyFolders, run_two_processes
from mple.disk.whole_files import write_whole

ROWS = (*Method, CHEETAH)
COUNT_TOLERANCE = 0.02
"""How far measured bytes of a phase may be from the count on paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """What is inferred, and what accuracy is measured on."""

    pixels_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    name: str
    """Of the data set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All rows on one network."""

    network: PublicNetwork
    dataset: str
    inferences: int
    accuracy: float
    """Of the quantised network, which is every protocol's."""
    accuracy_pictures: int
    rows: tuple[MeasuredRow, ...]
    elsewhere: tuple[ElsewhereRow, ...]
    ratios: tuple[Ratio, ...]
    machine: str

    def write(self, path: Path) -> None:
        """Write all figures as JSON, whole or not at all."""
        told = {
            **asdict(self),
            "learned": {name: asdict(LEARNED[name]) for name in LEARNED},
            "published": [asdict(one) for one in PUBLISHED],
            "reasons": REASONS,
        }
        for row, raw in zip(self.rows, told["rows"], strict=True):
            raw |= {
                "amortised_bytes": row.amortised_bytes,
                "amortised_s": row.amortised_s,
                "amortised_cpu_s": row.amortised_cpu_s,
            }
        write_whole(path, (json.dumps(told, indent=1) + "\n").encode())


def compare(
    network: QuantisedNetwork,
    pictures: Pictures,
    out: Path,
    *,
    rows: Sequence[str] = ROWS,
    inferences: int = 1,
    accuracy_pictures: int = 10_000,
    say: Callable[[str], None] = lambda _text: None,
) -> Comparison:
    """Run the rows and put their figures together.

    Args:
        network: The server's.
        pictures: With labels; the first ones are inferred.
        out: A new folder for the runs.
        rows: Methods, and `cheetah`.
        inferences: Pictures of each method's run.
        accuracy_pictures: At most so many for accuracies.
        say: Gets a line as each row begins and ends.

    Raises ValueError: an unknown row, or fewer pictures than inferences; ComparisonError: a row of ours failed, its
    logits are wrong, or its bytes are not those that were counted.
    """
    unknown = [row for row in rows if row not in ROWS]
    if unknown or not rows:
        raise ValueError(f"rows {', '.join(unknown) or 'are none'}; choose from {', '.join(ROWS)}")
    if not 1 <= inferences <= len(pictures.pixels_NCHW):
        raise ValueError(f"inferences = {inferences}; allowed are 1 to {len(pictures.pixels_NCHW)}, one picture each")
    run = _Comparing(network, pictures, out, inferences, accuracy_pictures, say)
    scored = slice(0, accuracy_pictures)
    classes_N = network.run(pictures.pixels_NCHW[scored]).argmax(1)
    measured = tuple(run.row(Method(row)) for row in rows if row != CHEETAH)
    return Comparison(
        network=run.form,
        dataset=pictures.name,
        inferences=inferences,
        accuracy=float((classes_N == pictures.labels_N[scored]).mean()),
        accuracy_pictures=len(classes_N),
        rows=measured,
        elsewhere=tuple(run.elsewhere() for row in rows if row == CHEETAH),
        ratios=ratios(measured, int(np.prod(run.form.input_shape))),
        machine=f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
    )


class _Comparing:
    def __init__(
        self,
        network: QuantisedNetwork,
        pictures: Pictures,
        out: Path,
        inferences: int,
        accuracy_pictures: int,
        say: Callable[[str], None],
    ) -> None:
        self._network, self._pictures, self._out, self._say = network, pictures, out, say
        self._inferred_NCHW = pictures.pixels_NCHW[:inferences]
        self._accuracy_pictures = accuracy_pictures
        self._due_NK = network.run(self._inferred_NCHW)
        self.form = form_of(network)

    def row(self, method: Method) -> MeasuredRow:
        self._say(f"{LEARNED[method].title}: {len(self._inferred_NCHW)} inferences")
        expected, run = self._expected(method), self._run(method)
        row = measured_row(
            method,
            read_traffic(run.ledger(CLIENT)),
            run.outcome(CLIENT),
            run.outcome(SERVER),
            expected,
            self._due_NK.tolist(),
        )
        self._say(f"  {row.amortised_bytes / 1e6:.3f} MB and {row.amortised_s:.3f} s an inference, amortised")
        return self._scored(row) if method.morphed else _required(row)

    def elsewhere(self) -> ElsewhereRow:
        self._say(f"{LEARNED[CHEETAH].title}: {len(self._inferred_NCHW)} inferences")
        return run_cheetah(self._network, self._inferred_NCHW, self._out / CHEETAH)

    def _run(self, method: Method) -> PartyFolders:
        folder = self._out / method.value
        if not method.morphed:
            return run_two_processes(method, self._network, self._inferred_NCHW, folder)
        order = secret_order(self.form.stages[0].outputs)
        network = in_order(self._network, order)
        return run_two_processes(method, network, self._inferred_NCHW, folder, channel_order=order.tolist())

    def _expected(self, method: Method) -> dict[Phase, int]:
        if not method.morphed:
            return phase_bytes(EXPECTED[method](self.form, len(self._inferred_NCHW)))
        codes = expected_code_bytes(self.form, method.value, self._inferred_NCHW)
        return phase_bytes(morphed_contents(self.form, expected_layer_bytes(self.form, method.value), codes))

    def _scored(self, row: MeasuredRow) -> MeasuredRow:
        some = slice(0, self._accuracy_pictures)
        pixels_NCHW, labels_N = self._pictures.pixels_NCHW[some], self._pictures.labels_N[some]
        accuracy = morphed_accuracy(self._network, self.form, row.method.value, pixels_NCHW, labels_N)
        return replace(row, accuracy=accuracy, accuracy_pictures=len(pixels_NCHW))


def _required(row: MeasuredRow) -> MeasuredRow:
    """A row whose logits are exact and whose bytes are those that were counted."""
    title = LEARNED[row.method].title
    if not row.logits_equal:
        raise ComparisonError(
            f"{title}: logits differ from the quantised network's by up to {row.largest_logit_error}; the protocol is "
            "wrong"
        )
    for name, figures in (("set-up", row.setup), ("offline", row.offline), ("online", row.online)):
        off = figures.off_count
        if off is not None and abs(off) > COUNT_TOLERANCE and figures.total_bytes > 4096:
            raise ComparisonError(
                f"{title}: {name} took {figures.total_bytes:,.0f} bytes, counted were {figures.expected_bytes:,.0f}"
            )
    return row
