"""A few of a site's training pictures, and a few others as they travel, kept at the site for the report of a run.

Never the same ones: whoever has pictures together with their morphed forms can work out the morph key, and a report is
made to be handed on. The file stays in the site's state folder, open to its owner only; nothing here is sent.
"""

from pathlib import Path

import numpy as np

from mple.data import LabelledImages
from mple.morph.morpher import from_blocks
from mple.plan import RunPlan
from mple.records.sample_pictures import SamplePictures, write_pictures
from mple.records.state_files import PICTURES
from mple.v1 import common_pb2
from provider_node.feeding.morphing import MorphedImages


def keep_sample_pictures(state: Path, train: LabelledImages, plan: RunPlan, images: MorphedImages, most: int) -> None:
    """Write `pictures-RUN.npz` into the state folder, unless the run has left it there before a restart.

    It holds the first training pictures, and as many others as they travel. Where none are wanted there is no file, and
    one that was left goes.

    Guarantees: no picture is there in both forms. The codes are those that the feed sends.

    Args:
        state: The site's state folder.
        train: The site's training pictures.
        plan: The run's plan.
        images: What the feed takes its batches from.
        most: Pictures of each kind.

    Raises OSError: the disk refuses.
    """
    path = state / PICTURES.format(plan.run_id)
    if most == 0:
        path.unlink(missing_ok=True)
    if most == 0 or path.exists():
        return
    count = min(most, len(train) // 2)
    seen_N, travelling_N = np.arange(count), np.arange(count, 2 * count)
    coded = images.batch(common_pb2.SPLIT_TRAIN, travelling_N.tolist()).coded
    t_BKE = images.codec.decode(coded, plan.geometry.blocks)
    cut = plan.geometry.core_side - t_BKE.shape[2]  # of coefficients, zeros stand for those that do not travel
    t_BKQ = np.pad(t_BKE, ((0, 0), (0, 0), (0, cut)))
    pictures = SamplePictures(
        seen_N=seen_N,
        pixels_NCHW=train.take(seen_N).pixels_NCHW,
        travelling_N=travelling_N,
        travelling_NCHW=from_blocks(t_BKQ, plan.morph.scheme(), plan.geometry, plan.image),
    )
    write_pictures(path, pictures)
