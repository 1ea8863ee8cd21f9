"""A site's process. Its help waits for no more than the command line takes: what a site runs on is loaded by a verb."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mple.machine import keep_heap_small
from mple.node import node_app, run_app, run_body
from mple.node.stop import Stop
from provider_node.prediction.verb import predict_verb

if TYPE_CHECKING:
    from mple.plan import SiteSettings


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-provider`."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "run":
        keep_heap_small()
    app = node_app("mple-provider", "run", _alone, _several)
    app.command("predict")(predict_verb)

    def of_files(configs: Sequence[Path]) -> int:
        return _several(configs, ()) if len(configs) > 1 else _alone(configs[0], ())

    return run_app("mple-provider", app, words, {"run": of_files})


def _alone(config: Path, overrides: Sequence[str]) -> int:
    from mple.plan import SiteSettings

    return run_body("mple-provider", SiteSettings, config, overrides, run)


def _several(configs: Sequence[Path], overrides: Sequence[str]) -> int:
    from provider_node.several import run_sites

    return run_sites(configs, overrides, run)


def run(settings: "SiteSettings", stop: Stop) -> None:
    """Take part in one run until it has ended. Raises as `provider_node.taking_part.take_part`."""
    from provider_node.taking_part import take_part

    take_part(settings, stop)
