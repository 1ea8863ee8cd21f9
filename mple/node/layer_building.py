"""A layer as a file: built once, by the site that it is of or, in escrow custody, by the coordinator for it."""

import time
from pathlib import Path

from mple.disk.whole_files import file_sha256
from mple.model.stem import Stem
from mple.morph import MorphKey
from mple.morph.augmented import build_augmented_layer
from mple.morph.basis import Basis
from mple.node.logs import log
from mple.per_node import IN_TURN
from mple.plan import RunPlan
from mple.plan.orders import channel_order
from mple.v1 import common_pb2, coordinator_pb2
from mple.wire.codecs import codec_named
from mple.wire.layer_file import write_layer
from mple.wire.transform_codec import TransformCodec


def build_layer_file(
    plan: RunPlan,
    key: MorphKey,
    key_ref: common_pb2.KeyRef,
    consortium_secret: bytes,
    stem: Stem,
    path: Path,
    basis: Basis | None = None,
) -> coordinator_pb2.LayerHeader:
    """Build a key's augmented layer and write its file, whole or not at all.

    Args:
        plan: The run's plan.
        key: The morph key.
        key_ref: Its name: it may be one that the plan doesn't know yet.
        consortium_secret: From which the channels' order is drawn.
        stem: The plan's.
        path: Of the file.
        basis: The key's, for a layer for coefficients.

    Returns:
        What is said of the layer before its bytes.

    Raises OSError: the disk refused.
    """
    began = time.monotonic()
    with IN_TURN:
        layer = build_augmented_layer(
            plan.morph.scheme(),
            plan.image,
            stem.kernels_FCpp,
            key,
            channel_order(plan, consortium_secret),
            session=plan.session,
            key_epoch=key_ref.epoch,
            basis=basis,
        )
        codec = codec_named(plan.wire.codec)
        write_layer(layer, path, plan.layer_dtype, codec.step if isinstance(codec, TransformCodec) else 0.0)
    text = f"built the layer of site {key_ref.site} in {time.monotonic() - began:.2f} s"
    log("layer_built", text, site=key_ref.site)
    return layer_header(key_ref, path)


def layer_header(key_ref: common_pb2.KeyRef, path: Path) -> coordinator_pb2.LayerHeader:
    """What is said of a layer whose file is there already."""
    return coordinator_pb2.LayerHeader(key_ref=key_ref, total_bytes=path.stat().st_size, sha256=file_sha256(path))
