"""A run as one page, `report.html`: it needs no network, no script and no other file.

What names a run, its sites and classes come from other parties: every text that the templates put in is made printable
and escaped, and the page's content security policy lets it load and run nothing.
"""

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mple.disk.whole_files import write_whole
from mple.metrics import METRICS, score_text
from mple.printable import printable
from mple.privacy import protection
from mple.report import quantities
from mple.report.attack_results import attack_results, figure_text
from mple.report.charts import charts, history_of
from mple.report.few_sites import MOST_SITES
from mple.report.noise_levels import noise_levels, noise_sentence
from mple.report.plan_facts import patients_sentence, plan_facts
from mple.report.sample_pictures import sample_pictures
from mple.report.score_parts import split_parts
from mple.report.score_words import interval_of, value_text
from mple.report.scores import TEST, TITLES, SplitView
from mple.report.summary import Summary
from mple.report.traffic import methods, size_histogram, traffic
from mple.report.verdict import facts, kept_words, started, verdict
from mple.report.waterfall import waterfalls

NAME = "report.html"
"""Of the page in a run's folder."""
_MOST_ROWS = 64
"""Of a table with a row for each site."""
_ALSO_TABLED = ("auroc", "loss")
"""Metrics that the table of epochs has beside the brief ones."""


def write_page(summary: Summary, out: Path | None = None, *, pictures: bool = True) -> Path:
    """Write the page of a run, by default as `report.html` in its folder, and return its path. With `pictures` it shows
    the sample pictures that sites have kept, and attacks on these sites. They are legible: mind whom it goes to."""
    path = out or summary.folder.path / NAME
    write_whole(path, page(summary, pictures=pictures).encode())
    return path


def page(summary: Summary, *, pictures: bool = True) -> str:
    """The HTML of a run's page."""
    merged, plan = summary.folder.ledger, summary.plan
    whole, sites = waterfalls(merged, summary.overhead)
    history = history_of(summary.metrics)
    noise = noise_levels(summary.folder, plan)
    shown = sample_pictures(summary.folder, plan) if pictures else []
    template = environment().get_template("report.html.j2")
    return template.render(
        summary=summary,
        plan=plan,
        verdict=verdict(summary, whole),
        facts=facts(summary, whole),
        protection=protection(plan),
        patients_told=patients_sentence(plan),
        noise=noise_sentence(noise) if noise else "",
        whole=whole,
        sites=sites,
        left_out=len(plan.sites) > MOST_SITES,
        most_rows=_MOST_ROWS,
        again=[site for site in summary.overhead.sites if site.resent_samples][:_MOST_ROWS],
        traffic=traffic(merged),
        sizes=size_histogram(merged),
        methods=methods(merged),
        history=history,
        charts=charts([("", history)], summary.judged.kept_epoch),
        scores={name: split_parts(view, plan.classes, sites=name == TEST) for name, view in _in_turn(summary)},
        titles=TITLES,
        several=plan.outputs.several,
        kept=kept_words(summary),
        started=started(summary),
        metrics={
            name: metric
            for name, metric in METRICS.items()
            if history.scores[name] and (metric.brief or name in _ALSO_TABLED)
        },
        pictures=shown,
        attacked=attack_results(summary.folder.path, plan, [one.site for one in shown]),
        settings=plan_facts(plan),
        plan_text=plan.to_json().decode(),
        versions=summary.versions,
    )


def _in_turn(summary: Summary) -> list[tuple[str, SplitView]]:
    """Test first."""
    return sorted(summary.views.items(), key=lambda one: one[0] != TEST)


def environment(*others: str) -> Environment:
    """The report's templates and those of `others`, packages with pages of their own, with the filters that they use.
    Everything is escaped, and a name that is missing is an error."""
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in ("mple.report", *others)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "size": quantities.size_text,
        "share": quantities.share_text,
        "change": quantities.change_text,
        "duration": quantities.duration_text,
        "figure": figure_text,
        "count": lambda number: f"{number:,}",
        "score": score_text,
        "value": value_text,
        "interval": interval_of,
    }
    return templates


def _shown(value: object) -> object:
    """What a template puts in, before it is escaped. What macros have made is neither."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
