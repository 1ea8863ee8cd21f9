from mple.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_GATHERING: _ClassVar[Phase]
    PHASE_SETUP: _ClassVar[Phase]
    PHASE_TRAINING: _ClassVar[Phase]
    PHASE_FINISHED: _ClassVar[Phase]
    PHASE_FAILED: _ClassVar[Phase]

class SealedKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEALED_KIND_UNSPECIFIED: _ClassVar[SealedKind]
    SEALED_KIND_CONSORTIUM_SECRET: _ClassVar[SealedKind]
    SEALED_KIND_MORPH_KEY: _ClassVar[SealedKind]
PHASE_UNSPECIFIED: Phase
PHASE_GATHERING: Phase
PHASE_SETUP: Phase
PHASE_TRAINING: Phase
PHASE_FINISHED: Phase
PHASE_FAILED: Phase
SEALED_KIND_UNSPECIFIED: SealedKind
SEALED_KIND_CONSORTIUM_SECRET: SealedKind
SEALED_KIND_MORPH_KEY: SealedKind

class JoinRequest(_message.Message):
    __slots__ = ("protocol_version", "site", "compute")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    site: SiteProfile
    compute: ComputeProfile
    def __init__(self, protocol_version: _Optional[int] = ..., site: _Optional[_Union[SiteProfile, _Mapping]] = ..., compute: _Optional[_Union[ComputeProfile, _Mapping]] = ...) -> None: ...

class SiteProfile(_message.Message):
    __slots__ = ("channels", "height", "width", "classes", "train_images", "test_images", "key_ref", "patients", "val_images", "task")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TRAIN_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TEST_IMAGES_FIELD_NUMBER: _ClassVar[int]
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    VAL_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    channels: int
    height: int
    width: int
    classes: _containers.RepeatedScalarFieldContainer[str]
    train_images: int
    test_images: int
    key_ref: _common_pb2.KeyRef
    patients: str
    val_images: int
    task: str
    def __init__(self, channels: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., classes: _Optional[_Iterable[str]] = ..., train_images: _Optional[int] = ..., test_images: _Optional[int] = ..., key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ..., patients: _Optional[str] = ..., val_images: _Optional[int] = ..., task: _Optional[str] = ...) -> None: ...

