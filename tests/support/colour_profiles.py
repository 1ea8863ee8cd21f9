"""Colour profiles of known curves, and what sRGB makes of light."""

import struct

import numpy as np


def matrix_profile(space: bytes, gamma: float, order: bytes = b"rgb") -> bytes:
    """A profile (ICC.1:2001) with sRGB's primaries in this order and a plain gamma, for `GRAY` or `RGB `."""

    def s15(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    primaries = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    xyz = {b"%cXYZ" % letter: value for letter, value in zip(order, primaries, strict=True)}
    xyz[b"wtpt"] = (0.9642, 1.0, 0.8249)
    tags = {tag: b"XYZ \0\0\0\0" + s15(*value) for tag, value in xyz.items()}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    if space == b"GRAY":
        tags = {b"wtpt": tags[b"wtpt"], b"kTRC": curve}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78) + bytes(2)
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    size = start + len(body)
    head = struct.pack(">I", size) + bytes(4) + struct.pack(">I", 0x02100000) + b"mntr" + space + b"XYZ " + bytes(12)
    head += b"acsp" + bytes(28) + s15(0.9642, 1.0, 0.8249) + bytes(48)
    assert len(head) == 128
    return head + table + body


def srgb_levels(linear: np.ndarray) -> np.ndarray:
    """sRGB's transfer function (IEC 61966-2-1), 0 to 255."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
