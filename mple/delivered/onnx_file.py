"""`model.onnx`: the plain network with its normalisation inside, for any runtime of ONNX.

Input `pixels`: uint8 (batch, channels, height, width), levels 0 to 255. Outputs: `logits`, float32 (batch, classes),
before any softmax or sigmoid; `maps`, float32, the last stage's feature maps before the last pool. Batch norms are
nodes of their own: runtimes fold them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import BIAS, NORM, WEIGHT, Tensors, layer_places

OPSET = 17
_IR_VERSION = 8
"""The format's version that came with the opset; newer ones would shut older runtimes out."""
PIXELS, LOGITS, MAPS = "pixels", "logits", "maps"
BATCH_NORM_EPSILON = 1e-5
"""Of torch's batch norm, which the network was trained with."""


def network_to_onnx(tensors: Tensors, about: NetworkAbout) -> bytes:
    """The file `model.onnx` of a plain network; its metadata is that of `model.safetensors`."""
    # It takes a while to load, and only a delivery needs it.
    from onnx import TensorProto, checker, helper, numpy_helper

    scale_C, shift_C = about.scale_and_shift()
    values = {**tensors, "scale": scale_C.reshape(-1, 1, 1), "shift": shift_C.reshape(-1, 1, 1)}
    nodes = [
        helper.make_node("Cast", [PIXELS], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["levels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normalised"]),
    ]
    here = _stages(helper, nodes, about)
    nodes += [
        helper.make_node("GlobalAveragePool", [here], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", WEIGHT, BIAS], [LOGITS], transB=1),
    ]
    shape: list[str | int | None] = ["batch", about.channels, about.height, about.width]
    last = about.channel_counts[-1][-1]
    graph = helper.make_graph(
        nodes,
        "vgg16",
        [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, shape)],
        [
            helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", len(about.classes)]),
            helper.make_tensor_value_info(MAPS, TensorProto.FLOAT, ["batch", last, *_last_sides(about)]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="mple"
    )
    helper.set_model_props(model, about.to_metadata())
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def last_layer(content: bytes) -> NDArray[np.float32]:
    """The weights (C, F) of the linear layer of a `model.onnx`, classes by maps. Raises ValueError: it has none."""
    from onnx import load_model_from_string, numpy_helper

    for tensor in load_model_from_string(content).graph.initializer:
        if tensor.name == WEIGHT:
            return np.asarray(numpy_helper.to_array(tensor), np.float32)
    raise ValueError(f"the network has no tensor {WEIGHT}; it was not delivered by a run")


def _stages(helper: Any, nodes: list[Any], about: NetworkAbout) -> str:
    """Add the thirteen convolutions and five pools; the name of what comes out of the last."""
    here, places = "normalised", layer_places(about)
    for number, place in enumerate(places):
        if place is None:
            out = f"pool.{number}"
            nodes.append(helper.make_node("MaxPool", [here], [out], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
        else:
            side = about.kernel if place == 0 else 3
            kernels, norm = f"features.{place}", f"features.{place + 1}"
            parameters = [f"{norm}.{name}" for name in NORM]
            out = MAPS if number == len(places) - 2 else f"{norm}.rectified"
            nodes += [
                helper.make_node(
                    "Conv",
                    [here, f"{kernels}.weight", f"{kernels}.bias"],
                    [f"{kernels}.out"],
                    kernel_shape=[side, side],
                    pads=[side // 2] * 4,
                ),
                helper.make_node(
                    "BatchNormalization", [f"{kernels}.out", *parameters], [f"{norm}.out"], epsilon=BATCH_NORM_EPSILON
                ),
                helper.make_node("Relu", [f"{norm}.out"], [out]),
            ]
        here = out
    return here


def _last_sides(about: NetworkAbout) -> list[int]:
    """Height and width of the last stage's maps: behind four pools, which round up."""
    return [-(-side // 16) for side in (about.height, about.width)]
