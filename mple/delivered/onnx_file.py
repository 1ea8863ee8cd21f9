"""`model.onnx`: the plain network with its normalisation inside, for any runtime of ONNX.

Input `pixels`: uint8 (batch, channels, height, width), levels 0 to 255. Outputs: `logits`, float32 (batch, classes),
before any softmax or sigmoid; `maps`, float32, the last stage's feature maps before the last pool. Batch norms are
nodes of their own: runtimes fold them.
"""

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import BATCH_NORM_EPSILON, BIAS, NORM, WEIGHT, Tensors, layer_places
from mple.delivered.onnx_messages import FLOAT, UINT8, Message, graph, model, node, tensor, value

OPSET = 17
_FORMAT_VERSION = 8
"""The one that came with the opset; newer ones would shut older runtimes out."""
PIXELS, LOGITS, MAPS = "pixels", "logits", "maps"


def network_to_onnx(tensors: Tensors, about: NetworkAbout) -> bytes:
    """The file `model.onnx` of a plain network; its metadata is that of `model.safetensors`."""
    scale_C, shift_C = about.scale_and_shift()
    values = {**tensors, "scale": scale_C.reshape(-1, 1, 1), "shift": shift_C.reshape(-1, 1, 1)}
    nodes = [
        node("Cast", [PIXELS], ["levels"], to=FLOAT),
        node("Mul", ["levels", "scale"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["normalised"]),
    ]
    here = _stages(nodes, about)
    nodes += [
        node("GlobalAveragePool", [here], ["means"]),
        node("Flatten", ["means"], ["flat"]),
        node("Gemm", ["flat", WEIGHT, BIAS], [LOGITS], transB=1),
    ]
    last = about.channel_counts[-1][-1]
    whole = graph(
        "vgg16",
        nodes,
        [tensor(name, values[name]) for name in values],
        [value(PIXELS, UINT8, ["batch", about.channels, about.height, about.width])],
        [
            value(LOGITS, FLOAT, ["batch", len(about.classes)]),
            value(MAPS, FLOAT, ["batch", last, *_last_sides(about)]),
        ],
    )
    return model(whole, opset=OPSET, version=_FORMAT_VERSION, producer="mple", metadata=about.to_metadata())


def _stages(nodes: list[Message], about: NetworkAbout) -> str:
    """Add the thirteen convolutions and five pools; the name of what comes out of the last."""
    here, places = "normalised", layer_places(about)
    for number, place in enumerate(places):
        if place is None:
            out = f"pool.{number}"
            nodes.append(node("MaxPool", [here], [out], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
        else:
            side = about.kernel if place == 0 else 3
            kernels, norm = f"features.{place}", f"features.{place + 1}"
            parameters = [f"{norm}.{name}" for name in NORM]
            out = MAPS if number == len(places) - 2 else f"{norm}.rectified"
            nodes += [
                node(
                    "Conv",
                    [here, f"{kernels}.weight", f"{kernels}.bias"],
                    [f"{kernels}.out"],
                    kernel_shape=[side, side],
                    pads=[side // 2] * 4,
                ),
                node(
                    "BatchNormalization", [f"{kernels}.out", *parameters], [f"{norm}.out"], epsilon=BATCH_NORM_EPSILON
                ),
                node("Relu", [f"{norm}.out"], [out]),
            ]
        here = out
    return here


def _last_sides(about: NetworkAbout) -> list[int]:
    """Height and width of the last stage's maps: behind four pools, which round up."""
    return [-(-side // 16) for side in (about.height, about.width)]
