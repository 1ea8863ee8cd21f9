"""`python -m tests.fuzz`: a fuzzing campaign of any length; `make fuzz` calls it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import Figures, campaign
from tests.fuzz.throwaway import throwaway_tls


def main() -> int:
    """Run and report; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="messages to send (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, help="of the generator (default: 1)")
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="folder for calls that found something")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mple-fuzz-") as name:
        folder = Path(name)
        figures = campaign(
            options.messages, options.seed, folder, throwaway_tls(folder / "tls"), finds=options.finds, tell=_tell
        )
    if options.out is not None:
        options.out.write_text(figures.to_json(), encoding="utf-8")
    sys.stdout.write("\n" + figures.to_json())
    return 0 if figures.clean else 1


def _tell(figures: Figures) -> None:
    sys.stdout.write(
        f"\r{figures.messages} messages, {figures.calls} calls, {figures.internal} INTERNAL, "
        f"{figures.unhandled_exceptions} unhandled, {figures.hangs} hangs, RSS {figures.rss_growth_mib:+.1f} MiB "
    )
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
