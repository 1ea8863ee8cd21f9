from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ProbeRequest(_message.Message):
    __slots__ = ("padding", "want_bytes")
    PADDING_FIELD_NUMBER: _ClassVar[int]
    WANT_BYTES_FIELD_NUMBER: _ClassVar[int]
    padding: bytes
    want_bytes: int
    def __init__(self, padding: _Optional[bytes] = ..., want_bytes: _Optional[int] = ...) -> None: ...

class ProbeResponse(_message.Message):
    __slots__ = ("label", "protocol_version", "program_version", "time_unix_ms", "padding_bytes", "padding")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PADDING_BYTES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    label: str
    protocol_version: int
    program_version: str
    time_unix_ms: int
    padding_bytes: int
    padding: bytes
    def __init__(self, label: _Optional[str] = ..., protocol_version: _Optional[int] = ..., program_version: _Optional[str] = ..., time_unix_ms: _Optional[int] = ..., padding_bytes: _Optional[int] = ..., padding: _Optional[bytes] = ...) -> None: ...
