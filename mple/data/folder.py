"""Image folders: a folder for each class, under `train/` and `test/` (and `val/`), or all under one root.

Class folders hold picture files and nothing else, or a folder for each patient with those. What systems and network
drives leave is passed over, see `mple.data.names`; whatever else has no place here is an error, since a picture that is
silently left out changes results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mple.data.images import Catalogue, DataError
from mple.data.label_table import EmptyLabels
from mple.data.levels import White
from mple.data.names import check_name, class_numbers, is_system_name, shown, split_named
from mple.data.other_formats import other_format
from mple.data.patients import Patients
from mple.data.picture_reading import PictureReading
from mple.data.picture_sets import LabelledFile, PictureSource, file_catalogue, table_catalogue
from mple.data.settings import Validation

_ENDINGS = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".pnm"
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSource(PictureSource):
    """Pictures in a folder per class, under `train` and `test` or under one root; or anywhere, with a CSV table."""

    kind: Literal["folder"] = "folder"
    label_file: Path | None = None
    """CSV table with the columns file, label and, if wanted, split and patient, or with a column for each label; then
    folders mean nothing. By default classes are folders."""
    white: White | None = None
    """The stored value that becomes white, level 255, as 4095 for 12 bits in files of 16; by default what the files
    say: 255, 65535, a PGM's maximum. Float, signed and 32-bit values need it. Values above it are refused."""

    def __post_init__(self) -> None:
        PictureSource.__post_init__(self)
        if self.label_file is not None and self.patients is Patients.FOLDER:
            raise ValueError('patients = "folder" is for class folders; give label_file a column patient instead')
        if self.label_file is None and self.empty_labels is not EmptyLabels.UNKNOWN:
            raise ValueError(f'empty_labels = "{self.empty_labels}" is for a table of labels; name it by label_file')

    def reading(self) -> PictureReading:
        """As Pillow reads them, up to `white`."""
        return replace(PictureSource.reading(self), white=self.white)

    def catalogue(self) -> Catalogue:
        """List the folder's pictures and read their headers.

        Classes are the folders' names, sorted, or `classes` in the order given; then a class may lack its folder.

        Raises DataError: as `table_catalogue`; no such folder, a class folder that `classes` doesn't name, one that is
        empty, names that look alike, a split without another or twice, a stray file or folder, an unreadable picture.
        """
        if not self.path.is_dir():
            raise DataError(f"no image folder at {shown(self.path)}")
        if self.label_file is not None:
            return table_catalogue(self, self.label_file)
        roots = _split_folders(self.path)
        if self.validation is Validation.IGNORED:
            roots.pop("val", None)
        folders = {split: _folders(root) for split, root in roots.items()}
        names = {folder.name for found in folders.values() for folder in found}
        classes, numbers = class_numbers(names, self.classes, f"class folders in {shown(self.path)}")
        splits = {
            split: [file for folder in sorted(found, key=lambda one: numbers[one.name])
                    for file in _files(folder, numbers[folder.name], self.patients)]
            for split, found in folders.items()
        }  # fmt: skip
        held = {file.label for files in splits.values() for file in files}
        for name, number in numbers.items():
            if number not in held and not self.classes:
                raise DataError(
                    f"class folder {name!r} in {shown(self.path)} is empty; remove it, or name all `classes`"
                )
        return file_catalogue(self, classes, splits)


def _split_folders(path: Path) -> dict[str, Path]:
    """The folders of the splits in the order train, val, test; the root itself as train where there are none."""
    named: dict[str, Path] = {}
    others = []
    for folder in _folders(path):
        split = split_named(folder.name)
        if split is None:
            others.append(folder)
        elif split in named:
            raise DataError(f"{shown(named[split])} and {shown(folder)} are both the {split} split; make them one")
        else:
            named[split] = folder
    has = ", ".join(folder.name for folder in named.values())
    # A class may be called "valid" or "training"; with train, test or val beside it, it is a split.
    if not {"train", "test"} <= set(named):
        if any(folder.name.casefold() in ("train", "test", "val") for folder in named.values()):
            raise DataError(f"{shown(path)} has {has}; needs train and test, or class folders without any of them")
        return {"train": path}
    if others:
        raise DataError(f"{shown(others[0])} is no split, beside {has}; move it away or into a split")
    return {split: named[split] for split in ("train", "val", "test") if split in named}


def _entries(folder: Path) -> list[Path]:
    try:
        return [entry for entry in sorted(folder.iterdir()) if not is_system_name(entry.name)]
    except OSError as fault:
        raise DataError(f"folder {shown(folder)} can't be read: {fault.strerror}") from None


def _folders(root: Path) -> list[Path]:
    """The folders in a folder that holds no picture of its own."""
    entries = _entries(root)
    for entry in entries:
        if entry.suffix.lower() in _ENDINGS and not entry.is_dir():
            raise DataError(f"picture {shown(entry)} lies in no class folder; move it into one")
    return [entry for entry in entries if entry.is_dir()]


def _files(folder: Path, label: int, patients: Patients) -> list[LabelledFile]:
    if patients is Patients.FOLDER:
        found = []
        for own in _entries(folder):
            if not own.is_dir():
                raise DataError(f'{shown(own)} lies in no patient\'s folder, as patients = "folder" asks')
            found += [LabelledFile(path, label, own.name) for path in _pictures(own, "")]
        return found
    hint = '; for a folder per patient set patients = "folder"'
    return [LabelledFile(path, label) for path in _pictures(folder, hint)]


def _pictures(folder: Path, hint: str) -> Sequence[Path]:
    paths = _entries(folder)
    for path in paths:
        check_name(path.name, f"file {shown(path)}")
        if path.suffix.lower() not in _ENDINGS or not path.is_file():
            what = "is a link that leads nowhere" if path.is_symlink() and not path.exists() else "is no picture file"
            kind = other_format(path)
            more = f"it is {kind}" if kind else f"class folders hold {', '.join(sorted(_ENDINGS))} only"
            raise DataError(f"{shown(path)} {what}; {more}" + (hint if path.is_dir() else ""))
    return paths
