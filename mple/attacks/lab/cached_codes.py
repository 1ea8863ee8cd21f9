"""The training samples in a compute node's cache file, as whoever has taken the file reads them.

The format is that of `compute_node/feeding/sample_cache.py`, which this package does not import: a record is a batch,
of which fields, CRC-32C, sample numbers, labels, then each sample's exponents and codes follow, little-endian.

Legend: N samples, K blocks, V morphed values of one sample.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.plan import RunPlan
from mple.v1 import common_pb2
from mple.wire.codec import EncodedSamples
from mple.wire.codecs import codec_named

_FIELDS = struct.Struct("<4sBBHIII")  # magic, split, codec, key, samples, body bytes, checksum
_MAGIC = b"MPC2"


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedTraining:
    """One site's training samples under the key under which most of them came."""

    epoch: int
    """Of that key."""
    numbers_N: NDArray[np.int64]
    """Within the site's training split, rising."""
    labels_N: NDArray[np.int64]
    """As they travel."""
    coded: EncodedSamples


def read_cache(path: Path, plan: RunPlan, layer_list: Mapping[str, Any]) -> Mapping[str, CachedTraining]:
    """Each site's training samples; of a sample that came twice the later form.

    Args:
        path: The cache file.
        plan: The run's plan.
        layer_list: The compute node's `run.json`, which numbers rotated keys.

    Raises:
        ValueError: The file is another plan's or damaged.
    """
    codec = codec_named(plan.wire.codec)
    geometry = plan.geometry
    values, exponents = geometry.morphed_elements, geometry.blocks if codec.block_exponents else 0
    sample_bytes = codec.sample_bytes(blocks=geometry.blocks, values=values)
    keys = [(site.name, site.key_epoch) for site in plan.sites]
    keys += [(str(rotated["site"]), int(rotated["epoch"])) for rotated in layer_list["rotated"]]
    held: dict[tuple[str, int], dict[int, tuple[int, NDArray[np.uint8]]]] = {key: {} for key in keys}
    first = dict(zip((site.name for site in plan.sites), _starts(plan), strict=True))
    for key, numbers, labels, rows in _records(path, codec.wire_id, sample_bytes):
        if key >= len(keys) or numbers.max(initial=0) >= sum(site.train_images for site in plan.sites):
            raise ValueError(f"{path} holds samples or keys that the plan does not have")
        site = keys[key][0]
        for number, label, row in zip((numbers - first[site]).tolist(), labels.tolist(), rows, strict=True):
            held[keys[key]][number] = (label, row)
    found = {}
    for site in first:
        key_of_most = max((key for key in keys if key[0] == site), key=lambda key: len(held[key]))
        samples = held[key_of_most]
        numbers_N = np.array(sorted(samples), np.int64)
        rows_NV = np.empty((len(samples), sample_bytes), np.uint8)
        for place, number in enumerate(numbers_N.tolist()):
            rows_NV[place] = samples[number][1]
        exponents_NK, codes = np.split(rows_NV, [exponents], axis=1)
        found[site] = CachedTraining(
            epoch=key_of_most[1],
            numbers_N=numbers_N,
            labels_N=np.array([samples[number][0] for number in numbers_N.tolist()], np.int64),
            coded=EncodedSamples(np.ascontiguousarray(codes).view(codec.code_dtype), exponents_NK),
        )
    return found


def _starts(plan: RunPlan) -> list[int]:
    """A sample's number counts over all sites in the plan's order."""
    sizes = [site.train_images for site in plan.sites]
    return [sum(sizes[:place]) for place in range(len(sizes))]


def _records(
    path: Path, codec_id: int, sample_bytes: int
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
    """Key number, sample numbers, labels and rows of bytes of every whole training record."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        at = 0
        while at + _FIELDS.size <= len(whole):
            magic, split, codec, key, samples, body_bytes, _ = _FIELDS.unpack_from(whole, at)
            if magic != _MAGIC or codec != codec_id:
                raise ValueError(f"{path} is damaged at byte {at}, or of another version or codec")
            start, at = at + _FIELDS.size, at + _FIELDS.size + body_bytes
            if at > len(whole):
                return
            if split == common_pb2.SPLIT_TRAIN:
                if body_bytes != samples * (6 + sample_bytes):
                    raise ValueError(f"{path} was written for another image shape")
                body = np.frombuffer(whole[start:at], np.uint8)
                numbers = body[: 4 * samples].view("<u4").astype(np.int64)
                labels = body[4 * samples : 6 * samples].view("<u2").astype(np.int64)
                yield key, numbers, labels, body[6 * samples :].reshape(samples, sample_bytes)
