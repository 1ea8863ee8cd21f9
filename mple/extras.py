"""Extras: packages that few commands need, so that whoever does not use those need not install them."""

import importlib.util
import sys


def require_extra(purpose: str, extra: str, *modules: str) -> None:
    """See that what a command needs is there, without loading it, before the command begins.

    Args:
        purpose: What somebody wants, the command's name for example.
        extra: Of mple that has the packages.
        modules: That must be there, named as they are imported.

    Raises ValueError: one of them is not installed.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ValueError(missing_extra(purpose, module, extra))


def missing_extra(purpose: str, package: str, extra: str) -> str:
    """What somebody is told who wants something and lacks the package for it.

    Pip takes the extra's list from the mple that is installed, be it a wheel or a checkout, so the command is the same.

    Args:
        purpose: What they want.
        package: That is not installed.
        extra: Of mple that has it.
    """
    return f"{purpose} needs {package}, which is not installed; run: {sys.executable} -m pip install 'mple[{extra}]'"
