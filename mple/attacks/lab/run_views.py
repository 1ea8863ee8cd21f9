"""From a finished run's folder to what each adversary holds, and apart from it to the truth.

Morphed pictures are those of the compute node's cache, codes as they crossed the link; layers are the files that it
computes with. Both are read as anyone reads them who has taken the folder. The truth comes from the sites' own folders.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.attacks.lab import adversary
from mple.attacks.lab.adversary import KnownPairs, MorphedPictures, SeenMessage, without_stem
from mple.attacks.lab.cached_codes import CachedTraining, read_caches
from mple.attacks.lab.ground_truth import GroundTruth, SiteTruth
from mple.attacks.means.layer_blocks import with_unused_rows
from mple.data import Dataset, DataSource, LabelledImages, NpzSource, Partition, open_source
from mple.disk.bounded import read_bounded
from mple.machine import require_memory
from mple.meter.ledger_reading import opened_ledger, require_sound_rows
from mple.model.initial_weights import InitialWeights
from mple.model.stem import Stem, planned_stem
from mple.morph import Cores, expected_weight_shape
from mple.morph.augmented import AugmentedLayer, fold
from mple.morph.basis import Basis
from mple.plan import ComputeSettings, RunPlan, SiteSettings, read_settings
from mple.plan.fit import check_images
from mple.plan.orders import channel_order, label_order
from mple.privacy.protection import pairs_that_open
from mple.records.layer_list import layer_path, list_of_finished, read_planned_layer, whole_layer
from mple.records.run_folder import COMPUTE, RunFolder, RunFolderError
from mple.records.state_files import BASIS, CACHE, LAYERS
from mple.wire.basis_file import basis_of, most_basis_bytes
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding

_MOST_PUBLIC = 10_000
_MOST_ABOUT_BYTES = 1024 * 1024
"""Of what a layer's file holds beside its weight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicPictures:
    """Pictures of the same kind that are in no site's training set."""

    pixels_PCHW: NDArray[np.uint8]
    labels_P: NDArray[np.int64]
    source: str
    """In words."""


