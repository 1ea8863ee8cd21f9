"""The ranks of a simulated compute node, started as `torchrun` starts them: a process of its own, by torch's launcher.

    python -m mple.simulate.rank_launcher --nproc-per-node=2 --max-restarts=3 -m compute_node serve node.toml

It differs from the command `torchrun` in its exit code, which is that of the rank with which the end began, for scripts
and for whoever looks for the failed node.
"""

import sys

from mple.exit_codes import ExitCode

_THIS_MACHINE = ("--standalone", "--local-addr=127.0.0.1")
_OF_OTHERS = {ExitCode.RUN_FAILED, ExitCode.UNREACHABLE, ExitCode.INTERRUPTED}
"""With what a rank ends because another did."""


def main(arguments: list[str]) -> int:
    """Start the ranks, start them again as long as `--max-restarts` allows, and return the exit code."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main([*_THIS_MACHINE, *arguments])
    except ChildFailedError as failed:
        return exit_code([failure.exitcode for failure in failed.failures.values()])
    except SignalException:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


def exit_code(codes: list[int]) -> int:
    """Of ranks that have ended with these codes, a signal's number below 0, the one from which the others' follow."""
    own = [code for code in codes if code > 0 and code not in _OF_OTHERS]
    first = next(iter([*own, *(code for code in codes if code > 0), *codes]))
    return 128 - first if first < 0 else first


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
