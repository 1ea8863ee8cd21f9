"""How a delivered network is loaded without this program: lines of Python that its card shows and tests run.

None of them needs a key, nor anything but the libraries that they import.
"""

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import layer_places
from mple.model.settings import TaskKind

_TORCH = """\
import torch
from safetensors.torch import load_file
from torch import nn

weights, layers = load_file("model.safetensors"), []
for kind in "CCPCCPCCCPCCCPCCCP":
    if kind == "P":
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    else:
        filters, channels, side, _ = weights[f"features.{len(layers)}.weight"].shape
        layers += [nn.Conv2d(channels, filters, side, padding=side // 2), nn.BatchNorm2d(filters), nn.ReLU()]
network = nn.Sequential()
network.features, network.pool, network.flat = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten()
network.classifier = nn.Linear(*weights["classifier.weight"].shape[::-1])
network.load_state_dict(weights)
network.eval()
"""


def torchvision_lines(about: NetworkAbout) -> str:
    """With torchvision's own module: three lines, and one more where pictures are not in colour, kernels not of side 3,
    or pools meet odd sides, which torchvision rounds down. Empty where the network has not VGG-16's width."""
    if about.model_width != 1:
        return ""
    classes, lines = len(about.classes), ["import safetensors.torch, torch, torchvision"]
    lines += [
        f"network = torchvision.models.vgg16_bn(num_classes={classes})",
        f"network.avgpool, network.classifier = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(512, {classes})",
    ]
    if (about.channels, about.kernel) != (3, 3):
        padding = about.kernel // 2
        lines.append(f"network.features[0] = torch.nn.Conv2d({about.channels}, 64, {about.kernel}, padding={padding})")
    if about.height % 32 or about.width % 32:
        lines.append(f"for place in {_pools(about)}: network.features[place].ceil_mode = True")
    lines.append('network.load_state_dict(safetensors.torch.load_file("model.safetensors")); network.eval()')
    return "".join(f"{line}\n" for line in lines)


def torch_lines() -> str:
    """With torch alone, for networks of any width, number of channels and kernels."""
    return _TORCH


def torch_use(about: NetworkAbout) -> str:
    """Asking either about `pixels`, a uint8 tensor of pictures, all of the run's size."""
    mean, std = (f"torch.tensor({list(values)}).reshape(-1, 1, 1)" for values in (about.mean, about.std))
    squash = "softmax(dim=1)" if about.task is TaskKind.CLASSES else "sigmoid()"
    return f"logits = network((pixels / 255 - {mean}) / {std})\nprobabilities = logits.{squash}\n"


def onnx_use() -> str:
    """Asking onnxruntime about `pixels`, a uint8 array of pictures."""
    return (
        "import onnxruntime\n"
        'logits, maps = onnxruntime.InferenceSession("model.onnx").run(["logits", "maps"], {"pixels": pixels})\n'
    )


def _pools(about: NetworkAbout) -> tuple[int, ...]:
    places = layer_places(about)
    before = [places[:number] for number, place in enumerate(places) if place is None]
    return tuple(3 * sum(place is not None for place in part) + sum(place is None for place in part) for part in before)
