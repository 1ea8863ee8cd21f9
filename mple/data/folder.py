"""Image folders: a folder for each class, under `train/` and `test/` (and `val/`), or all under one root.

Class folders hold picture files and nothing else; hidden files and what desktops leave behind are passed over, any
other stray file is an error, since a picture that is silently left out changes results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mple.data.images import Catalogue, DataError
from mple.data.picture_sets import LabelledFile, PictureSource, file_catalogue
from mple.data.settings import Validation

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_LEFT_BY_DESKTOPS = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSource(PictureSource):
    """Pictures in a folder per class, under `train` and `test` or under one root."""

    kind: Literal["folder"] = "folder"

    def catalogue(self) -> Catalogue:
        """List the folder's pictures and read their headers.

        Classes are the folders' names, sorted, or `classes` in the order given; then a class may lack its folder.

        Raises:
            DataError: No such folder, a class folder that `classes` doesn't name, a stray file, an unreadable picture.
        """
        path = self.path
        if not path.is_dir():
            raise DataError(f"no image folder at {path}")
        roots = {name: path / name for name in ("train", "val", "test") if (path / name).is_dir()}
        if not roots:
            classes = _class_names(self, [path])
            return file_catalogue(self, classes, (_files(path, classes), None))
        if not {"train", "test"} <= set(roots):
            has = ", ".join(roots)
            raise DataError(f"{path} has {has}; needs train and test, or class folders without any of them")
        if self.validation is Validation.IGNORED:
            roots.pop("val", None)
        classes = _class_names(self, list(roots.values()))
        train = [file for name, root in roots.items() if name != "test" for file in _files(root, classes)]
        return file_catalogue(self, classes, (train, _files(roots["test"], classes)))


def _class_names(source: FolderSource, roots: Sequence[Path]) -> tuple[str, ...]:
    within = (folder for root in roots for folder in root.iterdir() if folder.is_dir())
    folders = {folder.name: folder for folder in within if not folder.name.startswith((".", "__MACOSX"))}
    if not source.classes:
        if len(folders) < 2:
            raise DataError(f"{source.path} has the class folders {sorted(folders)}; needs two, or `classes`")
        return tuple(sorted(folders))
    for name, folder in sorted(folders.items()):
        if name not in source.classes:
            raise DataError(f"folder {folder} is not one of classes = {list(source.classes)}; add or move it")
    return source.classes


def _files(root: Path, classes: Sequence[str]) -> list[LabelledFile]:
    found = []
    for label, name in enumerate(classes):
        folder = root / name
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(".") or path.name.lower() in _LEFT_BY_DESKTOPS:
                continue
            if path.suffix.lower() not in _ENDINGS or not path.is_file():
                raise DataError(f"{path} is no picture file; class folders hold {', '.join(sorted(_ENDINGS))} only")
            found.append(LabelledFile(path, label))
    return found
