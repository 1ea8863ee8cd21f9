"""The set of docs/guide/tasks.md: drawn pictures with up to three findings each, as PNG with a table and as an archive.

    python examples/several_labels.py FOLDER

Toys that a small network learns in a minute; the table says of some findings nothing, as reports do.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LABELS = ("nodule", "fluid", "device")
SIDE_PX, PATIENTS, EACH = 32, 120, 2


def draw(there: NDArray[np.bool_], dice: np.random.Generator) -> NDArray[np.uint8]:
    """A grey field with a bright spot, a bright lower part, a thin line, each if it is there."""
    down, right = np.mgrid[:SIDE_PX, :SIDE_PX]
    picture = 60 + 15 * dice.standard_normal((SIDE_PX, SIDE_PX))
    if there[0]:
        y, x = dice.integers(6, 20, 2)
        picture += 110 * np.exp(-((down - y) ** 2 + (right - x) ** 2) / 8)
    if there[1]:
        picture += 60 * (down > dice.integers(20, 26))
    if there[2]:
        picture[:, dice.integers(4, 28)] += 120
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_all(folder: Path) -> None:
    """`shadows/PATIENT_NUMBER.png` with `shadows/labels.csv`, and the same as `shadows.npz`."""
    dice = np.random.default_rng(11)
    (folder / "shadows").mkdir(parents=True, exist_ok=True)
    rows, pixels, labels = ["file,patient,split,nodule,fluid,device"], [], []
    for patient in range(PATIENTS):
        for number in range(EACH):
            there = dice.random(3) < (0.15, 0.4, 0.5)
            said = np.where(dice.random(3) < (0.3, 0.1, 0.0), -1, there.astype(int))
            said[1] = -1 if patient == 3 else said[1]
            name = f"p{patient:03}_{number}.png"
            pixels.append(draw(there, dice))
            labels.append(said)
            Image.fromarray(pixels[-1]).save(folder / "shadows" / name)
            # A finding that a report is silent of is left empty; what it calls possible is -1.
            cells = [str(one) if one >= 0 or place == 1 else "" for place, one in enumerate(said.tolist())]
            rows.append(f"{name},P{patient:03},{'test' if patient >= 100 else 'train'},{','.join(cells)}")
    (folder / "shadows" / "labels.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
    split = EACH * 100
    np.savez(
        folder / "shadows.npz",
        train_images=np.stack(pixels[:split]),
        train_labels=np.stack(labels[:split]).astype(np.int8),
        test_images=np.stack(pixels[split:]),
        test_labels=np.stack(labels[split:]).astype(np.int8),
    )


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
