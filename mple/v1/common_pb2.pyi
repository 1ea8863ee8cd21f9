from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Split(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_UNSPECIFIED: _ClassVar[Split]
    SPLIT_TRAIN: _ClassVar[Split]
    SPLIT_TEST: _ClassVar[Split]
    SPLIT_VAL: _ClassVar[Split]

class Codec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_UNSPECIFIED: _ClassVar[Codec]
    CODEC_F32: _ClassVar[Codec]
    CODEC_F16: _ClassVar[Codec]
    CODEC_Q8: _ClassVar[Codec]
    CODEC_Q7: _ClassVar[Codec]
    CODEC_Q6: _ClassVar[Codec]
    CODEC_Q5: _ClassVar[Codec]
    CODEC_Q4: _ClassVar[Codec]
    CODEC_K8: _ClassVar[Codec]
    CODEC_K7_5: _ClassVar[Codec]
    CODEC_K7: _ClassVar[Codec]
    CODEC_K6_5: _ClassVar[Codec]
    CODEC_K6: _ClassVar[Codec]
    CODEC_K5_5: _ClassVar[Codec]
    CODEC_K5: _ClassVar[Codec]
    CODEC_K4_5: _ClassVar[Codec]
    CODEC_K4: _ClassVar[Codec]
    CODEC_K3_5: _ClassVar[Codec]
    CODEC_K3: _ClassVar[Codec]
SPLIT_UNSPECIFIED: Split
SPLIT_TRAIN: Split
SPLIT_TEST: Split
SPLIT_VAL: Split
CODEC_UNSPECIFIED: Codec
CODEC_F32: Codec
CODEC_F16: Codec
CODEC_Q8: Codec
CODEC_Q7: Codec
CODEC_Q6: Codec
CODEC_Q5: Codec
CODEC_Q4: Codec
CODEC_K8: Codec
CODEC_K7_5: Codec
CODEC_K7: Codec
CODEC_K6_5: Codec
CODEC_K6: Codec
CODEC_K5_5: Codec
CODEC_K5: Codec
CODEC_K4_5: Codec
CODEC_K4: Codec
CODEC_K3_5: Codec
CODEC_K3: Codec

class KeyRef(_message.Message):
    __slots__ = ("site", "epoch", "fingerprint")
    SITE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    site: str
    epoch: int
    fingerprint: bytes
    def __init__(self, site: _Optional[str] = ..., epoch: _Optional[int] = ..., fingerprint: _Optional[bytes] = ...) -> None: ...

class MorphedBatch(_message.Message):
    __slots__ = ("request_id", "key_ref", "split", "codec", "samples", "values_per_sample", "codes", "labels", "crc32c", "resent_samples")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    VALUES_PER_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    RESENT_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    key_ref: KeyRef
    split: Split
    codec: Codec
    samples: int
    values_per_sample: int
    codes: bytes
    labels: bytes
    crc32c: int
    resent_samples: int
    def __init__(self, request_id: _Optional[int] = ..., key_ref: _Optional[_Union[KeyRef, _Mapping]] = ..., split: _Optional[_Union[Split, str]] = ..., codec: _Optional[_Union[Codec, str]] = ..., samples: _Optional[int] = ..., values_per_sample: _Optional[int] = ..., codes: _Optional[bytes] = ..., labels: _Optional[bytes] = ..., crc32c: _Optional[int] = ..., resent_samples: _Optional[int] = ...) -> None: ...

class Tally(_message.Message):
    __slots__ = ("counts", "sums", "gaps", "length")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sums: _containers.RepeatedScalarFieldContainer[float]
    gaps: _containers.RepeatedScalarFieldContainer[int]
    length: int
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., sums: _Optional[_Iterable[float]] = ..., gaps: _Optional[_Iterable[int]] = ..., length: _Optional[int] = ...) -> None: ...
