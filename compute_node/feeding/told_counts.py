"""What a site says of its classes when its stream opens, checked against the plan."""

from mple.model.class_weights import ClassCounts
from mple.plan import ClassWeights, RunPlan, TaskKind
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2


def told_counts(plan: RunPlan, site: str, hello: compute_pb2.FeedHello) -> ClassCounts | None:
    """A site's counts in the permuted order; None where the plan weights no classes.

    Raises MpleError: MESSAGE_MALFORMED when they are missing, not asked for, or can't be those of the site's images.
    """
    counts = ClassCounts(having=tuple(hello.class_counts), known=tuple(hello.known_counts))
    if plan.task.class_weights is ClassWeights.NONE:
        due: tuple[int, int] = (0, 0)
    else:
        due = (len(plan.classes), len(plan.classes) * (plan.task.kind is TaskKind.LABELS))
    if (len(counts.having), len(counts.known)) != due:
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED,
            f"site {site} tells {len(counts.having)} class counts and {len(counts.known)} known ones; due are {due}",
        )
    if not counts.having:
        return None
    images = plan.site(site).train_images
    if plan.task.kind is TaskKind.LABELS:
        sound = all(have <= known <= images for have, known in zip(counts.having, counts.known, strict=True))
    else:
        sound = sum(counts.having) == images
    if not sound:
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED, f"class counts of site {site} can't be those of {images} training images"
        )
    return counts
