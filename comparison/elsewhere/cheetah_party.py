"""One of the two parties of a CHEETAH inference. Runs in SPU's own environment, which has nothing that mple needs.

    python -m comparison.elsewhere.cheetah_party FOLDER PARTY ADDRESS OTHER_ADDRESS PATIENCE_S

FOLDER holds `program.json`, known to both, and a folder of each party's own: `client/pictures.npy` or
`server/weights.safetensors`. A party's values enter as *private* ones of their owner: weights never cross the wire,
not even as shares, and a product costs one homomorphic evaluation, as in the protocol's paper.

Legend: N pictures, H W size, C I O channels, p kernel side.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comparison.elsewhere.steps import step_teller
from comparison.peak_memory import peak_memory_bytes

CLIENT, SERVER = 0, 1
_PARTIES = ("client", "server")
_PICTURE, _LOGITS = "picture", "logits"


def main(folder: Path, party: str, address: str, other: str, patience_s: float) -> None:
    """Take part in as many inferences as there are pictures, then tell the use of this process."""
    tell = step_teller()
    rank = _PARTIES.index(party)
    program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    link = _linked(rank, address, other, patience_s)
    run = _Run(program, rank, folder, link)
    tell({"step": "linked"})
    for number in range(program["pictures"]):
        began, cpu_began = time.monotonic(), time.process_time()
        logits = run.infer(number)
        tell(
            {
                "step": "inferred",
                "seconds": time.monotonic() - began,
                "cpu_seconds": time.process_time() - cpu_began,
                "logits": logits,
            }
        )
    tell({"step": "done", "peak_bytes": peak_memory_bytes()})
    link.stop_link()


def forward(stages: list[dict[str, Any]], lax: Any, jnp: Any) -> Callable[..., Any]:
    """The network as a JAX function of picture (1, H, W, C) and, stage by stage, weights (p, p, I, O) and bias (O)."""

    def logits(x: Any, *weights_and_biases: Any) -> Any:
        for place, stage in enumerate(stages):
            weights, bias = weights_and_biases[2 * place : 2 * place + 2]
            if stage["flatten"]:
                x = x.transpose(0, 3, 1, 2).reshape(1, 1, 1, -1)
            if x.shape[1:3] == (1, 1) and weights.shape[:2] == (1, 1):
                x = (x.reshape(1, -1) @ weights[0, 0]).reshape(1, 1, 1, -1)
            else:
                x = lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = x + bias
            if stage["pool"] == "max":  # before ReLU: a quarter of the comparisons with zero
                rows = jnp.maximum(x[:, ::2], x[:, 1::2])
                x = jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])
            if not stage["last"]:
                x = jnp.maximum(x, 0)
            if stage["pool"] == "sum":
                x = x[:, ::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, ::2] + x[:, 1::2, 1::2]
        return x.transpose(0, 3, 1, 2).reshape(-1)

    return logits


class _Run:
    def __init__(self, program: dict[str, Any], rank: int, folder: Path, link: Any) -> None:
        import jax.numpy as jnp  # type: ignore[import-not-found]
        import numpy as np
        import spu.api  # type: ignore[import-not-found]
        from jax import lax
        from spu import libspu
        from spu.utils import frontend  # type: ignore[import-not-found]

        self._rank, self._link, self._libspu = rank, link, libspu
        self._secret = libspu.Visibility.VIS_SECRET
        config = libspu.RuntimeConfig(libspu.ProtocolKind.CHEETAH, libspu.FieldType.FM64, int(program["fraction_bits"]))
        config.enable_hal_profile = config.enable_pphlo_profile = True
        config.experimental_enable_colocated_optimization = True
        self._io = spu.api.Io(2, config)
        names = [_PICTURE] + [f"{kind}{i}" for i in range(len(program["stages"])) for kind in ("weights", "bias")]
        shapes = [(1, *program["input_HWC"])]
        for stage in program["stages"]:
            shapes += [tuple(stage["weights_ppIO"]), tuple(stage["weights_ppIO"][3:])]
        blanks = [np.zeros(shape, np.float32) for shape in shapes]
        self._executable, _ = frontend.compile(
            frontend.Kind.JAX,
            forward(program["stages"], lax, jnp),
            blanks,
            {},
            names,
            [self._secret] * len(names),
            lambda _outputs: [_LOGITS],
        )
        self._runtime = spu.api.Runtime(link, config)
        self._blank_picture = blanks[0]
        self._pictures = np.load(folder / "client" / "pictures.npy") if rank == CLIENT else None
        weights = _weights(folder / "server" / "weights.safetensors") if rank == SERVER else {}
        for name, blank in zip(names[1:], blanks[1:], strict=True):
            self._enter(name, SERVER, weights.get(name, blank))

    def infer(self, number: int) -> list[float] | None:
        """Logits of a picture at the client, None at the server."""
        picture = self._blank_picture if self._pictures is None else self._pictures[number : number + 1]
        self._enter(_PICTURE, CLIENT, picture)
        self._runtime.run(self._executable)
        share = self._runtime.get_var(_LOGITS)
        if self._rank == SERVER:
            self._link.send(CLIENT, share.meta.hex())
            self._link.send(CLIENT, share.share_chunks[0])
            return None
        servers = self._libspu.Share()
        servers.meta = bytes.fromhex(self._link.recv(SERVER).decode())
        servers.share_chunks = [self._link.recv(SERVER)]
        logits: list[float] = self._io.reconstruct([share, servers]).tolist()
        return logits

    def _enter(self, name: str, owner: int, values: Any) -> None:
        """A private value: who does not own it holds a blank of the same shape, which it makes itself."""
        self._runtime.set_var(name, self._io.make_shares(values, self._secret, owner)[self._rank])


def _linked(rank: int, address: str, other: str, patience_s: float) -> Any:
    from spu import libspu

    about = libspu.link.Desc()
    for name, at in zip(_PARTIES, (address, other) if rank == CLIENT else (other, address), strict=True):
        about.add_party(name, at)
    about.recv_timeout_ms = int(patience_s * 1000)
    return libspu.link.create_brpc(about, rank)


def _weights(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
