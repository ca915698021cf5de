"""Stage `report`: everything the run found on one self-contained page, the answer first.

Reads the results of every stage before it, writes `results/report/report.html`, which needs no network, and the
figures beside it as PNG; the figures also go to the MLflow run of each variant.
"""

import platform
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from gsm8k_grpo.analysis import formatting
from gsm8k_grpo.analysis.formatting import interval, percent, points
from gsm8k_grpo.analysis.metrics import METRICS
from gsm8k_grpo.analysis.verdict import format_reading, headline, outcome, seeds_reading, verdict
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_text
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.runtime import git
from gsm8k_grpo.stages.compare.attribution import KINDS
from gsm8k_grpo.stages.report import answer_browser, published_runs, reproduction, tables
from gsm8k_grpo.stages.report.figures import figures
from gsm8k_grpo.stages.report.limitations import limitations
from gsm8k_grpo.stages.report.results import Results, Rows, read_results
from gsm8k_grpo.stages.train.history import reward_columns
from gsm8k_grpo.tracking import mlflow_runs

TEMPLATES = Path(__file__).resolve().parent / "templates"
PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "mlflow", "altair")
SHOWN_SAMPLES = 6  # steps of training whose completions are shown


def report(results: Path, target: Path, params: Params) -> None:
    """Run the stage: `results` is the folder of all stages, `target` the folder written."""
    found = read_results(results, params)
    drawn = figures.figures(found)
    images = [figure.write_png(target) for figure in drawn]
    write_text(target / "report.html", render(found, drawn, params))
    for variant, metrics in found.training.items():
        mlflow_runs.of_results(params, variant, metrics).log_figures(images)


def render(found: Results, drawn: list[figures.Figure], params: Params) -> str:
    """The page.  Texts of data and models are escaped by jinja2 or compressed; each script stands in it once."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": lambda bounds: interval(*bounds),
        "points": points,
        "p_value": formatting.p_value,
        "duration": formatting.duration,
        "energy": formatting.energy,
        "shown": formatting.shown,
        "outcome": outcome,
    }
    commit = git.commit()
    browsed = answer_browser.browser_data(found)
    return environment.get_template("report.html.j2").render(
        found=found,
        params=params,
        metrics=list(METRICS),
        kinds=KINDS,
        methods=METHODS,
        headline=formatting.unbroken(
            headline(found.comparison, found.gains, found.evaluations, params.headline_variant)
        ),
        verdicts=[formatting.unbroken(verdict(metric, found.evaluations, found.comparison)) for metric in METRICS],
        format_reading=format_reading(found.comparison),
        seeds_readings=list(dict.fromkeys(seeds_reading(found.seeds, variant) for variant in params.variants)),
        limits=limitations(found, params),
        figures={figure.name: figure for figure in drawn},
        specifications={
            f"{figure.name}-{index}": specification
            for figure in drawn
            for index, specification in enumerate(figure.specifications())
        },
        tables=tables.tables(found),
        completions=answer_browser.compressed(browsed),
        passes=[asked["name"] for asked in browsed["passes"]],
        samples={variant: thinned(rows) for variant, rows in found.samples.items() if rows},
        model=describe_model(found, params),
        problems=SETS[params.download.generated.problems],
        last_rewards={variant: last_rewards(history) for variant, history in found.histories.items()},
        published=published_runs.PUBLISHED_RUNS,
        sources=list(dict.fromkeys(run.source for run in published_runs.PUBLISHED_RUNS)),
        effective_keys=list(dict.fromkeys(key for run in found.training.values() for key in run["effective_config"])),
        settings=reproduction.settings(params),
        absent=reproduction.ABSENT,
        published_recipe=reproduction.PUBLISHED,
        configuration=yaml.safe_dump(params.model_dump(), sort_keys=False, allow_unicode=True, width=100),
        identities=reproduction.identities(found, commit),
        command=reproduction.command(),
        commit=commit,
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        javascript=Markup(figures.javascript()),
    )


def describe_model(found: Results, params: Params) -> str:
    name = "made from scratch" if params.model == "scratch" else params.model
    return f"{name}, {found.parameters:,} parameters"


def thinned(samples: Rows) -> Rows:
    """The first sample of at most `SHOWN_SAMPLES` steps, evenly spread from first to last."""
    firsts = [next(group) for _, group in groupby(samples, key=lambda row: row["step"])]
    picked = min(SHOWN_SAMPLES, len(firsts))
    return [firsts[round(index * (len(firsts) - 1) / max(1, picked - 1))] for index in range(picked)]


def last_rewards(history: pd.DataFrame) -> dict[str, float]:
    """Mean of each reward at the last step, by name."""
    last = history.iloc[-1]
    return {column.removeprefix("reward_"): last[column] for column in reward_columns(history)}
