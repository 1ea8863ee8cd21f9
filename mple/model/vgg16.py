"""VGG-16 with batch normalisation (Simonyan & Zisserman, 2015; configuration D) behind a replaceable first layer.

For images of 28 to 224 pixels: pools round up, so that five of them leave one position of 28 pixels, and the mean over
positions feeds a single linear layer.

Legend: B batch, F filters of the stem, H W size, C classes.
"""

from torch import Tensor, nn

from mple.model.trunks import TRUNKS, VGG16_STAGES, scaled


class Vgg16Trunk(nn.Module):
    """All of VGG-16 behind the first convolution: its batch norm, twelve convolutions, the last layer."""

    def __init__(self, *, classes: int, width: float, dropout: float) -> None:
        super().__init__()
        channels = TRUNKS["vgg16"].filters(width)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        for stage, counts in enumerate(VGG16_STAGES):
            for place, full in enumerate(counts):
                if stage == place == 0:
                    continue
                out = scaled(full, width)
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(True)]
                channels = out
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, classes)
        )

    def forward(self, f_BFHW: Tensor) -> Tensor:
        """Class scores (B, C) of the stem's features, for 28 to 224 pixels.

        Raises ValueError: the maps are smaller or larger.
        """
        least, most = TRUNKS["vgg16"].least_px, TRUNKS["vgg16"].most_px
        if not all(least <= extent <= most for extent in f_BFHW.shape[2:]):
            raise ValueError(f"feature maps of {tuple(f_BFHW.shape[2:])}; VGG-16 takes {least} to {most} pixels a side")
        scores: Tensor = self.classifier(self.features(f_BFHW))
        return scores
