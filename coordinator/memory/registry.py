"""Who has joined, with what profile, under which certificate."""

from dataclasses import dataclass

from coordinator.memory.state_file import StateFile, as_bytes, as_text
from mple.data.images import PatientSplit
from mple.data.limits import MOST_CHANNELS, MOST_CLASSES, MOST_IMAGES, MOST_LABELS, MOST_LOGITS, MOST_SIDE
from mple.plan import ModelSettings, RunSettings, TaskKind
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.printable import require_printable, some_of
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.v1 import coordinator_pb2


@dataclass(frozen=True, slots=True)
class Member:
    """A party that has joined."""

    label: str
    profile: bytes
    """SiteProfile or ComputeProfile, serialized deterministically."""
    certificate_der: bytes


def check_version(version: int) -> None:
    """Refuse a party that does not speak this program's protocol. Raises MpleError: PROTOCOL_VERSION."""
    if version < PROTOCOL_VERSION:
        raise MpleError(
            ErrorCode.PROTOCOL_VERSION,
            f"the party speaks {version}, the coordinator {PROTOCOL_VERSION}",
            fix="upgrade the party's programs",
        )


def check_expected(party: Party, run: RunSettings) -> None:
    """Refuse a party that the configuration does not name. Raises MpleError: UNKNOWN_PARTY."""
    if party.role is Role.SITE and party.name not in run.sites:
        raise MpleError(ErrorCode.UNKNOWN_PARTY, f"{party.label}; the run has the sites {some_of(run.sites)}")
    if party.role is Role.COMPUTE and party.name != run.compute:
        raise MpleError(ErrorCode.UNKNOWN_PARTY, f"{party.label}; the run has compute/{run.compute}")


def check_site_profile(
    profile: coordinator_pb2.SiteProfile, party: Party, first: tuple[str, coordinator_pb2.SiteProfile] | None
) -> None:
    """Check a site's profile by itself and against the first site's.

    Args:
        profile: What the site announces.
        party: The site, by its certificate.
        first: Name and profile of another site that has joined before, if any.

    Raises MpleError: UNKNOWN_KEY_REF, EMPTY_SITE, SCHEMA_MISMATCH, or MESSAGE_MALFORMED for values out of range.
    """
    reference = profile.key_ref
    if reference.site != party.name:
        raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"{party.label} names a key of site {reference.site[:80]!r}")
    if reference.epoch < 1 or len(reference.fingerprint) != 32:
        raise MpleError(
            ErrorCode.UNKNOWN_KEY_REF,
            f"key epoch {reference.epoch}, fingerprint of {len(reference.fingerprint)} bytes; needs 1 or more, and 32",
        )
    sides = (profile.height, profile.width)
    if not 1 <= profile.channels <= MOST_CHANNELS or min(sides) < 1 or max(sides) > MOST_SIDE:
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED,
            f"images of {_shape(profile)} (channels x height x width); allowed are 1 to {MOST_CHANNELS} channels and "
            f"sides of 1 to {MOST_SIDE}",
        )
    names = list(profile.classes)
    if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) != len(names):
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"{len(names)} class names; needs two or more, each once")
    try:
        for name in names:
            require_printable("class", name)
    except ValueError as fault:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, str(fault)) from None
    if profile.task not in set(TaskKind):
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"task {profile.task[:20]!r}; use {', '.join(TaskKind)}")
    if profile.task == TaskKind.LABELS and (
        len(names) > MOST_LABELS or profile.train_images * len(names) > MOST_LOGITS
    ):
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED,
            f"{len(names)} labels of {profile.train_images} training images; allowed are {MOST_LABELS} labels, and "
            f"{MOST_LOGITS} of all training images",
        )
    if profile.train_images < 1:
        raise MpleError(ErrorCode.EMPTY_SITE, f"{party.label} brings {profile.train_images} training images")
    images = (profile.train_images, profile.val_images, profile.test_images)
    if max(images) > MOST_IMAGES or max(images[1:]) * len(names) > MOST_LOGITS:
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED,
            f"{images[0]} training, {images[1]} validation and {images[2]} test images of {len(names)} classes; "
            f"allowed are {MOST_IMAGES} of a split, and {MOST_LOGITS} scores of validation or test images",
        )
    if profile.patients not in set(PatientSplit):
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED, f"patients {profile.patients[:20]!r}; use {', '.join(PatientSplit)}"
        )
    if first is not None:
        _compare(party.name, profile, *first)


