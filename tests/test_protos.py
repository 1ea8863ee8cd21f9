"""The contract: checked-in code is what the contract generates, names follow buf's STANDARD rules, all is metered."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from comparison.two_party.contents import Exchanged
from comparison.v1 import two_party_pb2
from mple.meter.facts import covered_types
from mple.v1 import common_pb2, compute_pb2, coordinator_pb2, node_pb2

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS: tuple[FileDescriptor, ...] = tuple(
    contract.DESCRIPTOR for contract in (common_pb2, compute_pb2, coordinator_pb2, node_pb2, two_party_pb2)
)
PACKAGES = {"mple": ROOT / "protos", "comparison": ROOT / "comparison" / "protos"}
"""Packages with a contract of their own, and the root of each contract's files."""
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")
LOWER_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def contracts_on_disk() -> set[str]:
    return {path.relative_to(root).as_posix() for root in PACKAGES.values() for path in root.rglob("*.proto")}


def messages() -> Iterator[Descriptor]:
    for contract in CONTRACTS:
        yield from contract.message_types_by_name.values()


def enums() -> Iterator[EnumDescriptor]:
    for contract in CONTRACTS:
        yield from contract.enum_types_by_name.values()


def services() -> Iterator[ServiceDescriptor]:
    for contract in CONTRACTS:
        yield from contract.services_by_name.values()


def methods() -> Iterator[MethodDescriptor]:
    for service in services():
        yield from service.methods


def test_checked_in_code_is_generated_from_the_contract(tmp_path: Path) -> None:
    assert version("grpcio-tools") == "1.74.0", "generate with the oldest supported tool"
    generate: Callable[[Path], list[Path]] = runpy.run_path(str(ROOT / "protos" / "generate.py"))["generate"]

    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in generate(tmp_path)}

    kept = {path.relative_to(ROOT): path.read_bytes() for top in PACKAGES for path in ROOT.glob(f"{top}/v1/*_pb2*.py*")}
    assert sorted(kept) == sorted(fresh)
    assert [name for name in fresh if kept[name] != fresh[name]] == [], "run 'make protos'"
    assert len(fresh) == 3 * len(contracts_on_disk())


def test_every_contract_is_looked_at_here() -> None:
    assert contracts_on_disk() == {contract.name for contract in CONTRACTS}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_file_and_package_names(contract: FileDescriptor) -> None:
    folder, _, file = contract.name.rpartition("/")
    assert contract.package == folder.replace("/", ".")  # PACKAGE_DIRECTORY_MATCH
    assert re.fullmatch(r"[a-z.]+\.v\d+", contract.package)  # PACKAGE_VERSION_SUFFIX
    assert LOWER_SNAKE.fullmatch(file.removesuffix(".proto"))  # FILE_LOWER_SNAKE_CASE


def test_enum_names() -> None:
    for enum in enums():
        assert PASCAL.fullmatch(enum.name)
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        values = {value.number: value.name for value in enum.values}
        assert values[0] == f"{prefix}_UNSPECIFIED"  # ENUM_ZERO_VALUE_SUFFIX
        assert len(values) == len(enum.values), f"{enum.name} names a number twice"  # ENUM_NO_ALLOW_ALIAS
        for name in values.values():
            assert name.startswith(f"{prefix}_")  # ENUM_VALUE_PREFIX
            assert name == name.upper()  # ENUM_VALUE_UPPER_SNAKE_CASE


def test_message_and_field_names() -> None:
    for message in messages():
        assert PASCAL.fullmatch(message.name)
        nested = [inner.name for inner in message.nested_types if not inner.GetOptions().map_entry]
        assert not nested, f"{message.name} nests {nested}"
        for field in message.fields:
            assert LOWER_SNAKE.fullmatch(field.name), f"{message.name}.{field.name}"
        for oneof in message.oneofs:
            assert LOWER_SNAKE.fullmatch(oneof.name), f"{message.name}.{oneof.name}"


def test_service_and_rpc_names() -> None:
    for service in services():
        assert PASCAL.fullmatch(service.name)
        assert service.name.endswith("Service")  # SERVICE_SUFFIX
    for method in methods():
        assert PASCAL.fullmatch(method.name)  # RPC_PASCAL_CASE
        assert method.input_type.name == f"{method.name}Request"  # RPC_REQUEST_STANDARD_NAME
        assert method.output_type.name == f"{method.name}Response"  # RPC_RESPONSE_STANDARD_NAME


def test_no_two_rpcs_share_a_message() -> None:
    used = [kind.full_name for method in methods() for kind in (method.input_type, method.output_type)]
    assert len(used) == len(set(used))  # RPC_REQUEST_RESPONSE_UNIQUE


def test_every_rpc_message_is_metered_and_nothing_else() -> None:
    carried = {kind.full_name for method in methods() for kind in (method.input_type, method.output_type)}
    theirs = {kind.DESCRIPTOR.full_name for kind in get_args(Exchanged)}
    assert covered_types() | theirs == carried
    assert not covered_types() & theirs


def test_no_field_number_of_a_message_is_skipped_unless_reserved() -> None:
    """A gap is a deleted field: its number must be reserved, or an old peer reads something else in it."""
    for message in messages():
        declared = DescriptorProto()
        message.CopyToProto(declared)
        reserved = [number for span in declared.reserved_range for number in range(span.start, span.end)]
        numbers = sorted([*(field.number for field in message.fields), *reserved])
        assert numbers == list(range(1, len(numbers) + 1)), f"{message.name} skips a number; reserve it"
