"""The run's state in the state file, and in memory as it was read or written last: it is asked for with every call."""

from dataclasses import replace

from coordinator.memory.state_file import StateFile
from coordinator.phases import RunState
from coordinator.site_keys import Keys
from mple.disk.json_records import canonical_json, record_from_json


class KeptState:
    """A run's state. The keys lie by themselves: of a thousand sites they are most of it, and seldom change."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._newest: tuple[tuple[bytes, bytes], RunState] | None = None
        """A state behind its two texts."""

    def read(self) -> RunState:
        """The state, within a transaction as that has left it by now."""
        with self._file.changed:
            texts = self._file.fact("state") or b"", self._file.fact("keys") or b"[]"
            if self._newest is None or self._newest[0] != texts:
                keys = record_from_json(Keys, texts[1], "the state of the keys")
                self._newest = texts, replace(RunState.from_json(texts[0]), keys=keys)
            return self._newest[1]

    def keep(self, state: RunState) -> None:
        """Write a state, within the caller's transaction."""
        known = self._newest
        same = known is not None and known[1].keys is state.keys
        keys = known[0][1] if known and same else canonical_json(state.keys)
        self._newest = (replace(state, keys=()).to_json(), keys), state
        for name, text in zip(("state", "keys"), self._newest[0], strict=True):
            if self._file.fact(name) != text:
                self._file.keep_fact(name, text)