class ComputeProfile(_message.Message):
    __slots__ = ("stem_digest", "weights_digest", "ranks")
    STEM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    stem_digest: bytes
    weights_digest: bytes
    ranks: int
    def __init__(self, stem_digest: _Optional[bytes] = ..., weights_digest: _Optional[bytes] = ..., ranks: _Optional[int] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("run_id", "last_sequence")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    last_sequence: int
    def __init__(self, run_id: _Optional[str] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("after_sequence",)
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    def __init__(self, after_sequence: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("sequence", "time_unix_ms", "party_joined", "plan_made", "phase_changed", "layer_released", "epoch_done", "fault", "key_rotated", "key_ready", "key_revoked", "key_erased", "layer_wanted", "network_scored", "envelope_left", "certificates")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PARTY_JOINED_FIELD_NUMBER: _ClassVar[int]
    PLAN_MADE_FIELD_NUMBER: _ClassVar[int]
    PHASE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    LAYER_RELEASED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_DONE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    KEY_ROTATED_FIELD_NUMBER: _ClassVar[int]
    KEY_READY_FIELD_NUMBER: _ClassVar[int]
    KEY_REVOKED_FIELD_NUMBER: _ClassVar[int]
    KEY_ERASED_FIELD_NUMBER: _ClassVar[int]
    LAYER_WANTED_FIELD_NUMBER: _ClassVar[int]
    NETWORK_SCORED_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_LEFT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time_unix_ms: int
    party_joined: PartyJoined
    plan_made: PlanMade
    phase_changed: PhaseChanged
    layer_released: LayerReleased
    epoch_done: EpochDone
    fault: Fault
    key_rotated: KeyRotated
    key_ready: KeyReady
    key_revoked: KeyRevoked
    key_erased: KeyErased
    layer_wanted: LayerWanted
    network_scored: NetworkScored
    envelope_left: EnvelopeLeft
    certificates: Certificates
    def __init__(self, sequence: _Optional[int] = ..., time_unix_ms: _Optional[int] = ..., party_joined: _Optional[_Union[PartyJoined, _Mapping]] = ..., plan_made: _Optional[_Union[PlanMade, _Mapping]] = ..., phase_changed: _Optional[_Union[PhaseChanged, _Mapping]] = ..., layer_released: _Optional[_Union[LayerReleased, _Mapping]] = ..., epoch_done: _Optional[_Union[EpochDone, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., key_rotated: _Optional[_Union[KeyRotated, _Mapping]] = ..., key_ready: _Optional[_Union[KeyReady, _Mapping]] = ..., key_revoked: _Optional[_Union[KeyRevoked, _Mapping]] = ..., key_erased: _Optional[_Union[KeyErased, _Mapping]] = ..., layer_wanted: _Optional[_Union[LayerWanted, _Mapping]] = ..., network_scored: _Optional[_Union[NetworkScored, _Mapping]] = ..., envelope_left: _Optional[_Union[EnvelopeLeft, _Mapping]] = ..., certificates: _Optional[_Union[Certificates, _Mapping]] = ...) -> None: ...

class PartyJoined(_message.Message):
    __slots__ = ("party",)
    PARTY_FIELD_NUMBER: _ClassVar[int]
    party: str
    def __init__(self, party: _Optional[str] = ...) -> None: ...

class Certificates(_message.Message):
    __slots__ = ("recipient", "parties")
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    PARTIES_FIELD_NUMBER: _ClassVar[int]
    recipient: str
    parties: _containers.RepeatedCompositeFieldContainer[PartyCertificate]
    def __init__(self, recipient: _Optional[str] = ..., parties: _Optional[_Iterable[_Union[PartyCertificate, _Mapping]]] = ...) -> None: ...

class PartyCertificate(_message.Message):
    __slots__ = ("party", "der")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    DER_FIELD_NUMBER: _ClassVar[int]
    party: str
    der: bytes
    def __init__(self, party: _Optional[str] = ..., der: _Optional[bytes] = ...) -> None: ...

class EnvelopeLeft(_message.Message):
    __slots__ = ("recipient",)
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    recipient: str
    def __init__(self, recipient: _Optional[str] = ...) -> None: ...

class PlanMade(_message.Message):
    __slots__ = ("plan_json", "plan_sha256")
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    plan_json: bytes
    plan_sha256: bytes
    def __init__(self, plan_json: _Optional[bytes] = ..., plan_sha256: _Optional[bytes] = ...) -> None: ...

class PhaseChanged(_message.Message):
    __slots__ = ("phase", "reason")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    reason: str
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class LayerReleased(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: LayerHeader
    def __init__(self, header: _Optional[_Union[LayerHeader, _Mapping]] = ...) -> None: ...

class EpochDone(_message.Message):
    __slots__ = ("epoch", "loss", "scores", "seconds")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    loss: float
    scores: _containers.ScalarMap[str, float]
    seconds: float
    def __init__(self, epoch: _Optional[int] = ..., loss: _Optional[float] = ..., scores: _Optional[_Mapping[str, float]] = ..., seconds: _Optional[float] = ...) -> None: ...

class NetworkScored(_message.Message):
    __slots__ = ("epoch", "scores", "val_tallies", "test_tallies")
    class ScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class ValTalliesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Tally
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Tally, _Mapping]] = ...) -> None: ...
    class TestTalliesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Tally
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Tally, _Mapping]] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    VAL_TALLIES_FIELD_NUMBER: _ClassVar[int]
    TEST_TALLIES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    scores: _containers.ScalarMap[str, float]
    val_tallies: _containers.MessageMap[str, _common_pb2.Tally]
    test_tallies: _containers.MessageMap[str, _common_pb2.Tally]
    def __init__(self, epoch: _Optional[int] = ..., scores: _Optional[_Mapping[str, float]] = ..., val_tallies: _Optional[_Mapping[str, _common_pb2.Tally]] = ..., test_tallies: _Optional[_Mapping[str, _common_pb2.Tally]] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("party", "text")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    party: str
    text: str
    def __init__(self, party: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class LayerWanted(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: LayerHeader
    def __init__(self, header: _Optional[_Union[LayerHeader, _Mapping]] = ...) -> None: ...

class KeyRotated(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: LayerHeader
    def __init__(self, header: _Optional[_Union[LayerHeader, _Mapping]] = ...) -> None: ...

class KeyReady(_message.Message):
    __slots__ = ("key_ref",)
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ...) -> None: ...

class KeyRevoked(_message.Message):
    __slots__ = ("key_ref",)
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ...) -> None: ...

class KeyErased(_message.Message):
    __slots__ = ("key_ref", "samples", "layer_bytes")
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LAYER_BYTES_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    samples: int
    layer_bytes: int
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ..., samples: _Optional[int] = ..., layer_bytes: _Optional[int] = ...) -> None: ...

class OfferStemRequest(_message.Message):
    __slots__ = ("safetensors",)
    SAFETENSORS_FIELD_NUMBER: _ClassVar[int]
    safetensors: bytes
    def __init__(self, safetensors: _Optional[bytes] = ...) -> None: ...

class OfferStemResponse(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    def __init__(self, digest: _Optional[bytes] = ...) -> None: ...

class GetStemRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    def __init__(self, digest: _Optional[bytes] = ...) -> None: ...

class GetStemResponse(_message.Message):
    __slots__ = ("safetensors",)
    SAFETENSORS_FIELD_NUMBER: _ClassVar[int]
    safetensors: bytes
    def __init__(self, safetensors: _Optional[bytes] = ...) -> None: ...

class PutSealedRequest(_message.Message):
    __slots__ = ("recipient", "kind", "envelope")
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    recipient: str
    kind: SealedKind
    envelope: bytes
    def __init__(self, recipient: _Optional[str] = ..., kind: _Optional[_Union[SealedKind, str]] = ..., envelope: _Optional[bytes] = ...) -> None: ...

class PutSealedResponse(_message.Message):
    __slots__ = ("earlier",)
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    earlier: bool
    def __init__(self, earlier: bool = ...) -> None: ...

class GetSealedRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSealedResponse(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[SealedEnvelope]
    def __init__(self, envelopes: _Optional[_Iterable[_Union[SealedEnvelope, _Mapping]]] = ...) -> None: ...

class SealedEnvelope(_message.Message):
    __slots__ = ("sender", "kind", "envelope")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    sender: str
    kind: SealedKind
    envelope: bytes
    def __init__(self, sender: _Optional[str] = ..., kind: _Optional[_Union[SealedKind, str]] = ..., envelope: _Optional[bytes] = ...) -> None: ...

class LayerHeader(_message.Message):
    __slots__ = ("key_ref", "total_bytes", "sha256")
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    total_bytes: int
    sha256: bytes
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ..., total_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class BeginLayerRequest(_message.Message):
    __slots__ = ("header", "plan_sha256")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    header: LayerHeader
    plan_sha256: bytes
    def __init__(self, header: _Optional[_Union[LayerHeader, _Mapping]] = ..., plan_sha256: _Optional[bytes] = ...) -> None: ...

class BeginLayerResponse(_message.Message):
    __slots__ = ("resume_offset",)
    RESUME_OFFSET_FIELD_NUMBER: _ClassVar[int]
    resume_offset: int
    def __init__(self, resume_offset: _Optional[int] = ...) -> None: ...

class UploadLayerRequest(_message.Message):
    __slots__ = ("sha256", "offset", "data", "final")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    offset: int
    data: bytes
    final: bool
    def __init__(self, sha256: _Optional[bytes] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., final: bool = ...) -> None: ...

class UploadLayerResponse(_message.Message):
    __slots__ = ("released",)
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: bool
    def __init__(self, released: bool = ...) -> None: ...

class DownloadLayerRequest(_message.Message):
    __slots__ = ("sha256", "offset")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    offset: int
    def __init__(self, sha256: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadLayerResponse(_message.Message):
    __slots__ = ("offset", "data", "final")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    final: bool
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., final: bool = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("layers_stored", "epoch_done", "training_done", "failure", "ledger_totals", "key_stored", "key_erased", "network_scored")
    LAYERS_STORED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_DONE_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DONE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    LEDGER_TOTALS_FIELD_NUMBER: _ClassVar[int]
    KEY_STORED_FIELD_NUMBER: _ClassVar[int]
    KEY_ERASED_FIELD_NUMBER: _ClassVar[int]
    NETWORK_SCORED_FIELD_NUMBER: _ClassVar[int]
    layers_stored: LayersStored
    epoch_done: EpochDone
    training_done: TrainingDone
    failure: Failure
    ledger_totals: LedgerTotals
    key_stored: KeyStored
    key_erased: KeyErased
    network_scored: NetworkScored
    def __init__(self, layers_stored: _Optional[_Union[LayersStored, _Mapping]] = ..., epoch_done: _Optional[_Union[EpochDone, _Mapping]] = ..., training_done: _Optional[_Union[TrainingDone, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., ledger_totals: _Optional[_Union[LedgerTotals, _Mapping]] = ..., key_stored: _Optional[_Union[KeyStored, _Mapping]] = ..., key_erased: _Optional[_Union[KeyErased, _Mapping]] = ..., network_scored: _Optional[_Union[NetworkScored, _Mapping]] = ...) -> None: ...

class LayersStored(_message.Message):
    __slots__ = ("plan_sha256",)
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    plan_sha256: bytes
    def __init__(self, plan_sha256: _Optional[bytes] = ...) -> None: ...

class TrainingDone(_message.Message):
    __slots__ = ("model_sha256",)
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    model_sha256: bytes
    def __init__(self, model_sha256: _Optional[bytes] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class LedgerTotals(_message.Message):
    __slots__ = ("messages_sent", "messages_received", "bytes_sent", "bytes_received", "rank")
    MESSAGES_SENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    rank: int
    def __init__(self, messages_sent: _Optional[int] = ..., messages_received: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., bytes_received: _Optional[int] = ..., rank: _Optional[int] = ...) -> None: ...

class KeyStored(_message.Message):
    __slots__ = ("key_ref",)
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ("key_ref", "plan_sha256")
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    plan_sha256: bytes
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ..., plan_sha256: _Optional[bytes] = ...) -> None: ...

class RotateKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("key_ref", "plan_sha256")
    KEY_REF_FIELD_NUMBER: _ClassVar[int]
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    key_ref: _common_pb2.KeyRef
    plan_sha256: bytes
    def __init__(self, key_ref: _Optional[_Union[_common_pb2.KeyRef, _Mapping]] = ..., plan_sha256: _Optional[bytes] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
