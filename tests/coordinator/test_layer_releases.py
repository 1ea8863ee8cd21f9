"""Layers on their way through a run: announced, uploaded, reviewed, released, or refused and followed by right ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mple.plan import Custody
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from tests.support.small_run import (
    SmallRun,
    begin_of,
    chunks_of,
    layer_bytes,
    layer_for,
    plan_for,
    refused,
    settings_in,
    site_party,
    stem_for,
)

NORTH = site_party("north")


@pytest.fixture
def joined(small_run: SmallRun) -> SmallRun:
    small_run.join_all()
    return small_run


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def damaged(data: bytes) -> bytes:
    """A layer file whose last value has another sign and a large exponent."""
    return data[:-1] + bytes([data[-1] ^ 0xC0])


def download(run: SmallRun, data: bytes, offset: int = 0) -> bytes:
    request = coordinator_pb2.DownloadLayerRequest(sha256=sha256(data), offset=offset)
    return b"".join(message.data for message in run.releases.download(request))


def test_layers_are_released_as_they_come(joined: SmallRun) -> None:
    layers = {site: joined.layer(site) for site in ("west", "north", "south")}
    for site, data in layers.items():
        joined.upload(site, data)
    assert joined.story()[-3:] == ["layer west", "layer north", "layer south"]
    for event, (site, data) in zip(joined.events()[-3:], layers.items(), strict=True):
        assert event.layer_released.header == begin_of(joined.run.plan, site, data).header
        assert download(joined, data) == data
        assert download(joined, data, 1000) == data[1000:]


def test_nothing_is_announced_before_there_is_a_plan(small_run: SmallRun) -> None:
    with refused(ErrorCode.WRONG_PHASE, "there is no plan yet"):
        small_run.releases.begin(NORTH, begin_of(plan_for(), "north", b"x"))


def test_in_escrow_no_site_uploads(start_run: Callable[..., SmallRun], tmp_path: Path) -> None:
    run = start_run(settings_in(tmp_path, custody=Custody.ESCROW))
    run.join_all()
    with refused(ErrorCode.LAYER_REJECTED, "the coordinator builds the layers"):
        run.begin("north", run.layer("north"))


def test_stream_without_a_message_is_no_upload(joined: SmallRun) -> None:
    with refused(ErrorCode.STREAM_TRUNCATED, "without a message"):
        joined.releases.upload(NORTH, iter(()))


def test_bytes_follow_the_announcement(joined: SmallRun) -> None:
    data = joined.layer("north")
    with refused(ErrorCode.FILE_OFFSET, "begin it first"):
        joined.releases.upload(NORTH, chunks_of(data))
    joined.begin("north", data)
    with refused(ErrorCode.UNKNOWN_KEY_REF, "not one of site south"):
        joined.releases.upload(site_party("south"), chunks_of(data))


@pytest.mark.parametrize("size", [5_000, 50_000, 1_000_000])
def test_broken_upload_goes_on_in_a_coordinator_that_has_started_again(joined: SmallRun, size: int) -> None:
    data = joined.layer("north")
    joined.begin("north", data)
    half = (message for message in chunks_of(data[:75_000], size=min(size, 50_000)))
    broken = (
        coordinator_pb2.UploadLayerRequest(sha256=sha256(data) if at.sha256 else b"", offset=at.offset, data=at.data)
        for at in half
    )
    with refused(ErrorCode.STREAM_TRUNCATED):
        joined.releases.upload(NORTH, broken)
    joined.restart()
    assert joined.begin("north", data) == 75_000
    joined.upload("north", data)
    assert joined.story()[-1] == "layer north"


def test_repeated_upload_of_a_released_layer_changes_nothing(joined: SmallRun) -> None:
    """A site that starts again, during training too, builds and uploads as before."""
    joined.upload_all()
    joined.run.report_layers_stored(coordinator_pb2.LayersStored(plan_sha256=joined.run.plan.sha256()))
    story = joined.story()
    joined.upload("north", joined.layer("north"))
    joined.restart()
    joined.upload("south", joined.layer("south"))
    assert joined.story() == story


def test_whole_layer_that_was_not_reviewed_is_so_after_a_restart(joined: SmallRun) -> None:
    data = joined.layer("north")
    joined.begin("north", data)
    stream = joined.run.layers.open_upload("north", sha256(data))
    for message in chunks_of(data):
        stream.take(message)
    stream.finish()
    joined.restart()
    assert joined.begin("north", data) == len(data)
    assert "layer north" not in joined.story()
    joined.upload("north", data)
    assert joined.story()[-1] == "layer north"


def test_damaged_layer_whose_digest_is_right_is_refused_and_gone(joined: SmallRun) -> None:
    joined.upload("south", joined.layer("south"))
    good = joined.layer("north")
    bad = damaged(good)
    story = joined.story()
    with refused(ErrorCode.LAYER_REJECTED, "layer of site north"):
        joined.upload("north", bad)
    assert joined.story() == story
    assert joined.begin("north", bad) == 0
    joined.upload("north", good)
    assert joined.story()[-1] == "layer north"
    with refused(ErrorCode.UNKNOWN_KEY_REF):
        download(joined, bad)


def test_damage_on_the_way_is_a_digest_mismatch(joined: SmallRun) -> None:
    good = joined.layer("north")
    joined.begin("north", good)
    (message,) = chunks_of(damaged(good), size=len(good))
    message.sha256 = sha256(good)
    with refused(ErrorCode.FILE_DIGEST_MISMATCH):
        joined.releases.upload(NORTH, iter([message]))
    joined.upload("north", good)
    assert joined.story()[-1] == "layer north"


def test_reference_survives_a_restart(joined: SmallRun) -> None:
    joined.upload("west", joined.layer("west"))
    joined.restart()
    wrong = layer_bytes(layer_for(joined.run.plan, "north", secret=bytes(32)), joined.settings.state)
    with refused(ErrorCode.LAYER_REJECTED, "deviates from that of site west by"):
        joined.upload("north", wrong)
    joined.upload("south", joined.layer("south"))
    with refused(ErrorCode.LAYER_REJECTED, "2 sites' layers agree with each other"):
        joined.upload("north", wrong)


def test_layer_of_the_wrong_stem_is_refused(joined: SmallRun) -> None:
    wrong = layer_bytes(layer_for(joined.run.plan, "north", stem=stem_for("another")), joined.settings.state)
    with refused(ErrorCode.LAYER_REJECTED, "the layer's norm is"):
        joined.upload("north", wrong)


def test_layer_that_gives_way_during_its_review_is_not_announced(joined: SmallRun) -> None:
    """Two processes of one site: the second announces another layer while the first one's is under review."""
    first, second = joined.layer("north"), damaged(joined.layer("north"))
    faults: list[MpleError] = []

    def send() -> None:
        try:
            joined.upload("north", first)
        except MpleError as fault:
            faults.append(fault)

    with joined.releases._reviewer().lock:
        uploading = threading.Thread(target=send)
        uploading.start()
        path = joined.run.layers.path(sha256(first))
        while uploading.is_alive() and not path.exists():
            uploading.join(0.01)
        joined.begin("north", second)
    uploading.join(20)
    assert [fault.code for fault in faults] == [ErrorCode.FILE_OFFSET]
    assert "layer north" not in joined.story()
    joined.upload("north", first)
    assert joined.story()[-1] == "layer north"