def check_task(profile: coordinator_pb2.SiteProfile, party: Party, task: TaskKind) -> None:
    """Check that a site's data can be learned for the run's task. Raises MpleError: SCHEMA_MISMATCH."""
    if profile.task != task:
        other = "a column for each label" if task is TaskKind.LABELS else "one class for each picture"
        raise MpleError(
            ErrorCode.SCHEMA_MISMATCH,
            f"the data of {party.label} are for a task of {profile.task}, the run has task.kind = {task}",
            fix=f'set task.kind = "{profile.task}" in the coordinator\'s file, or give the site data with {other}',
        )


def check_stem_digest(profile: coordinator_pb2.ComputeProfile, model: ModelSettings, offered: bytes | None) -> None:
    """Check that the compute node's stem is the one that it has offered, or none where the run has one without.

    Raises MpleError: STEM_REJECTED.
    """
    if not model.stem_offered:
        if profile.stem_digest:
            raise MpleError(
                ErrorCode.STEM_REJECTED,
                "the run has a stem without an offer",
                fix='set model.stem = "offered" or offer none',
            )
    elif offered is None or profile.stem_digest != offered:
        raise MpleError(
            ErrorCode.STEM_REJECTED,
            f"the run wants an offered stem; the compute node joins with {profile.stem_digest.hex()[:16] or 'none'}, "
            f"offered was {offered.hex()[:16] if offered else 'none'}",
        )


def check_weights_digest(profile: coordinator_pb2.ComputeProfile, model: ModelSettings) -> None:
    """Check that the compute node has a file of weights where the network begins with one, and none otherwise.

    Raises MpleError: WEIGHTS_REJECTED.
    """
    digest = profile.weights_digest
    if len(digest) == (32 if model.from_file else 0):
        return
    found = f"joins with {digest[:8].hex() or 'none'}"
    if model.from_file:
        raise MpleError(
            ErrorCode.WEIGHTS_REJECTED,
            f'the run has model.weights = "{model.weights}"; the compute node {found}, a digest has 32 bytes',
            fix="set weights_file in the compute node's configuration",
        )
    raise MpleError(
        ErrorCode.WEIGHTS_REJECTED,
        f'the run has model.weights = "seed"; the compute node {found}',
        fix='set model.weights = "features" or "network", or leave weights_file out',
    )


def check_ranks(profile: coordinator_pb2.ComputeProfile, ranks: int) -> None:
    """Check that the compute node trains with as many ranks as the run does. Raises MpleError: RANKS_REJECTED."""
    if profile.ranks != ranks:
        torchrun = f"start it with torchrun --nproc-per-node={ranks} -m compute_node serve"
        raise MpleError(
            ErrorCode.RANKS_REJECTED,
            f"the run has training.ranks = {ranks}, the compute node joins with {profile.ranks}",
            fix=f"{torchrun if ranks > 1 else 'start it without torchrun'}, or set training.ranks = {profile.ranks} "
            "in the coordinator's file",
        )