class RunViews:
    """One run's views under given settings. Files are read when they are first needed. Each of them, `truth` and
    `public` raise a RunFolderError where the folder lacks what they need."""

    def __init__(self, folder: Path, *, site: str, pictures: int = 256, public: Path | None = None) -> None:
        """Look at a folder.

        Args:
            folder: Of a run that `mple simulate` has finished.
            site: The one under attack.
            pictures: How many of its pictures are to be left to recover, where there are so many.
            public: A .npz file with other public pictures, as `[data]` of kind `npz`.

        Raises RunFolderError: it holds no plan, or the plan has no such site; ValueError: its plan is for more than any
        machine, or than this one, can hold.
        """
        self._run, self._public_file = RunFolder.finished(folder), public
        self._site, self._pictures = site, pictures
        self._layers = self._run.state(COMPUTE) / LAYERS
        self.plan = self._run.plan()
        check_images(self.plan.image, self.plan)
        cores = 1 if self.plan.morph.scheme().cores is Cores.IDENTICAL else self.plan.geometry.blocks
        needed = 3 * 8 * cores * self.plan.geometry.core_side**2
        require_memory(needed, "the cores of this run's layout, to be recovered and scored,", "attack a smaller run")
        if site not in {site.name for site in self.plan.sites}:
            names = ", ".join(site.name for site in self.plan.sites)
            raise RunFolderError(f"site = {site!r}; the run has {names}")

    @cached_property
    def truth(self) -> GroundTruth:
        """All secrets, for scoring.

        Raises RunFolderError: a vault is encrypted or gone, or the sites' pictures can't be read.
        """
        plan = self.plan
        sites = {
            site.name: SiteTruth(
                train=self._datasets[site.name].train,
                key=self._run.vault(site.name).morph_key(self._travelled[site.name].epoch),
                key_epoch=self._travelled[site.name].epoch,
                basis=self._basis(site.name),
            )
            for site in plan.sites
        }
        secret = self._run.vault(plan.sites[0].name).consortium_secret(plan.run_id)
        return GroundTruth(
            plan=plan,
            sites=sites,
            stem=self._stem,
            channel_order_F=channel_order(plan, secret),
            label_order=label_order(plan, secret),
        )

    @cached_property
    def public(self) -> PublicPictures:
        """Test pictures of the common set that no site holds; where sites hold all of them, those that they test on. No
        picture is among them that is equal to a training picture of any site."""
        if self._public_file is not None:
            own = self._sources[self._site]
            other = open_source(NpzSource(path=self._public_file, classes=own.classes, most_bytes=own.most_bytes))
            images, source = other.train, f"pictures of {self._public_file.name}"
        else:
            images, source = self._other_test_pictures()
        pixels = images.pixels_NCHW
        trained = {digest for one in self._datasets.values() for digest in _digests(one.train.pixels_NCHW)}
        foreign = np.array([digest not in trained for digest in _digests(pixels)], np.bool_)
        if pixels.shape[1:] != (self.plan.channels, self.plan.height, self.plan.width):
            raise RunFolderError(f"public pictures of shape {pixels.shape[1:]}; the run's are {self.plan.image}")
        return PublicPictures(
            pixels_PCHW=pixels[foreign][:_MOST_PUBLIC], labels_P=images.labels[foreign][:_MOST_PUBLIC], source=source
        )

    def _other_test_pictures(self) -> tuple[LabelledImages, str]:
        source = replace(self._sources[self._site], partition=Partition(), most_train=1, most_test=None, most_val=0)
        everything = open_source(source).test
        held = {digest for one in self._datasets.values() for digest in _digests(one.test.pixels_NCHW)}
        free = np.array([digest not in held for digest in _digests(everything.pixels_NCHW)], np.bool_)
        if free.sum() >= min(500, len(everything) // 2):
            unheld = everything.take(np.flatnonzero(free).astype(np.int64))
            return unheld, f"{len(unheld):,} test pictures of the set that no site holds"
        return everything, f"the {len(everything):,} test pictures of the set, which sites hold but do not train on"

    def morphed_of(self, site: str, numbers_N: NDArray[np.int64]) -> Tensor:
        """Morphed blocks t_NKQ of some samples of a site, for a gallery."""
        whole = self._morphed(site)
        return whole.t_NKQ[np.searchsorted(whole.numbers_N, numbers_N)]

    def outsider(self) -> adversary.Outsider:
        """Who has the morphed pictures of the site under attack."""
        return adversary.Outsider(
            plan=without_stem(self.plan),
            morphed=self._morphed(self._site),
            public_PCHW=self.public.pixels_PCHW,
            public_labels_P=self.public.labels_P,
        )

    def outsider_with_pairs(self) -> adversary.OutsiderWithPairs:
        """Of the site's pictures the first are known: a third more than theory asks for, where there are so many."""
        whole = self._morphed(self._site)
        wanted = pairs_that_open(self.plan) * 4 // 3 + 4
        known = max(0, min(wanted, len(whole) - min(self._pictures, len(whole) // 4)))
        train = self._datasets[whole.site].train
        return adversary.OutsiderWithPairs(
            plan=without_stem(self.plan),
            morphed=_part(whole, slice(known, None)),
            public_PCHW=self.public.pixels_PCHW,
            pairs=KnownPairs(pixels_NCHW=train.pixels_NCHW[whole.numbers_N[:known]], t_NKQ=whole.t_NKQ[:known]),
        )

    def compute_node(self) -> adversary.ComputeNode:
        """Who trains, and does not know the stem."""
        names = [site.name for site in self.plan.sites if len(self._travelled[site.name].numbers_N)]
        epochs = {name: self._travelled[name].epoch for name in names}
        folded_by = {} if self.plan.coefficient_layers else {name: self._basis(name) for name in names}
        return adversary.ComputeNode(
            plan=without_stem(self.plan),
            sites={name: self._morphed(name) for name in names},
            layers=LayerFiles(self._layers, self.plan, epochs, folded_by),
            public_PCHW=self.public.pixels_PCHW,
        )

    def compute_node_with_stem(self) -> adversary.ComputeNodeWithStem:
        """Who trains and knows the stem."""
        held = self.compute_node()
        return adversary.ComputeNodeWithStem(
            plan=self.plan, sites=held.sites, layers=held.layers, public_PCHW=held.public_PCHW, stem=self._stem
        )

    def colluding_compute(self) -> adversary.ColludingCompute:
        """The plan's first site that is not under attack tells everything."""
        held = self.compute_node()
        names = [name for name in held.sites if name != self._site]
        colluder = names[0] if names else self._site
        return adversary.ColludingCompute(
            plan=held.plan,
            sites=held.sites,
            layers=held.layers,
            public_PCHW=held.public_PCHW,
            colluder=colluder,
            key=self.truth.sites[colluder].key,
            key_epoch=self.truth.sites[colluder].key_epoch,
            basis=self.truth.sites[colluder].basis,
            channel_order_F=self.truth.channel_order_F,
        )

    def wire_observer(self) -> adversary.WireObserver:
        """Who sees the sites' links."""
        return adversary.WireObserver(
            plan=without_stem(self.plan),
            messages=tuple(_seen_messages(self._run.ledger)),
            public_PCHW=self.public.pixels_PCHW,
        )

    def _morphed(self, site: str) -> MorphedPictures:
        travelled, codec, geometry = self._travelled[site], codec_named(self.plan.wire.codec), self.plan.geometry
        basis = self._basis(site)
        if basis is not None:
            codec = codec.fitted(Coding.from_bytes(basis.coding, cores=basis.cores, core_side=basis.core_side))
        t_NKQ = torch.from_numpy(codec.decode(travelled.coded, geometry.blocks))
        return MorphedPictures(
            site=site,
            numbers_N=travelled.numbers_N,
            t_NKQ=functional.pad(t_NKQ, (0, geometry.core_side - t_NKQ.shape[2])),
            labels_N=travelled.labels_N,
        )

    def _basis(self, site: str) -> Basis | None:
        """Of the key under attack, from the site's state; None where the plan's codec has none. Of it the parties hold
        how coefficients are coded, and in escrow custody the compute node all of it."""
        plan = self.plan
        if not codec_named(plan.wire.codec).needs_coding:
            return None
        geometry = plan.geometry
        cores, side = geometry.cores(plan.morph.scheme()), geometry.core_side
        path = self._run.state(site) / BASIS.format(plan.run_id, self._travelled[site].epoch)
        if not path.is_file():
            raise RunFolderError(f"{path} is not there: what {site} sent is coefficients along that basis")
        return basis_of(read_bounded(path, 32 + most_basis_bytes(cores, side))[32:], cores=cores, core_side=side)

    @cached_property
    def _travelled(self) -> Mapping[str, CachedTraining]:
        caches = []
        for rank, state in enumerate(self._run.compute_states):
            path = state / CACHE.format(self.plan.run_id)
            if not path.is_file():
                raise RunFolderError(f"{path} is not there: attacks need the run's folder as the simulation left it")
            caches.append((path, list_of_finished(state / LAYERS, self.plan), self._run.cache_secret(rank)))
        return read_caches(caches, self.plan)

    @cached_property
    def _sources(self) -> dict[str, DataSource]:
        return {site.name: read_settings(SiteSettings, self._run.config(site.name)).data for site in self.plan.sites}

    @cached_property
    def _datasets(self) -> dict[str, Dataset]:
        read = {name: open_source(source) for name, source in self._sources.items()}
        for site in self.plan.sites:
            if len(read[site.name].train) != site.train_images:
                raise RunFolderError(
                    f"the data of {site.name} have {len(read[site.name].train)} training pictures, the plan "
                    f"{site.train_images}: they are not those of the run any more"
                )
        return read

    @cached_property
    def _stem(self) -> Stem:
        settings, offered = read_settings(ComputeSettings, self._run.config(COMPUTE)), None
        if settings.weights_file is not None:
            offered = InitialWeights.from_file(settings.weights_file).stem
        elif settings.stem_file is not None:
            offered = Stem.from_safetensors(settings.stem_file)
        return planned_stem(self.plan.model, filters=self.plan.filters, channels=self.plan.channels, offered=offered)


View = TypeVar("View")


@dataclass(frozen=True, slots=True)
class Adversary(Generic[View]):
    """Who an attack is for."""

    words: str
    """For tables and pages."""
    view: Callable[[RunViews], View]


WIRE_OBSERVER = Adversary("observer of sizes and times", RunViews.wire_observer)
OUTSIDER = Adversary("outsider with morphed pictures", RunViews.outsider)
OUTSIDER_WITH_PAIRS = Adversary("outsider with known pairs", RunViews.outsider_with_pairs)
COMPUTE_NODE = Adversary("compute node, stem unknown", RunViews.compute_node)
COMPUTE_NODE_WITH_STEM = Adversary("compute node, stem known", RunViews.compute_node_with_stem)
COLLUDING_COMPUTE = Adversary("compute node and one site", RunViews.colluding_compute)


class LayerFiles(Mapping[str, AugmentedLayer]):
    """The compute node's layers by site, each read when it is asked for and not kept: one may be as large as 805 MB.
    Layers for coefficients have rows of zeros to the core's side, as codes have."""

    def __init__(
        self, layers: Path, plan: RunPlan, epochs: Mapping[str, int], folded_by: Mapping[str, Basis | None]
    ) -> None:
        self._layers, self._plan, self._epochs, self._folded_by = layers, plan, epochs, folded_by
        self._list = list_of_finished(layers, plan)

    def __getitem__(self, site: str) -> AugmentedLayer:
        digest = self._list.layer_of(site, self._epochs[site])
        named, plan = layer_path(self._layers, digest), self._plan
        shape = expected_weight_shape(plan.morph.scheme(), plan.image, plan.filters, plan.model.kernel)
        if named.is_file() and named.stat().st_size > 4 * math.prod(shape) + _MOST_ABOUT_BYTES:
            raise RunFolderError(
                f"{named} has {named.stat().st_size:,} bytes, which is more than this plan's layers have"
            )
        path = whole_layer(self._layers, digest)
        if path is None:
            raise RunFolderError(f"{named} is missing or damaged: it is the layer of {site}")
        layer, basis = read_planned_layer(path, self._plan), self._folded_by.get(site)
        return with_unused_rows(layer if basis is None else fold(layer, basis))

    def __iter__(self) -> Iterator[str]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)


def _part(morphed: MorphedPictures, places: slice) -> MorphedPictures:
    return MorphedPictures(
        site=morphed.site,
        numbers_N=morphed.numbers_N[places],
        t_NKQ=morphed.t_NKQ[places],
        labels_N=morphed.labels_N[places],
    )


def _seen_messages(ledger: Path) -> Iterator[SeenMessage]:
    """Every message of the sites' links once, as the sites' own ledgers have it."""
    require_sound_rows(ledger)
    with opened_ledger(ledger) as ledgers:
        rows = ledgers.execute(
            "SELECT time_unix_ns, node, peer, direction, framed_bytes FROM messages WHERE node LIKE 'site/%' "
            "ORDER BY time_unix_ns"
        ).fetchall()
    first = rows[0][0] if rows else 0
    for time_ns, node, peer, direction, size in rows:
        sender, receiver = (node, peer) if direction == "sent" else (peer, node)
        yield SeenMessage(time_s=(time_ns - first) / 1e9, sender=sender, receiver=receiver, bytes=size)


def _digests(pixels_NCHW: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.sha256(picture.tobytes()).digest() for picture in np.ascontiguousarray(pixels_NCHW)]
