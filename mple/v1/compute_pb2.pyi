from mple.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedRequest(_message.Message):
    __slots__ = ("hello", "batch", "score", "network_received", "basis")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    hello: FeedHello
    batch: _common_pb2.MorphedBatch
    score: Score
    network_received: NetworkReceived
    basis: KeyBasis
    def __init__(self, hello: _Optional[_Union[FeedHello, _Mapping]] = ..., batch: _Optional[_Union[_common_pb2.MorphedBatch, _Mapping]] = ..., score: _Optional[_Union[Score, _Mapping]] = ..., network_received: _Optional[_Union[NetworkReceived, _Mapping]] = ..., basis: _Optional[_Union[KeyBasis, _Mapping]] = ...) -> None: ...

class FeedHello(_message.Message):
    __slots__ = ("plan_sha256", "class_counts", "known_counts", "mirrored_channels", "rank", "basis_sha256")
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    CLASS_COUNTS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_COUNTS_FIELD_NUMBER: _ClassVar[int]
    MIRRORED_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    BASIS_SHA256_FIELD_NUMBER: _ClassVar[int]
    plan_sha256: bytes
    class_counts: _containers.RepeatedScalarFieldContainer[int]
    known_counts: _containers.RepeatedScalarFieldContainer[int]
    mirrored_channels: _containers.RepeatedScalarFieldContainer[int]
    rank: int
    basis_sha256: bytes
    def __init__(self, plan_sha256: _Optional[bytes] = ..., class_counts: _Optional[_Iterable[int]] = ..., known_counts: _Optional[_Iterable[int]] = ..., mirrored_channels: _Optional[_Iterable[int]] = ..., rank: _Optional[int] = ..., basis_sha256: _Optional[bytes] = ...) -> None: ...

class KeyBasis(_message.Message):
    __slots__ = ("offset", "data", "final")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    final: bool
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., final: bool = ...) -> None: ...

class FeedResponse(_message.Message):
    __slots__ = ("samples", "logits", "done", "network_ready", "basis_wanted")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_READY_FIELD_NUMBER: _ClassVar[int]
    BASIS_WANTED_FIELD_NUMBER: _ClassVar[int]
    samples: SampleRequest
    logits: Logits
    done: FeedDone
    network_ready: NetworkReady
    basis_wanted: BasisWanted
    def __init__(self, samples: _Optional[_Union[SampleRequest, _Mapping]] = ..., logits: _Optional[_Union[Logits, _Mapping]] = ..., done: _Optional[_Union[FeedDone, _Mapping]] = ..., network_ready: _Optional[_Union[NetworkReady, _Mapping]] = ..., basis_wanted: _Optional[_Union[BasisWanted, _Mapping]] = ...) -> None: ...

class BasisWanted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("request_id", "split", "sample_ids", "received_samples")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_IDS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    split: _common_pb2.Split
    sample_ids: _containers.RepeatedScalarFieldContainer[int]
    received_samples: int
    def __init__(self, request_id: _Optional[int] = ..., split: _Optional[_Union[_common_pb2.Split, str]] = ..., sample_ids: _Optional[_Iterable[int]] = ..., received_samples: _Optional[int] = ...) -> None: ...

class Logits(_message.Message):
    __slots__ = ("request_id", "epoch", "split", "sample_ids", "classes", "values")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_IDS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    epoch: int
    split: _common_pb2.Split
    sample_ids: _containers.RepeatedScalarFieldContainer[int]
    classes: int
    values: bytes
    def __init__(self, request_id: _Optional[int] = ..., epoch: _Optional[int] = ..., split: _Optional[_Union[_common_pb2.Split, str]] = ..., sample_ids: _Optional[_Iterable[int]] = ..., classes: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("request_id", "epoch", "split", "samples", "tallies", "withheld")
    class TalliesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Tally
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Tally, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    epoch: int
    split: _common_pb2.Split
    samples: int
    tallies: _containers.MessageMap[str, _common_pb2.Tally]
    withheld: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[int] = ..., epoch: _Optional[int] = ..., split: _Optional[_Union[_common_pb2.Split, str]] = ..., samples: _Optional[int] = ..., tallies: _Optional[_Mapping[str, _common_pb2.Tally]] = ..., withheld: _Optional[_Iterable[str]] = ...) -> None: ...

class NetworkReady(_message.Message):
    __slots__ = ("total_bytes", "sha256", "epoch", "model_sha256")
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    total_bytes: int
    sha256: bytes
    epoch: int
    model_sha256: bytes
    def __init__(self, total_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ..., epoch: _Optional[int] = ..., model_sha256: _Optional[bytes] = ...) -> None: ...

class NetworkReceived(_message.Message):
    __slots__ = ("sha256", "check")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    check: str
    def __init__(self, sha256: _Optional[bytes] = ..., check: _Optional[str] = ...) -> None: ...

class DownloadNetworkRequest(_message.Message):
    __slots__ = ("plan_sha256", "sha256", "offset")
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    plan_sha256: bytes
    sha256: bytes
    offset: int
    def __init__(self, plan_sha256: _Optional[bytes] = ..., sha256: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadNetworkResponse(_message.Message):
    __slots__ = ("offset", "data", "final")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    final: bool
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., final: bool = ...) -> None: ...

class FeedDone(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("plan_sha256", "batch")
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    plan_sha256: bytes
    batch: _common_pb2.MorphedBatch
    def __init__(self, plan_sha256: _Optional[bytes] = ..., batch: _Optional[_Union[_common_pb2.MorphedBatch, _Mapping]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("request_id", "classes", "values")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    classes: int
    values: bytes
    def __init__(self, request_id: _Optional[int] = ..., classes: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...
