"""What crosses the wire, as pure functions: codecs, batches, layer files. No socket, no thread."""

from mple.wire.batch import Batch, BatchError, batch_from_message, batch_to_message, samples_per_message
from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.layer_file import LayerFileError, read_layer, write_layer

__all__ = [
    "Batch",
    "BatchError",
    "CodeError",
    "Codec",
    "EncodedSamples",
    "LayerFileError",
    "batch_from_message",
    "batch_to_message",
    "codec_named",
    "read_layer",
    "samples_per_message",
    "write_layer",
]
