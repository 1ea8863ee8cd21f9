"""`mple privacy`: what noise a budget means for a site's pictures, before anything is sent."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from mple.cli.data import KindOption, sections
from mple.data import DataSource, open_source
from mple.plan import (
    MorphSettings,
    NoiseShape,
    NormalisationSettings,
    PrivacyMode,
    PrivacySettings,
    WireSettings,
    settings_from,
)
from mple.privacy import NoiseDistribution, Spectrum, gaussian_least_error, measure_spectrum, most_success
from mple.report.tables import say, table_of
from mple.terminal import wide_console

app = typer.Typer(no_args_is_help=True, help="The hardened mode: noise that bounds what leaves a site.")
_BUDGETS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
_TRIED = 64
"""Pictures that noise is tried on."""
_MOST_FOR_COVARIANCE = 8192
_LEAST_FOR_SSIM = 11
"""Pixels a side."""


@app.callback()
def about() -> None:
    """Keeps `plan` a verb of its own while it is the only one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    """The sections of a configuration that decide what noise does."""

    data: DataSource
    normalisation: NormalisationSettings = field(default_factory=NormalisationSettings)
    morph: MorphSettings = field(default_factory=MorphSettings)
    wire: WireSettings = field(default_factory=WireSettings)


@app.command()
def plan(
    config: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="A site's or a simulation's configuration, with [data].")
    ] = None,
    budget_bits: Annotated[
        list[float] | None, typer.Option("--budget-bits", metavar="BITS", help="A budget per picture; repeat.")
    ] = None,
    shape: Annotated[NoiseShape | None, typer.Option(help="Only this shape of noise.")] = None,
    kind: KindOption = None,
    path: Annotated[Path | None, typer.Option(help="File or folder.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="As data.side_px=64; repeat.")
    ] = None,
) -> None:
    """Set budgets against the noise that they need, and against what is left of the pictures."""
    inputs = _inputs(config, kind, path, overrides or [])
    pixels_NCHW = open_source(inputs.data).train.pixels_NCHW
    spectrum = measure_spectrum(pixels_NCHW, inputs.normalisation)
    distributions = [
        NoiseDistribution(
            spectrum=spectrum,
            privacy=PrivacySettings(mode=PrivacyMode.NOISE, shape=one, budget_bits=bits),
            normalisation=inputs.normalisation,
        )
        for bits in sorted(budget_bits or _BUDGETS)
        for one in ([shape] if shape else NoiseShape)
    ]
    _print(distributions, spectrum, pixels_NCHW, inputs, wide_console())


def _inputs(config: Path | None, kind: str | None, path: Path | None, overrides: list[str]) -> _Inputs:
    raw = sections(config, kind, path)
    if config is None:
        return settings_from(_Inputs, raw, overrides, where="options")
    known: dict[str, object] = {name: raw[name] for name in ("data", "normalisation", "morph", "wire") if name in raw}
    return settings_from(_Inputs, known, overrides, base=config.parent, where=str(config))


def _print(
    distributions: list[NoiseDistribution],
    spectrum: Spectrum,
    pixels_NCHW: NDArray[np.uint8],
    inputs: _Inputs,
    console: Console,
) -> None:
    # These load torch, or take a while; a wrong option is told before.
    from mple.privacy.forecast import forecast, picture_eigenvalues
    from mple.privacy.picture_scores import psnr, ssim

    count = len(pixels_NCHW)
    tried_NCHW = pixels_NCHW[np.linspace(0, count - 1, min(_TRIED, count)).astype(np.int64)]
    eigenvalues = picture_eigenvalues(pixels_NCHW[:: -(-count // _MOST_FOR_COVARIANCE)])
    table = table_of("noise by budget, per picture", ())
    table.add_column("budget, bits", justify="right")
    table.add_column("shape")
    for heading in ("deviation, grey levels", "noisy PSNR, dB", "noisy SSIM", "best PSNR, dB", "named among all"):
        table.add_column(heading, justify="right")
    table.add_column(f"{inputs.wire.codec} bits a value", justify="right")
    plain_bits = 0.0
    for distribution in distributions:
        tried = forecast(tried_NCHW, distribution, inputs.morph, inputs.wire)
        plain_bits = tried.plain_bits_per_value
        chance = most_success(distribution.privacy.budget_bits, 1 / count)
        table.add_row(
            f"{distribution.privacy.budget_bits:g}",
            str(distribution.privacy.shape),
            f"{distribution.deviation_px():.1f}",
            f"{psnr(tried_NCHW, tried.noisy_NCHW).mean():.1f}",
            f"{ssim(tried_NCHW, tried.noisy_NCHW).mean():.3f}" if min(tried_NCHW.shape[2:]) >= _LEAST_FOR_SSIM else "-",
            _best_psnr(eigenvalues, distribution.privacy.budget_bits),
            "no bound" if chance == 1.0 else f"{100 * chance:.2f} %",
            f"{tried.bits_per_value:.2f}",
        )
    console.print(table)
    for sentence in (
        f"noisy: {len(tried_NCHW)} of the pictures as whoever undoes the morphing sees them, before any denoising",
        "best PSNR: of the least mean squared error of any estimate, if pictures were Gaussian with this covariance; "
        "real ones are not, and a denoiser that knows such pictures may do better",
        f"named among all: most chance of any adversary to tell which of the {count:,} pictures it has, each as likely",
        f"without noise: {plain_bits:.2f} bits a value under {inputs.wire.codec}",
        f"{spectrum.dependent} of {spectrum.pictures:,} pictures would change the noise by their absence",
    ):
        say(console, sentence)


def _best_psnr(eigenvalues: NDArray[np.float64] | None, bits: float) -> str:
    """For a picture whose covariance was taken apart; its noise is far above the rounding of pixels."""
    if eigenvalues is None or not eigenvalues.any():
        return "-"
    error = gaussian_least_error(eigenvalues, bits) / len(eigenvalues)
    return f"{10 * math.log10(255**2 / error):.1f}"
