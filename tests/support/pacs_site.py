"""A site whose pictures are in a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mple.data.dicom import DicomSource
from mple.data.dicomweb.source import DicomWebSource
from tests.support.pacs import SmallPacs, write_table


class PacsSite:
    """A site with a table of labels for what a small PACS has: two studies of one series with two instances."""

    def __init__(self, folder: Path, pacs: SmallPacs) -> None:
        self.folder, self.pacs, self.made = folder, pacs, pacs.made
        self.rows = [{**one.keys, "label": "ab"[place % 2]} for place, one in enumerate(self.made)]
        self.told: list[str] = []

    def source(self, **settings: Any) -> DicomWebSource:
        """For all instances by their UIDs."""
        settings.setdefault("label_file", write_table(self.folder / "keys.csv", self.rows))
        settings.setdefault("patience_s", 0.3)
        return DicomWebSource(url=self.pacs.url, path=self.folder / "cache", **settings)

    def labelled_by(self, *names: str) -> list[dict[str, str]]:
        """Rows with these keys only, each once."""
        rows = {tuple(row[name] for name in names): row for row in self.rows}
        return [{name: row[name] for name in (*names, "label")} for row in rows.values()]

    def fetch(self, **settings: Any) -> DicomSource:
        """The files that came of it."""
        return self.source(**settings).fetched(lambda text, done, total: self.told.append(f"{text} {done}/{total}"))

    def fetched(self) -> list[str]:
        """Instances that the server was asked for."""
        return [path.rpartition("/")[2] for path in self.pacs.asked if path.count("/") == 7]


def fetched_uids(source: DicomSource) -> list[str]:
    """SOPInstanceUIDs of the table that a fetch has made, in its order."""
    assert source.label_file is not None
    return [
        line.partition(",")[0].rpartition("/")[2].removesuffix(".dcm")
        for line in source.label_file.read_text().splitlines()[1:]
    ]
