"""Two runs side by side as one page, made like a run's own."""

from __future__ import annotations

from pathlib import Path

from mple.disk.whole_files import write_whole
from mple.report.charts import accuracy_chart, loss_chart
from mple.report.comparison import Comparison
from mple.report.page import environment


def write_comparison_page(comparison: Comparison, out: Path) -> None:
    """Write the page.

    Raises:
        OSError: The disk refuses.
    """
    histories = list(zip(comparison.names, comparison.histories, strict=True))
    longest = max(fall.total_bytes / max(1, fall.raw_pixel_bytes) for fall in comparison.falls)
    charts = [chart for chart in (loss_chart(histories), accuracy_chart(histories)) if chart is not None]
    text = (
        environment()
        .get_template("comparison.html.j2")
        .render(comparison=comparison, charts=charts, longest=max(1.0, longest))
    )
    write_whole(out, text.encode())
