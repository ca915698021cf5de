"""Stage `report`: all results of a run on one self-contained page, the answer first.

Reads the results of all stages before it.  Writes `results/report/report.html`, which needs no network, and next to it
the figures as PNG, which are also logged to the MLflow run of each variant.
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from gsm8k_grpo.analysis import formatting
from gsm8k_grpo.analysis.formatting import interval, percent, points
from gsm8k_grpo.analysis.metrics import ACCURACIES
from gsm8k_grpo.analysis.signal import low_signal, training_notes, training_signal
from gsm8k_grpo.analysis.verdict import format_reading, headline, outcome, seeds_reading, start_reading, verdict
from gsm8k_grpo.config import layers, starts
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import write_text
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.records import TrainingSample
from gsm8k_grpo.runtime import git
from gsm8k_grpo.stages.compare.attribution import KINDS
from gsm8k_grpo.stages.report import answer_browser, published_runs, reproduction, tables
from gsm8k_grpo.stages.report.figures import figures
from gsm8k_grpo.stages.report.limitations import limitations
from gsm8k_grpo.stages.report.results import Results, read_results
from gsm8k_grpo.stages.train.history import reward_columns
from gsm8k_grpo.tracking import mlflow_runs

TEMPLATES = Path(__file__).resolve().parent / "templates"
PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "mlflow", "altair")
SHOWN_SAMPLES = 6  # the number of training steps from which a completion is shown


def report(results: Path, target: Path, params: Params) -> None:
    """Run the stage: `results` is the folder of all stages' results, `target` the folder to write."""
    all_results = read_results(results, params)
    all_figures = figures.figures(all_results)
    images = [figure.write_png(target) for figure in all_figures]
    write_text(target / "report.html", render(all_results, all_figures, params))
    for variant, metrics in all_results.training.items():
        mlflow_runs.of_results(params, variant, metrics).log_figures(images)


def render(results: Results, all_figures: Sequence[figures.Figure], params: Params) -> str:
    """The page as HTML.  Texts of data and models never become markup: jinja2 escapes them, or they are compressed."""
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
    browser_data = answer_browser.browser_data(results)
    return environment.get_template("report.html.j2").render(
        results=results,
        params=params,
        metrics=list(ACCURACIES),
        kinds=KINDS,
        methods=METHODS,
        headline=formatting.unbroken(
            headline(
                results.comparison,
                results.attribution,
                results.evaluations,
                params.headline_variant,
                starts.chain(params.variants, params.headline_variant)[:0:-1],
            )
        ),
        verdicts=[
            formatting.unbroken(verdict(metric, results.evaluations, results.comparison)) for metric in ACCURACIES
        ],
        format_reading=format_reading(results.comparison),
        start_readings={
            metric: [
                formatting.unbroken(start_reading(results.comparison, metric, variant, section.start))
                for variant, section in params.variants.items()
                if section.start
            ]
            for metric in ACCURACIES
        },
        seeds_readings=list(dict.fromkeys(seeds_reading(results.seeds, variant) for variant in params.variants)),
        signal_notes=[
            formatting.unbroken(note)
            for note in [*low_signal(results.evaluations, params), *training_notes(results.training)]
        ],
        training_signal=formatting.unbroken(training_signal(results.training) or ""),
        limits=limitations(results, params),
        figures={figure.name: figure for figure in all_figures},
        specifications={
            f"{figure.name}-{index}": specification
            for figure in all_figures
            for index, specification in enumerate(figure.specifications())
        },
        tables=tables.tables(results),
        completions=answer_browser.compressed(browser_data),
        tasks=[task["name"] for task in browser_data["tasks"]],
        samples={variant: thinned(rows) for variant, rows in results.samples.items() if rows},
        model=describe_model(results, params),
        problems=SETS[params.download.generated.problems],
        last_rewards={variant: last_rewards(history) for variant, history in results.histories.items()},
        published=published_runs.PUBLISHED_RUNS,
        sources=list(dict.fromkeys(run.source for run in published_runs.PUBLISHED_RUNS)),
        effective_keys=list(dict.fromkeys(key for run in results.training.values() for key in run["effective_config"])),
        settings=reproduction.settings(params),
        absent=reproduction.ABSENT,
        published_recipe=reproduction.PUBLISHED,
        configuration=layers.written(params.model_dump(), sort_keys=False, width=100),
        identities=reproduction.identities(results, commit),
        command=reproduction.command(),
        commit=commit,
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        javascript=Markup(figures.javascript()),
    )


def describe_model(results: Results, params: Params) -> str:
    name = "trained from scratch" if params.model == "scratch" else params.model
    return f"{name}, {results.parameters:,} parameters"


def thinned(samples: Sequence[TrainingSample]) -> list[TrainingSample]:
    """The first sample of at most `SHOWN_SAMPLES` steps, evenly spaced from the first step to the last."""
    firsts = [next(group) for _, group in groupby(samples, key=lambda row: row["step"])]
    count = min(SHOWN_SAMPLES, len(firsts))
    return [firsts[round(index * (len(firsts) - 1) / max(1, count - 1))] for index in range(count)]


def last_rewards(history: pd.DataFrame) -> dict[str, float]:
    """Mean of each reward in the last step, by name."""
    last = history.iloc[-1]
    return {column.removeprefix("reward_"): last[column] for column in reward_columns(history)}
