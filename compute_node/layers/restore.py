"""A run's layers out of the files that a node keeps, as its list in `run.json` says."""

from pathlib import Path

from compute_node.layers.key_bases import store_layer
from compute_node.layers.layer_bank import LayerBank
from mple.disk.damage import DamagedError
from mple.model.device import CPU, Device
from mple.plan import RunPlan
from mple.plan.key_refs import key_ref
from mple.records.kept_bases import basis_path
from mple.records.layer_list import layer_path, list_of_finished, read_list, whole_layer


def restored_bank(folder: Path, plan: RunPlan, device: Device = CPU) -> LayerBank:
    """A plan's bank with the rotated and revoked keys that the list knows, each under the number that it had.

    A rotated key's layer is in it if its file is whole, that of a revoked one too while it is there: samples under it
    may not be erased yet. The plan's own layers come with the run's events.

    Raises ValueError: the list is damaged.
    """
    bank, listed = LayerBank(plan, device), read_list(folder, plan)
    for layer in listed.rotated:
        bank.add(layer.key_ref)
        path = whole_layer(folder, bytes.fromhex(layer.sha256))
        if path is not None:
            store_layer(bank, plan, layer.key_ref, path, folder)
    for key in listed.revoked:
        planned = key_ref(plan, key.site)
        rotated = [layer.key_ref for layer in listed.rotated if (layer.site, layer.epoch) == (key.site, key.epoch)]
        for reference in [planned] if planned.epoch == key.epoch else rotated:
            digest = listed.digest(plan, reference)
            path = None if digest is None else whole_layer(folder, digest)
            if not key.erased and path is not None:
                store_layer(bank, plan, reference, path, folder)
            bank.refuse(reference)
    return bank


def listed_layers(folder: Path, plan: RunPlan, device: Device = CPU) -> LayerBank:
    """All layers of a plan as the list has them, for a run that has finished.

    Raises ValueError: the list is missing, damaged or another plan's, or a layer's file is missing or damaged.
    """
    listed = list_of_finished(folder, plan)
    bank = restored_bank(folder, plan, device)
    for reference in [*(key_ref(plan, site.name) for site in plan.sites), *(one.key_ref for one in listed.rotated)]:
        if bank.refused(reference):
            continue
        digest = listed.digest(plan, reference) or b""
        path = whole_layer(folder, digest)
        if path is None:
            text = f"holds the layer of site {reference.site}, and is missing or damaged"
            raise DamagedError(layer_path(folder, digest), text)
        if not bank.ready(reference):
            store_layer(bank, plan, reference, path, folder)
        if not bank.ready(reference):
            text = f"holds the basis of site {reference.site}, and is missing or damaged"
            raise DamagedError(basis_path(folder, reference), text)
    return bank
