"""All attacks, from the least of adversaries to the strongest."""

from collections.abc import Sequence

from mple.attacks import (
    ciphertext_only,
    collusion,
    feature_maps,
    few_pictures,
    guessing,
    known_pairs,
    label_order,
    layer_key,
    linkage,
    noise_removal,
    stemless_features,
    tile_maps,
    translation,
    wire_sizes,
)
from mple.attacks.lab.attack import Attack


def attacks() -> tuple[Attack, ...]:
    """Every attack, in the order in which tables show them."""
    return (
        wire_sizes.ATTACK,
        guessing.ATTACK,
        tile_maps.ATTACK,
        linkage.ATTACK,
        ciphertext_only.ATTACK,
        few_pictures.ATTACK,
        label_order.ATTACK,
        known_pairs.ATTACK,
        translation.ATTACK,
        stemless_features.ATTACK,
        layer_key.ATTACK,
        feature_maps.ATTACK,
        noise_removal.ATTACK,
        collusion.ATTACK,
    )


def attacks_named(names: Sequence[str]) -> tuple[Attack, ...]:
    """These attacks, in the registry's order; all of them for no name. Raises ValueError: there is no such attack."""
    known = {attack.name: attack for attack in attacks()}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no attack {name!r}; choose of {', '.join(known)}")
    return tuple(attack for name, attack in known.items() if not names or name in names)
