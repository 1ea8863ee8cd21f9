"""Files that are no pictures here: named, with the command that makes pictures of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mple.data import DataError, open_source
from mple.data.folder import FolderSource
from mple.data.other_formats import other_format
from mple.data.picture_files import PictureFiles

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def _saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


CONTENTS = {
    "JPEG 2000": (_saved("JPEG2000"), "opj_decompress"),
    "JPEG 2000 bare": (b"\xff\x4f\xff\x51\0\x2f", "opj_decompress"),
    "GIF": (_saved("GIF"), "magick"),
    "AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0", "avifdec"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "heif-convert"),
    "HEIC of phones": (b"\0\0\0\x18ftypmif1\0\0\0\0", "heif-convert"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", "djxl"),
    "JPEG XL bare": (b"\xff\x0a\xfa", "djxl"),
    "DICOM": (bytes(128) + b"DICM" + bytes(20), 'kind = "dicom"'),
    "JPEG with more than 8 bits": (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\1\0\1\1\1\x11\0", "djpeg"),
    "JPEG-LS": (b"\xff\xd8\xff\xe0\0\4ab\xff\xf7\0\x0b\x08\0\1\0\1\1\1\x11\0", "ffmpeg"),
    "an array": (b"\x93NUMPY\x01\0", 'kind = "npz"'),
    "a volume": (b"NRRD0004\n", "slice"),
}


@pytest.mark.parametrize("ending", [".png", ".jpg", ""])
@pytest.mark.parametrize("name", CONTENTS)
def test_content_is_named_whatever_its_file_is_called(tmp_path: Path, name: str, ending: str) -> None:
    content, way_out = CONTENTS[name]
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    for read in (PictureFiles().header, PictureFiles().picture):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert way_out in str(caught.value)
        assert name.split(" bare")[0].split(" of ")[0] in str(caught.value)


ENDINGS = {
    ".jp2": "opj_decompress -i x.jp2 -o x.png",
    ".J2K": "opj_decompress",
    ".jxl": "djxl x.jxl x.png",
    ".avif": "avifdec x.avif x.png",
    ".HEIC": "heif-convert x.HEIC x.png",
    ".dcm": "mple[dicom]",
    ".IMA": 'kind = "dicom"',
    ".gif": "magick 'x.gif[0]' x.png",
    ".nii": "slice",
    ".nii.gz": "slice",
    ".svs": "region",
    ".npy": 'kind = "npz"',
    ".dng": "dcraw",
    ".psd": "magick x.psd x.png",
    ".txt": "class folders hold .bmp",
    "": "class folders hold .bmp",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_endings_are_named_in_a_set(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS).save(tmp_path / name / "x.png")
    stray = tmp_path / "b" / f"x{ending}"
    stray.write_bytes(b"whatever")
    with pytest.raises(DataError) as caught:
        open_source(FolderSource(path=tmp_path))
    assert f"{stray} is no picture file" in str(caught.value)
    assert ENDINGS[ending] in str(caught.value)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (".jpe", "JPEG"), (".JFIF", "JPEG"), (".JPG", "JPEG"), (".TIFF", "TIFF"), (".Tif", "TIFF"), (".pnm", "PPM"),
        (".PGM", "PPM"), (".dib", "BMP"), (".WebP", "WEBP"), (".pbm", "PPM"),
    ],
)  # fmt: skip
def test_unusual_endings_of_pictures_are_read(tmp_path: Path, ending: str, kind: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"x{ending}").write_bytes(_saved(kind))
    assert len(open_source(FolderSource(path=tmp_path, test_share=0.0)).train) == 2


def test_pictures_are_no_other_format(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "PPM", "BMP"):
        (tmp_path / "x").write_bytes(_saved(kind))
        assert other_format(tmp_path / "x") is None
