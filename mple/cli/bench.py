"""`mple bench`: the benchmarks of the checkout that this program runs from; the installed package has none."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import mple
from mple.exit_codes import ExitCode
from mple.extras import require_extra
from mple.simulate.children import tied
from mple.terminal import echo


def bench(
    context: typer.Context, name: Annotated[str | None, typer.Argument(help="Which; without it, all are named.")] = None
) -> int:
    """Run a benchmark; what follows its name goes to it, `--quick` or `--out DIR` for example."""
    folder = Path(mple.__file__).resolve().parent.parent / "benchmarks"
    names = benchmarks_in(folder)
    if not names:
        raise ValueError(f"no benchmarks in {folder}: the package has none, the repository has; run from a checkout")
    if name is None:
        echo(*names)
        return int(ExitCode.DONE)
    if name not in names:
        raise ValueError(f"no benchmark {name!r}; choose one of {', '.join(names)}")
    require_extra("mple bench", "dev", "torch", "matplotlib")
    command = [sys.executable, "-m", f"benchmarks.{name}", *context.args]
    return subprocess.run(tied(command), cwd=folder.parent, check=False).returncode  # noqa: S603


def benchmarks_in(folder: Path) -> tuple[str, ...]:
    """Names of the modules in a folder that are commands with options; what benchmarks share is none."""
    texts = ((path.stem, path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py")))
    return tuple(name for name, text in texts if "ArgumentParser(" in text)
