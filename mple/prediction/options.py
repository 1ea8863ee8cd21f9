"""What is asked for in a prediction, wherever it is made, and how it is written."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mple.disk.whole_files import write_whole
from mple.prediction.predictions import Predictions
from mple.prediction.texts import as_csv, as_json, as_text

_MOST_IN_PAGE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions:
    """Which pictures, and what of the answers is shown where."""

    images: tuple[Path, ...] = ()
    """Picture files and folders of them."""
    labels: Path | None = None
    """Instead of `images`: a label table, whose files are predicted and scored."""
    test: int | None = None
    """Instead: so many of the site's own test images, its first ones."""
    resize: bool = False
    top: int | None = None
    """Likeliest classes to show of each picture."""
    every: bool = False
    """All classes are shown."""
    json: bool = False
    csv: Path | None = None
    page: Path | None = None

    def __post_init__(self) -> None:
        if [bool(self.images), self.labels is not None, self.test is not None].count(True) != 1:
            raise ValueError(
                "name picture files or folders, or --labels FILE for those of a label table, or --test N for the "
                "site's own test images"
            )
        if self.test is not None and self.test < 1:
            raise ValueError(f"--test {self.test}: needs 1 or more")
        if self.resize and self.test is not None:
            raise ValueError("--resize is for picture files; the site's own images have the network's shape")
        if self.top is not None and self.top < 1:
            raise ValueError(f"--top {self.top}: needs 1 or more")
        if self.top is not None and self.every:
            raise ValueError(f"--top {self.top} with --all: choose one")
        if self.page is not None and self.page.suffix != ".html":
            raise ValueError(f"--page {self.page}: the page is HTML; let its name end in .html")

    def require_room(self, count: int) -> None:
        """Raise ValueError where a page is wanted, and so many pictures are too many for one."""
        if self.page is not None and count > _MOST_IN_PAGE:
            raise ValueError(
                f"--page shows at most {_MOST_IN_PAGE} pictures, not {count}; name fewer, or take --csv FILE"
            )

    def write(self, predictions: Predictions) -> None:
        """Print the predictions and write the table, if one is wanted.

        Raises OSError: the table can't be written.
        """
        if self.csv is not None:
            write_whole(self.csv, as_csv(predictions).encode())
        count = len(predictions.classes) if self.every else self.top
        _print(as_json(predictions, count) if self.json else as_text(predictions, count))


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
