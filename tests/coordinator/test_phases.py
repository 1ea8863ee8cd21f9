"""The phases: what every event does in every state, and that no walk leaves the allowed ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.phases import (
    AnnounceEpoch,
    AnnounceFault,
    AnnounceLayer,
    AnnounceParty,
    AnnouncePhase,
    ComputeJoined,
    Consequence,
    EpochReported,
    Event,
    KeySealed,
    LayerAccepted,
    LayersStored,
    MakePlan,
    PartyFailed,
    Phase,
    PlanAgreed,
    RunState,
    SiteJoined,
    StemOffered,
    TrainingDone,
    step,
)
from mple.rpc import ErrorCode, MpleError

ALL = frozenset({"a", "b"})
NEW = RunState(sites=("a", "b"), escrow=False, stem_due=False)
LONELY = replace(NEW, joined=frozenset({"a"}))
"""One of two sites is here."""
NEARLY = replace(NEW, joined=ALL)
"""All but the compute node are here."""
GATHERED = replace(NEARLY, compute_joined=True)
STEM_DUE = replace(NEARLY, stem_due=True, compute_joined=True)
SETUP = replace(GATHERED, phase=Phase.SETUP)
HALF = replace(SETUP, released=frozenset({"a"}))
ESCROW = replace(SETUP, escrow=True)
ONE_KEY = replace(ESCROW, keys_sealed=frozenset({"a"}))
KEYS = replace(ESCROW, keys_sealed=ALL)
BUILT = replace(KEYS, released=ALL)
RELEASED = replace(SETUP, released=ALL)
TRAINING = replace(RELEASED, phase=Phase.TRAINING)
FINISHED = replace(TRAINING, phase=Phase.FINISHED)
FAILED = replace(SETUP, phase=Phase.FAILED, reason="site/a: fire")

EPOCH = EpochReported(2, 0.5, 0.75, 1.25)
FAULT = PartyFailed("site/a", "fire")
WRONG, FATAL, UNKNOWN = ErrorCode.WRONG_PHASE, ErrorCode.RUN_FAILED, ErrorCode.UNKNOWN_PARTY
FAULT_NEWS = (AnnounceFault("site/a", "fire"), AnnouncePhase(Phase.FAILED, "site/a: fire"))


def fails(state: RunState) -> tuple[RunState, tuple[Consequence, ...]]:
    return replace(state, phase=Phase.FAILED, reason="site/a: fire"), FAULT_NEWS


def same(state: RunState) -> tuple[RunState, tuple[Consequence, ...]]:
    return state, ()


Expected = tuple[RunState, tuple[Consequence, ...]] | ErrorCode
EVENTS: tuple[Event, ...] = (
    SiteJoined("a"),
    SiteJoined("b"),
    ComputeJoined("c"),
    StemOffered(),
    PlanAgreed(),
    KeySealed("b"),
    LayerAccepted("b"),
    LayersStored(),
    EPOCH,
    TrainingDone(),
    FAULT,
)
TO_SETUP = (replace(GATHERED, phase=Phase.SETUP), (AnnouncePhase(Phase.SETUP),))
B_IS_HERE = (AnnounceParty("site/b"),)
B_IS_OUT = (AnnounceLayer("b"),)
TABLE: dict[str, tuple[RunState, tuple[Expected, ...]]] = {
    # A row: the outcomes of EVENTS in their order.
    "nobody here": (
        NEW,
        (
            (replace(NEW, joined=frozenset({"a"})), (AnnounceParty("site/a"),)),
            (replace(NEW, joined=frozenset({"b"})), B_IS_HERE),
            (replace(NEW, compute_joined=True), (AnnounceParty("compute/c"),)),
            *[WRONG] * 7,
            fails(NEW),
        ),
    ),
    "one site here": (
        LONELY,
        (
            same(LONELY),
            (NEARLY, B_IS_HERE),
            (replace(LONELY, compute_joined=True), (AnnounceParty("compute/c"),)),
            *[WRONG] * 7,
            fails(LONELY),
        ),
    ),
    "compute node missing": (
        NEARLY,
        (
            *[same(NEARLY)] * 2,
            (GATHERED, (AnnounceParty("compute/c"), MakePlan())),
            *[WRONG] * 7,
            fails(NEARLY),
        ),
    ),
    "all here": (GATHERED, (*[same(GATHERED)] * 3, WRONG, TO_SETUP, *[WRONG] * 5, fails(GATHERED))),
    "stem missing": (
        STEM_DUE,
        (
            *[same(STEM_DUE)] * 3,
            (replace(STEM_DUE, stem_offered=True), (MakePlan(),)),
            *[WRONG] * 6,
            fails(STEM_DUE),
        ),
    ),
    "set-up, no layer": (
        SETUP,
        (
            *[same(SETUP)] * 3,
            *[WRONG] * 3,
            (replace(SETUP, released=frozenset({"b"})), B_IS_OUT),
            *[WRONG] * 3,
            fails(SETUP),
        ),
    ),
    "set-up, one layer": (
        HALF,
        (*[same(HALF)] * 3, *[WRONG] * 3, (RELEASED, B_IS_OUT), *[WRONG] * 3, fails(HALF)),
    ),
    "escrow, no key": (
        ESCROW,
        (
            *[same(ESCROW)] * 3,
            *[WRONG] * 2,
            (replace(ESCROW, keys_sealed=frozenset({"b"})), ()),
            (replace(ESCROW, released=frozenset({"b"})), B_IS_OUT),
            *[WRONG] * 3,
            fails(ESCROW),
        ),
    ),
    "escrow, one key": (
        ONE_KEY,
        (
            *[same(ONE_KEY)] * 3,
            *[WRONG] * 2,
            (KEYS, ()),
            (replace(ONE_KEY, released=frozenset({"b"})), B_IS_OUT),
            *[WRONG] * 3,
            fails(ONE_KEY),
        ),
    ),
    "escrow, all keys": (
        KEYS,
        (
            *[same(KEYS)] * 3,
            *[WRONG] * 2,
            same(KEYS),
            (replace(KEYS, released=frozenset({"b"})), B_IS_OUT),
            *[WRONG] * 3,
            fails(KEYS),
        ),
    ),
    "set-up, all layers": (
        RELEASED,
        (
            *[same(RELEASED)] * 3,
            *[WRONG] * 3,
            same(RELEASED),
            (TRAINING, (AnnouncePhase(Phase.TRAINING),)),
            *[WRONG] * 2,
            fails(RELEASED),
        ),
    ),
    "training": (
        TRAINING,
        (
            *[same(TRAINING)] * 3,
            *[WRONG] * 3,
            *[same(TRAINING)] * 2,
            (TRAINING, (AnnounceEpoch(EPOCH),)),
            (FINISHED, (AnnouncePhase(Phase.FINISHED),)),
            fails(TRAINING),
        ),
    ),
    "finished": (
        FINISHED,
        (
            *[same(FINISHED)] * 3,
            *[WRONG] * 3,
            *[same(FINISHED)] * 2,
            WRONG,
            *[same(FINISHED)] * 2,
        ),
    ),
    "failed": (FAILED, (*[FATAL] * 10, same(FAILED))),
}


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        pytest.param(state, event, expected, id=f"{name}: {event}")
        for name, (state, row) in TABLE.items()
        for event, expected in zip(EVENTS, row, strict=True)
    ],
)
def test_every_event_in_every_state(state: RunState, event: Event, expected: Expected) -> None:
    if isinstance(expected, ErrorCode):
        with pytest.raises(MpleError) as refused:
            step(state, event)
        assert refused.value.code is expected
    else:
        assert step(state, event) == expected


@pytest.mark.parametrize("event", [SiteJoined("x"), KeySealed("x"), LayerAccepted("x")])
@pytest.mark.parametrize("state", [NEW, SETUP, ESCROW, TRAINING, FINISHED])
def test_unknown_site_is_refused_in_every_phase(state: RunState, event: Event) -> None:
    with pytest.raises(MpleError, match="site/x") as refused:
        step(state, event)
    assert refused.value.code is UNKNOWN


def test_refusals_say_what_is_wrong() -> None:
    with pytest.raises(MpleError, match="TrainingDone while the run is setup"):
        step(SETUP, TrainingDone())
    with pytest.raises(MpleError, match="site/a: fire"):
        step(FAILED, TrainingDone())


def test_stem_offer_before_all_are_here_waits_for_them() -> None:
    state, consequences = step(replace(NEW, stem_due=True), StemOffered())
    assert state.stem_offered
    assert consequences == ()
    assert step(state, StemOffered()) == (state, ())


def test_keys_that_come_once_all_layers_are_out_build_nothing() -> None:
    state = replace(ONE_KEY, released=ALL)
    assert step(state, KeySealed("b")) == (BUILT, ())
    assert not BUILT.layers_due


@pytest.mark.parametrize("name", TABLE)
def test_states_survive_as_json(name: str) -> None:
    state = TABLE[name][0]
    assert RunState.from_json(state.to_json()) == state


WAYS = {
    (Phase.GATHERING, Phase.SETUP),
    (Phase.GATHERING, Phase.FAILED),
    (Phase.SETUP, Phase.TRAINING),
    (Phase.SETUP, Phase.FAILED),
    (Phase.TRAINING, Phase.FINISHED),
    (Phase.TRAINING, Phase.FAILED),
}
NAMES = st.sampled_from(["a", "b", "x"])
ANY_EVENT: st.SearchStrategy[Event] = st.one_of(
    st.builds(SiteJoined, NAMES),
    st.builds(KeySealed, NAMES),
    st.builds(LayerAccepted, NAMES),
    st.just(ComputeJoined("c")),
    st.just(StemOffered()),
    st.just(PlanAgreed()),
    st.just(LayersStored()),
    st.just(EPOCH),
    st.just(TrainingDone()),
)
LUCKY: tuple[Event, ...] = (
    SiteJoined("a"),
    SiteJoined("b"),
    ComputeJoined("c"),
    StemOffered(),
    PlanAgreed(),
    KeySealed("a"),
    KeySealed("b"),
    LayerAccepted("a"),
    LayerAccepted("b"),
    LayersStored(),
    EPOCH,
    TrainingDone(),
)


@given(
    escrow=st.booleans(),
    stem_due=st.booleans(),
    noise=st.lists(st.lists(ANY_EVENT, max_size=4), min_size=len(LUCKY), max_size=len(LUCKY)),
    failure_at=st.integers(0, 2 * len(LUCKY)),
)
def test_no_walk_leaves_the_allowed_ways(
    escrow: bool, stem_due: bool, noise: list[list[Event]], failure_at: int
) -> None:
    """A lucky run with any events strewn in, and perhaps a failure: most walks get far, none goes astray."""
    walk = [event for lucky, strewn in zip(LUCKY, noise, strict=True) for event in (*strewn, lucky)]
    walk.insert(failure_at, FAULT)
    state = RunState(sites=("a", "b"), escrow=escrow, stem_due=stem_due)
    phases: list[Phase] = []
    layers: list[str] = []
    plans = 0
    for event in walk:
        before = state
        try:
            state, consequences = step(state, event)
        except MpleError:
            continue
        assert before.phase is state.phase or (before.phase, state.phase) in WAYS
        assert before.released <= state.released
        assert before.joined <= state.joined
        phases += [news.phase for news in consequences if isinstance(news, AnnouncePhase)]
        layers += [news.site for news in consequences if isinstance(news, AnnounceLayer)]
        plans += sum(isinstance(news, MakePlan) for news in consequences)
        assert (before.phase is not state.phase) == any(isinstance(news, AnnouncePhase) for news in consequences)
        if state.phase in (Phase.TRAINING, Phase.FINISHED):
            assert state.all_released
        if state.phase is not before.phase and state.phase is Phase.SETUP:
            assert before.gathered
        assert RunState.from_json(state.to_json()) == state
    assert len(phases) == len(set(phases))
    assert sorted(layers) == sorted(state.released)
    assert plans <= 1


@given(st.lists(ANY_EVENT, max_size=8))
def test_nothing_changes_a_failed_run(events: list[Event]) -> None:
    for event in events:
        with pytest.raises(MpleError) as refused:
            step(FAILED, event)
        assert refused.value.code is FATAL
