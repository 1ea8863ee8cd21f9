"""`mple-provider predict` as it is typed."""

from mple.node import Config, Overrides, run_body
from mple.node.stop import Stop
from mple.prediction.typed import AsJson, Csv, Every, Images, Labels, Page, Resize, Test, Top


def predict_verb(
    config: Config,
    images: Images = None,
    overrides: Overrides = None,
    labels: Labels = None,
    test: Test = None,
    resize: Resize = False,
    top: Top = None,
    every: Every = False,
    json: AsJson = False,
    csv: Csv = None,
    page: Page = None,
) -> int:
    """Print class probabilities of pictures, by the network of the site's last run, as its compute node has it. The
    site must have taken part in a run. The compute node answers after training for as long as it is up, which needs
    'stay = true' in its configuration."""

    from mple.plan import SiteSettings

    def body(settings: SiteSettings, stop: Stop) -> None:
        from mple.prediction.options import PredictOptions
        from provider_node.prediction.predict import predict

        options = PredictOptions(
            images=tuple(images or ()), labels=labels, test=test, resize=resize, top=top, every=every, json=json,
            csv=csv, page=page,
        )  # fmt: skip
        predict(settings, options, stop)

    return run_body("mple-provider", SiteSettings, config, overrides, body)
