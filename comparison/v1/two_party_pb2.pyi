from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TwoPartyPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TWO_PARTY_PHASE_UNSPECIFIED: _ClassVar[TwoPartyPhase]
    TWO_PARTY_PHASE_SETUP: _ClassVar[TwoPartyPhase]
    TWO_PARTY_PHASE_OFFLINE: _ClassVar[TwoPartyPhase]
    TWO_PARTY_PHASE_ONLINE: _ClassVar[TwoPartyPhase]

class TwoPartyKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TWO_PARTY_KIND_UNSPECIFIED: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_KEYS: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_CIPHERTEXT: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_GARBLED: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_LABELS: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_TRANSFER: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_SHARE: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_PICTURE: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_LAYER: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_LOGITS: _ClassVar[TwoPartyKind]
    TWO_PARTY_KIND_CONTROL: _ClassVar[TwoPartyKind]
TWO_PARTY_PHASE_UNSPECIFIED: TwoPartyPhase
TWO_PARTY_PHASE_SETUP: TwoPartyPhase
TWO_PARTY_PHASE_OFFLINE: TwoPartyPhase
TWO_PARTY_PHASE_ONLINE: TwoPartyPhase
TWO_PARTY_KIND_UNSPECIFIED: TwoPartyKind
TWO_PARTY_KIND_KEYS: TwoPartyKind
TWO_PARTY_KIND_CIPHERTEXT: TwoPartyKind
TWO_PARTY_KIND_GARBLED: TwoPartyKind
TWO_PARTY_KIND_LABELS: TwoPartyKind
TWO_PARTY_KIND_TRANSFER: TwoPartyKind
TWO_PARTY_KIND_SHARE: TwoPartyKind
TWO_PARTY_KIND_PICTURE: TwoPartyKind
TWO_PARTY_KIND_LAYER: TwoPartyKind
TWO_PARTY_KIND_LOGITS: TwoPartyKind
TWO_PARTY_KIND_CONTROL: TwoPartyKind

class ExchangeRequest(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: TwoPartyFrame
    def __init__(self, frame: _Optional[_Union[TwoPartyFrame, _Mapping]] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: TwoPartyFrame
    def __init__(self, frame: _Optional[_Union[TwoPartyFrame, _Mapping]] = ...) -> None: ...

class TwoPartyFrame(_message.Message):
    __slots__ = ("phase", "part", "kind", "data", "inferences", "more")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    phase: TwoPartyPhase
    part: str
    kind: TwoPartyKind
    data: bytes
    inferences: int
    more: bool
    def __init__(self, phase: _Optional[_Union[TwoPartyPhase, str]] = ..., part: _Optional[str] = ..., kind: _Optional[_Union[TwoPartyKind, str]] = ..., data: _Optional[bytes] = ..., inferences: _Optional[int] = ..., more: bool = ...) -> None: ...
