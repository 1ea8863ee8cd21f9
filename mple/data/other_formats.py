"""Files that are no pictures to this system: what they are, and the command that makes pictures of them."""

import struct
from pathlib import Path

_AVIF = "AVIF; convert it: avifdec {name} {stem}.png"
_DICOM = "DICOM; read such files with kind = \"dicom\", which the extra dicom brings: pip install 'mple[dicom]'"
_GIF = "GIF; convert it: magick '{name}[0]' {stem}.png"
_HEIC = "HEIC; convert it: heif-convert {name} {stem}.png"
_JPEG_DEEP = "JPEG with more than 8 bits; convert it: djpeg -outfile {stem}.pgm {name}"
_JPEG_LS = "JPEG-LS; convert it: ffmpeg -i {name} {stem}.png"
_JPEG_2000 = "JPEG 2000; convert it: opj_decompress -i {name} -o {stem}.png"
_JPEG_XL = "JPEG XL; convert it: djxl {name} {stem}.png"
_JPEG_XR = "JPEG XR; convert it: JxrDecApp -i {name} -o {stem}.tif"
_VOLUME = "a volume; save each slice as a picture"
_SLIDE = "a whole slide; save each region as a picture (vips, OpenSlide)"
_RAW = "a camera's raw file; develop it: dcraw -T {name}"
_ARRAY = 'an array; save all as .npz with x_train, y_train, x_test, y_test, and read it with kind = "npz"'
_OTHER = "of another format; convert it: magick {name} {stem}.png"

_HEAD_BYTES = 256 * 1024
"""Enough for what cameras put before a JPEG's frame: preview, profile, text."""
_BY_CONTENT = (
    (128, b"DICM", _DICOM),
    (0, b"GIF8", _GIF),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", _JPEG_2000),
    (0, b"\xff\x4f\xff\x51", _JPEG_2000),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", _JPEG_XL),
    (0, b"\xff\x0a", _JPEG_XL),
    (0, b"II\xbc", _JPEG_XR),
    (4, b"ftypavif", _AVIF),
    (4, b"ftypavis", _AVIF),
    *(
        (4, b"ftyp" + brand, _HEIC)
        for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
    ),
    (0, b"\x93NUMPY", _ARRAY),
    (344, b"n+1\0", _VOLUME),
    (0, b"NRRD", _VOLUME),
)
"""Where in a file the bytes lie that tell its format."""
_BY_ENDING = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), _DICOM),
    ".gif": _GIF,
    ".jls": _JPEG_LS,
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jph", ".jhc"), _JPEG_2000),
    ".jxl": _JPEG_XL,
    **dict.fromkeys((".jxr", ".wdp", ".hdp"), _JPEG_XR),
    **dict.fromkeys((".avif", ".avifs"), _AVIF),
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIC),
    **dict.fromkeys((".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mnc"), _VOLUME),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".czi", ".lif"), _SLIDE),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"), _RAW),
    **dict.fromkeys((".npy", ".npz"), _ARRAY),
    **dict.fromkeys(
        (".psd", ".tga", ".pcx", ".ico", ".pfm", ".pam", ".exr", ".hdr", ".svg", ".eps", ".pdf", ".qoi"), _OTHER
    ),
}


def other_format(path: Path) -> str | None:
    """What a file is that is no picture to this system, and the way out, after "is"; None where neither its first bytes
    nor its ending tells."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        head = b""
    found = [text for at, magic, text in _BY_CONTENT if head[at : at + len(magic)] == magic]
    ending = ".nii" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    text = found[0] if found else _jpeg(head) or _BY_ENDING.get(ending)
    return None if text is None else text.format(name=path.name, stem=path.stem)


def _jpeg(head: bytes) -> str | None:
    """A relative of JPEG, by the marker of its frame and the bits of its values; None for JPEG of 8 bits."""
    place = 2
    while head[:2] == b"\xff\xd8" and place + 5 <= len(head):
        marker, length, bits = struct.unpack_from(">HHB", head, place)
        if marker == 0xFFF7:
            return _JPEG_LS
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            return _JPEG_DEEP if bits > 8 else None
        place += 2 + length
    return None
