"""`mple predict`: by the delivered network on this machine, or, asked for, by the compute node.

Mounted by `app.add_typer(predict.app)`, without a name. Only a site's own program holds its key, so that `--remote`
goes on as `mple-provider predict`.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from mple.node import Overrides
from mple.plan import SiteSettings, read_settings
from mple.prediction.options import PredictOptions
from mple.prediction.typed import AsJson, Csv, Every, Labels, Page, Resize, Test, Top
from mple.records.state_files import DELIVERED
from mple.simulate.children import command

app = typer.Typer()

_Named = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[CONFIG] IMAGE...", help="The site's TOML file, not with --model; files and folders."),
]
_Model = Annotated[
    Path | None, typer.Option("--model", metavar="FOLDER", help="A delivered network alone, without a configuration.")
]


@app.command("predict")
def predict(
    named: _Named = None,
    model: _Model = None,
    remote: Annotated[bool, typer.Option("--remote", help="Ask the compute node, by morphed pictures.")] = False,
    overrides: Overrides = None,
    labels: Labels = None,
    test: Test = None,
    resize: Resize = False,
    top: Top = None,
    every: Every = False,
    json: AsJson = False,
    csv: Csv = None,
    page: Page = None,
) -> None:
    """Probabilities of pictures, by the network that a run has delivered to this site. Nothing leaves the machine; no
    key and no other party is needed. The configuration names the site's state folder; --model any folder with a
    delivered network, also a copy."""
    images = list(named or ())
    if model is None and not images:
        raise ValueError("name the site's configuration, or --model FOLDER with a delivered network")
    if remote and model is not None:
        raise ValueError("--remote asks with the site's key; name its configuration in the place of --model")
    config = None if model is not None else images.pop(0)
    options = PredictOptions(
        images=tuple(images), labels=labels, test=test, resize=resize, top=top, every=every, json=json, csv=csv,
        page=page,
    )  # fmt: skip
    if remote:
        assert config is not None
        _go_on_remotely(config, options, overrides or [])
    settings = None if config is None else read_settings(SiteSettings, config, overrides or ())
    if settings is None and overrides:
        raise ValueError(f"--set {overrides[0]} changes a configuration; --model needs none")
    _predict(model, options, settings)


def _predict(folder: Path | None, options: PredictOptions, settings: SiteSettings | None) -> None:
    # These take a moment to load, and only what follows needs them.
    from threadpoolctl import threadpool_limits

    from mple.delivered.folder import RECORD, DeliveredNetwork
    from mple.prediction.local import explained, predicted, wanted_pictures

    threadpool_limits(None if settings is None else settings.threads)
    if folder is None:
        assert settings is not None
        folder = settings.state / DELIVERED
        if not (folder / RECORD).is_file():
            raise ValueError(
                f"no delivered network in {settings.state}; a run leaves one there, at its end, with "
                'delivery.to = "sites"; or ask the compute node: --remote'
            )
    network = DeliveredNetwork.at(folder)
    pictures = wanted_pictures(network, options, settings)
    options.require_room(len(pictures))
    predictions = predicted(network, pictures)
    options.write(predictions)
    if options.page is not None:
        from mple.prediction.page import write_page

        write_page(options.page, predictions, explained(network, pictures, predictions))


def _go_on_remotely(config: Path, options: PredictOptions, overrides: list[str]) -> None:
    """As `mple-provider predict` with the same arguments: the same process, so the same signals and exit code."""
    arguments = [*command("mple-provider"), "predict", str(config), *map(str, options.images)]
    for name, value in (
        ("labels", options.labels), ("test", options.test), ("top", options.top), ("csv", options.csv),
        ("page", options.page), *(("set", override) for override in overrides),
    ):  # fmt: skip
        arguments += [] if value is None else [f"--{name}={value}"]
    arguments += [f"--{name}" for name in ("resize", "json") if getattr(options, name)]
    arguments += ["--all"] if options.every else []
    os.execv(arguments[0], arguments)  # noqa: S606
