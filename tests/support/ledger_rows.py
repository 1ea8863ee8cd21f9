"""Rows of ledgers as statements, for ledgers that no node has written."""


def ledger_row(**changes: object) -> str:
    """A statement that enters one message."""
    values: dict[str, object] = {
        "time_unix_ns": 1, "node": "'site/north'", "run": "''", "phase": "''", "peer": "''", "direction": "'sent'",
        "method": "'Feed'", "kind": "'data'", "call_id": "'a'", "idx": 0, "payload_bytes": 1, "label_bytes": 0,
        "serialized_bytes": 1, "framed_bytes": 6, "samples": 1, "resent_samples": 0, "key_ref": "''", **changes,
    }  # fmt: skip
    return f"INSERT INTO messages VALUES ({','.join(map(str, values.values()))})"
