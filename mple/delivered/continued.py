"""Whether a run that begins with a delivered network goes on from it: its inputs, and its answers if it takes all."""

from collections.abc import Mapping

from mple.delivered.about import NetworkAbout
from mple.model.settings import WeightsFrom
from mple.plan import NormalisationSettings, RunChoices


def require_going_on(
    metadata: Mapping[str, str], choices: RunChoices, classes: tuple[str, ...], channels: int
) -> list[str]:
    """Refuse a run that takes a whole delivered network and does otherwise than this has learned.

    Args:
        metadata: Texts of the file. One that no run delivered tells nothing of itself.
        choices: The run's.
        classes: Its classes or labels, in order.
        channels: Of its pictures.

    Returns:
        What a run does otherwise that takes the convolutions alone, in sentences that name the cure.

    Raises ValueError: normalisation, task or classes are others, or what the file says of itself is damaged.
    """
    if not NetworkAbout.is_in(metadata):
        return []
    about = NetworkAbout.from_metadata(metadata, "the file of weights")
    found = []
    if _levels(about.mean, about.std, about.channels) != _levels_of(choices.normalisation, channels, about.channels):
        found.append(
            f"the network of run {about.run_id} was trained with normalisation.mean = {list(about.mean)}, std = "
            f"{list(about.std)}; this run has {list(choices.normalisation.mean)}, {list(choices.normalisation.std)}: "
            "set those of the network"
        )
    if choices.model.weights is not WeightsFrom.NETWORK:
        return found
    found += _other_answers(about, choices, classes)
    if found:
        raise ValueError("; ".join(found))
    return []


def _other_answers(about: NetworkAbout, choices: RunChoices, classes: tuple[str, ...]) -> list[str]:
    found = []
    if about.task is not choices.task.kind:
        found.append(f'run {about.run_id} had task.kind = "{about.task}", this run has "{choices.task.kind}"; {_DRAWN}')
    if about.classes != classes:
        at = next((i for i, pair in enumerate(zip(about.classes, classes, strict=False)) if pair[0] != pair[1]), None)
        which = "" if at is None else f", at place {at + 1} {about.classes[at]!r} against {classes[at]!r}"
        found.append(
            f"the network of run {about.run_id} has {len(about.classes)} classes, this run {len(classes)}{which}; name "
            f"them in that order in the sites' [data], or {_DRAWN}"
        )
    return found


_DRAWN = 'set model.weights = "features", which draws the last layer'


def _levels(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> list[tuple[float, float]]:
    return list(zip(mean, std, strict=True)) * (channels if len(mean) == 1 else 1)


def _levels_of(by: NormalisationSettings, channels: int, of_network: int) -> list[tuple[float, float]]:
    """Of a run's pictures; grey ones count for the three equal channels of a coloured network."""
    return _levels(by.mean, by.std, channels) * (of_network if channels == 1 else 1)