def test_failed_run_takes_no_layers(joined: SmallRun) -> None:
    data = joined.layer("north")
    joined.begin("north", data)
    joined.run.fail("site/west", "fire")
    with refused(ErrorCode.RUN_FAILED, "site/west: fire"):
        joined.begin("north", data)
    with refused(ErrorCode.RUN_FAILED, "site/west: fire"):
        joined.releases.upload(NORTH, chunks_of(data))


def test_run_that_fails_during_an_upload_releases_nothing(joined: SmallRun) -> None:
    data = joined.layer("north")
    joined.begin("north", data)

    def messages() -> list[coordinator_pb2.UploadLayerRequest]:
        return list(chunks_of(data))

    def failing() -> object:
        for message in messages():
            if message.final:
                joined.run.fail("site/west", "fire")
            yield message

    with refused(ErrorCode.RUN_FAILED, "site/west: fire"):
        joined.releases.upload(NORTH, failing())  # type: ignore[arg-type]
    stored = joined.run.layers.of_key("north", 1)
    assert stored is not None
    assert not stored.released


def test_a_damaged_layer_is_asked_of_its_site_again_and_given_then(joined: SmallRun) -> None:
    data = joined.layer("north")
    joined.upload("north", data)
    path = joined.run.layers.path(sha256(data))
    path.write_bytes(damaged(data))
    for _ in range(2):  # however often the compute node asks
        with refused(ErrorCode.WRONG_PHASE, "the layer of site north was damaged here and comes again"):
            download(joined, data)
    wanted = [event.layer_wanted for event in joined.events() if event.HasField("layer_wanted")]
    assert [one.header for one in wanted] == [begin_of(joined.run.plan, "north", data).header]
    assert joined.begin("north", data) == 0
    joined.upload("north", data)
    assert download(joined, data) == data


def test_a_damaged_layer_is_no_reference_for_others(joined: SmallRun) -> None:
    first, second, third = (joined.layer(site) for site in ("north", "south", "west"))
    joined.upload("north", first)
    joined.upload("south", second)
    joined.run.layers.path(sha256(first)).write_bytes(damaged(first))
    joined.upload("west", third)
    assert download(joined, third) == third
