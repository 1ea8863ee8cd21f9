"""The training samples in a compute node's cache files, one of each rank, as whoever has taken them reads them.

Legend: N samples, S bytes of one sample.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.plan import RunPlan
from mple.plan.sample_numbering import SampleNumbering
from mple.records.cache_cipher import CacheError
from mple.records.cache_records import CacheRecord, CacheShape, file_records
from mple.records.layer_list import LayerList
from mple.v1 import common_pb2
from mple.wire.codec import EncodedSamples


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


_Held = dict[tuple[str, int], dict[int, tuple[int, NDArray[np.uint8]]]]
"""By site and epoch of its key: by number the label and the row of a sample."""


def read_caches(caches: Iterable[tuple[Path, LayerList, bytes]], plan: RunPlan) -> Mapping[str, CachedTraining]:
    """Each site's training samples, of all ranks together; of a sample that came twice the later form.

    Args:
        caches: Each rank's cache file, its list of layers, which numbers rotated keys, and the secret of its vault.
        plan: The run's plan.

    Raises CacheError: a file is another plan's, damaged, or does not open with the secret; OSError: one can't be read.
    """
    shape = CacheShape.of(plan)
    held: _Held = {(site.name, site.key_epoch): {} for site in plan.sites}
    for path, layer_list, secret in caches:
        _read_into(held, file_records(CacheShape.of(plan), path, secret, plan.wire.releases), path, layer_list, plan)
    found = {}
    for site in (one.name for one in plan.sites):
        key_of_most = max((key for key in held if key[0] == site), key=lambda key: len(held[key]))
        samples = held[key_of_most]
        numbers_N = np.array(sorted(samples), np.int64)
        sample_bytes = len(next(iter(samples.values()))[1]) if samples else shape.sample_bytes  # as its basis is wide
        rows_NS = np.empty((len(samples), sample_bytes), np.uint8)
        for place, number in enumerate(numbers_N.tolist()):
            rows_NS[place] = samples[number][1]
        found[site] = CachedTraining(
            epoch=key_of_most[1],
            numbers_N=numbers_N,
            labels_N=np.array([samples[number][0] for number in numbers_N.tolist()], np.int64),
            coded=shape.coded(rows_NS),
        )
    return found


def _read_into(held: _Held, records: Iterable[CacheRecord], path: Path, layer_list: LayerList, plan: RunPlan) -> None:
    keys = [(site.name, site.key_epoch) for site in plan.sites]
    keys += [(rotated.site, rotated.epoch) for rotated in layer_list.rotated]
    numbering = SampleNumbering({site.name: site.train_images for site in plan.sites})
    for record in records:
        if record.split != common_pb2.SPLIT_TRAIN:
            continue
        if record.key >= len(keys):
            raise CacheError(f"{path} holds samples under key number {record.key}; the run has {len(keys)} keys")
        key = keys[record.key]
        span = numbering.span(key[0])
        if record.numbers_B.min() < span.start or record.numbers_B.max() >= span.stop:
            raise CacheError(f"{path} holds samples of others under a key of {key[0]}")
        numbers = (record.numbers_B - span.start).tolist()
        for number, label, row in zip(numbers, record.labels_B.tolist(), record.rows_BS, strict=True):
            held.setdefault(key, {})[number] = (label, row)
