"""A site's pictures in a file without a name, read as they are asked for: twenty thousand of 32 x 32 in colour would
take 60 MB of memory, photographs gigabytes.

The file lies in a folder of the site's choice. Nobody finds it there by a name, and it is gone with the process, in
whichever way that ends.

Legend: N images, C channels, H W size.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.morph import ImageShape


class PixelFile:
    """uint8 pixels (N, C, H, W); threads may read at once."""

    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, image: ImageShape, blocks: Iterable[NDArray[np.uint8]]) -> None:
        """Write blocks (n, C, H, W), one after the other. Raises OSError: the disk refuses."""
        self._image_bytes, count = image.elements, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # as long as this object lives
        for block_NCHW in blocks:
            self._file.write(np.ascontiguousarray(block_NCHW).data)
            count += len(block_NCHW)
        self._file.flush()
        self.shape = (count, image.channels, image.height, image.width)

    def __len__(self) -> int:
        return self.shape[0]

    def taken(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images with these numbers, in memory. Raises OSError: the disk refuses."""
        pixels_NCHW = np.empty((len(places), *self.shape[1:]), np.uint8)
        file = self._file.fileno()
        for picture_CHW, place in zip(pixels_NCHW, places.tolist(), strict=True):
            read = os.preadv(file, [picture_CHW.reshape(-1).data], place * self._image_bytes)
            if read != self._image_bytes:
                raise OSError(f"the file of a site's pictures ends within picture {place}")
        return pixels_NCHW
