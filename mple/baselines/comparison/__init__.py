"""Every way to an inference on one network, measured alike: plain, morphed, and by GAZELLE's and MiniONN's protocols.

`compare` runs the rows, each as two processes, and gives a `Comparison`; `tables`, `markdown` and `plot` show it.
"""

from mple.baselines.comparison.compare import ROWS, Comparison, Pictures, compare
from mple.baselines.comparison.plot import plot
from mple.baselines.comparison.tables import FigureTable, markdown, tables
from mple.baselines.comparison.two_processes import ComparisonError

__all__ = ["ROWS", "Comparison", "ComparisonError", "FigureTable", "Pictures", "compare", "markdown", "plot", "tables"]
