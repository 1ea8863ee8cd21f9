from mple.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedRequest(_message.Message):
    __slots__ = ("hello", "batch", "score")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    hello: FeedHello
    batch: _common_pb2.MorphedBatch
    score: Score
    def __init__(self, hello: _Optional[_Union[FeedHello, _Mapping]] = ..., batch: _Optional[_Union[_common_pb2.MorphedBatch, _Mapping]] = ..., score: _Optional[_Union[Score, _Mapping]] = ...) -> None: ...

class FeedHello(_message.Message):
    __slots__ = ("plan_sha256",)
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    plan_sha256: bytes
    def __init__(self, plan_sha256: _Optional[bytes] = ...) -> None: ...

class FeedResponse(_message.Message):
    __slots__ = ("samples", "logits", "done")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    samples: SampleRequest
    logits: Logits
    done: FeedDone
    def __init__(self, samples: _Optional[_Union[SampleRequest, _Mapping]] = ..., logits: _Optional[_Union[Logits, _Mapping]] = ..., done: _Optional[_Union[FeedDone, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("request_id", "epoch", "sample_ids", "classes", "values")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_IDS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    epoch: int
    sample_ids: _containers.RepeatedScalarFieldContainer[int]
    classes: int
    values: bytes
    def __init__(self, request_id: _Optional[int] = ..., epoch: _Optional[int] = ..., sample_ids: _Optional[_Iterable[int]] = ..., classes: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("request_id", "epoch", "samples", "tallies")
    class TalliesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tally
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tally, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    epoch: int
    samples: int
    tallies: _containers.MessageMap[str, Tally]
    def __init__(self, request_id: _Optional[int] = ..., epoch: _Optional[int] = ..., samples: _Optional[int] = ..., tallies: _Optional[_Mapping[str, Tally]] = ...) -> None: ...

class Tally(_message.Message):
    __slots__ = ("counts", "sums")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sums: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., sums: _Optional[_Iterable[float]] = ...) -> None: ...

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