class Registry:
    """The parties that have joined, kept in the state file."""

    def __init__(self, file: StateFile) -> None:
        self._file = file

    def member(self, label: str) -> Member | None:
        """A party that has joined."""
        rows = self._file.rows("SELECT profile, certificate FROM parties WHERE label = ?", label)
        return Member(label, as_bytes(rows[0][0]), as_bytes(rows[0][1])) if rows else None

    def site_profiles(self) -> dict[str, coordinator_pb2.SiteProfile]:
        """Profiles of the sites that have joined, by name."""
        rows = self._file.rows("SELECT label, profile FROM parties WHERE label LIKE 'site/%'")
        return {
            as_text(label).removeprefix("site/"): coordinator_pb2.SiteProfile.FromString(as_bytes(profile))
            for label, profile in rows
        }

    def other_site(self, name: str) -> tuple[str, coordinator_pb2.SiteProfile] | None:
        """Name and profile of the site that joined first, but for the named one; None before there is any."""
        query = "SELECT label, profile FROM parties WHERE label LIKE 'site/%' AND label <> ? ORDER BY rowid LIMIT 1"
        for label, profile in self._file.rows(query, f"site/{name}"):
            return as_text(label).removeprefix("site/"), coordinator_pb2.SiteProfile.FromString(as_bytes(profile))
        return None

    def compute_profile(self, name: str) -> coordinator_pb2.ComputeProfile:
        """Of the compute node; an empty one when it has not joined."""
        member = self.member(f"compute/{name}")
        return coordinator_pb2.ComputeProfile.FromString(b"" if member is None else member.profile)

    def admit(
        self,
        party: Party,
        profile: coordinator_pb2.SiteProfile | coordinator_pb2.ComputeProfile,
        certificate_der: bytes,
    ) -> bool:
        """Store a checked profile; False when the party had joined with the same, whose certificate is then renewed.

        Raises MpleError: ALREADY_JOINED when it had joined with another.
        """
        content = profile.SerializeToString(deterministic=True)
        with self._file.transaction() as connection:
            before = self.member(party.label)
            if before is None:
                connection.execute("INSERT INTO parties VALUES (?, ?, ?)", (party.label, content, certificate_der))
                return True
            if before.profile != content:
                joined = type(profile).FromString(before.profile)
                changed = [
                    one.name
                    for one in profile.DESCRIPTOR.fields
                    if getattr(joined, one.name) != getattr(profile, one.name)
                ]
                raise MpleError(
                    ErrorCode.ALREADY_JOINED,
                    f"{party.label} had another {', '.join(changed)}",
                    fix="start it as it was, or begin a new run for a new profile",
                )
            connection.execute("UPDATE parties SET certificate = ? WHERE label = ?", (certificate_der, party.label))
            return False

    def certificate_of(self, label: str) -> bytes:
        """The DER certificate under which a party joined. Raises MpleError: UNKNOWN_PARTY."""
        member = self.member(label)
        if member is None:
            raise MpleError(ErrorCode.UNKNOWN_PARTY, f"{label} has not joined")
        return member.certificate_der

    def site_certificates(self) -> dict[str, bytes]:
        """DER certificates of the sites that have joined, by label."""
        rows = self._file.rows("SELECT label, certificate FROM parties WHERE label LIKE 'site/%' ORDER BY label")
        return {as_text(label): as_bytes(der) for label, der in rows}


def _compare(
    name: str, profile: coordinator_pb2.SiteProfile, other: str, reference: coordinator_pb2.SiteProfile
) -> None:
    if _shape(profile) != _shape(reference):
        raise MpleError(
            ErrorCode.SCHEMA_MISMATCH,
            f"site {name} has images of {_shape(profile)} (channels x height x width), site {other} has "
            f"{_shape(reference)}",
        )
    mine, theirs = list(profile.classes), list(reference.classes)
    if mine != theirs:
        at = next((i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), None)
        what = f"{len(mine)} classes against {len(theirs)}"
        if at is not None:
            what = f"class {at}: {mine[at]!r} against {theirs[at]!r}"
        raise MpleError(ErrorCode.SCHEMA_MISMATCH, f"site {name} against site {other}: {what}")


def _shape(profile: coordinator_pb2.SiteProfile) -> str:
    return f"{profile.channels} x {profile.height} x {profile.width}"
