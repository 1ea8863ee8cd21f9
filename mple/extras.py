"""Extras: packages that few commands need, so that whoever does not use those need not install them."""


def missing_extra(purpose: str, package: str, extra: str) -> str:
    """What somebody is told who wants something and lacks the package for it.

    Args:
        purpose: What they want.
        package: That is not installed.
        extra: Of mple that has it.
    """
    return (
        f"{purpose} needs {package}, which is not installed; run: pip install 'mple[{extra}]', or, in a checkout: "
        f".venv/bin/pip install -e '.[{extra}]'"
    )
