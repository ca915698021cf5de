"""Stage `report`: everything the run found on one self-contained page, the answer first.

Reads the results of every stage before it, writes `results/report/report.html`, which needs no network, and the
figures beside it as PNG; the figures also go to the MLflow run of each variant.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from gsm8k_grpo import figures, published, tracking
from gsm8k_grpo.compare import METRICS
from gsm8k_grpo.files import read_json, read_jsonl, write_text
from gsm8k_grpo.history import reward_columns
from gsm8k_grpo.params import Generated, Params
from gsm8k_grpo.problems import SETS
from gsm8k_grpo.summary import format_reading, interval, joined, outcome, percent, points, verdict

TEMPLATES = Path(__file__).resolve().parent.parent / "report"
PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "mlflow", "altair")
SHOWN_QUESTIONS = 4  # of each pattern of right and wrong
SHOWN_SAMPLES = 6  # steps of training whose completions are shown
SMALLEST_P = 0.0001

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """The result files of the stages; what there is one of for each model is keyed by model.

    `base` is None where the model was not made here.
    """

    source: dict[str, Any]
    extracted: dict[str, Any]
    base: dict[str, Any] | None
    training: dict[str, dict[str, Any]]
    histories: dict[str, pd.DataFrame]
    samples: dict[str, Rows]
    evaluations: dict[str, dict[str, Any]]
    answers: dict[str, Rows]
    probes: dict[str, Rows]
    checkpoints: dict[str, Rows]
    comparison: Rows


@dataclass(frozen=True)
class Pattern:
    """Test questions that the same models answered right: how many, and the first few with every model's answer."""

    right: dict[str, bool]
    count: int
    questions: list[dict[str, dict[str, Any]]]


def report(results: Path, target: Path, params: Params) -> None:
    """Run the stage: `results` is the folder of all stages, `target` the folder written."""
    found = read(results, params)
    drawn = figures.figures(found.evaluations, found.checkpoints, found.histories)
    images = [figure.write_png(target) for figure in drawn]
    write_text(target / "report.html", render(found, drawn, params))
    for variant, metrics in found.training.items():
        tracking.of_results(params, variant, metrics).log_figures(images)


def read(results: Path, params: Params) -> Found:
    trained = {variant: results / "train" / variant for variant in params.variants}
    evaluated = {model: results / "evaluate" / model for model in ["base", *params.variants]}
    return Found(
        source=read_json(results / "download" / "source.json"),
        extracted=read_json(results / "extract" / "metrics.json"),
        base=read_json(results / "base" / "metrics.json") if params.model == "scratch" else None,
        training={variant: read_json(folder / "metrics.json") for variant, folder in trained.items()},
        histories={variant: pd.read_csv(folder / "history.csv") for variant, folder in trained.items()},
        samples={variant: read_jsonl(folder / "samples.jsonl") for variant, folder in trained.items()},
        evaluations={model: read_json(folder / "metrics.json") for model, folder in evaluated.items()},
        answers={model: read_jsonl(folder / "answers.jsonl") for model, folder in evaluated.items()},
        probes={model: read_jsonl(folder / "probes.jsonl") for model, folder in evaluated.items()},
        checkpoints={model: read_jsonl(folder / "checkpoints.jsonl") for model, folder in evaluated.items()},
        comparison=read_json(results / "compare" / "comparison.json"),
    )


def render(found: Found, drawn: list[figures.Figure], params: Params) -> str:
    """The page.  Texts of data and models are escaped by jinja2; the charts' script and data stand in it once."""
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
        "p_value": p_value,
        "duration": duration,
        "shown": shown,
        "outcome": outcome,
    }
    return environment.get_template("report.html.j2").render(
        found=found,
        params=params,
        metrics=list(METRICS),
        verdicts=[unbroken(verdict(metric, found.evaluations, found.comparison)) for metric in METRICS],
        format_reading=format_reading(found.comparison),
        notes=notes(found, params),
        figures={figure.name: figure for figure in drawn},
        specifications={
            f"{figure.name}-{index}": specification
            for figure in drawn
            for index, specification in enumerate(figure.specifications())
        },
        patterns=patterns(found.answers),
        samples={variant: thinned(rows) for variant, rows in found.samples.items()},
        model=describe_model(found, params),
        last_rewards={variant: last_rewards(history) for variant, history in found.histories.items()},
        published=published.RUNS,
        sources=list(dict.fromkeys(run.source for run in published.RUNS)),
        configuration=yaml.safe_dump(params.model_dump(), sort_keys=False, allow_unicode=True, width=100),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        commit=tracking.git_commit(),
        javascript=Markup(figures.javascript()),
    )


def parameters(found: Found) -> int:
    return next(iter(found.training.values()))["effective_config"]["parameters"]


def describe_model(found: Found, params: Params) -> str:
    name = "made from scratch" if params.model == "scratch" else params.model
    return f"{name}, {parameters(found):,} parameters"


def notes(found: Found, params: Params) -> list[str]:
    """What limits the answer, in plain sentences: the data, the model, subsets, the seed and the tests."""
    said = [_data_note(found.source, params.download.generated)]
    if params.model == "scratch":
        said.append(_scratch_note(found, params.download.generated))
    said += dict.fromkeys(
        f"Training used a subset: {metrics['prompts']:,} of the {metrics['prompts_available']:,} problems for training."
        for metrics in found.training.values()
        if metrics["prompts"] < metrics["prompts_available"]
    )
    asked = found.evaluations["base"]
    if asked["n"] < asked["n_available"]:
        said.append(f"Evaluation asked a subset: the first {asked['n']:,} of {asked['n_available']:,} test questions.")
    said.append(
        f"All of it is one run with one seed ({params.seed}): the intervals tell how much depends on the choice of "
        "test questions, not how much another run of the training would differ."
    )
    said.append(
        "p is McNemar's exact test on the same questions. A difference is called significant where p, after Holm's "
        "correction over the whole table, is below 0.05 and the 95 % interval (paired bootstrap) leaves out zero."
    )
    return said


def _data_note(source: Mapping[str, Any], generated: Generated) -> str:
    if source["source"] == "generated":
        return (
            "The problems are generated from templates in GSM8K's format; they are not GSM8K. "
            f"{SETS[generated.problems].LIMITS} Accuracy here says nothing about accuracy on GSM8K."
        )
    if source["source"] == "local":
        return (
            f"The problems come from a local folder, “{source['origin']}”; the pipeline can't tell whether they are "
            "GSM8K's. Their digests are below."
        )
    return f"The problems come from the hub: {source['origin']} at revision {source['revision']}."


def _scratch_note(found: Found, generated: Generated) -> str:
    opening = (
        f"The model was made from scratch and has {parameters(found):,} parameters. It was pretrained on the "
        f"{found.base['distinct_problems']:,} problems of the train split, those that GRPO used among them. "
    )
    if found.source["source"] == "generated":
        return opening + (
            "A model this small can learn the format and the sums of these templates, with "
            f"{SETS[generated.problems].SUMS}; it can't solve the word problems of GSM8K, before training or after."
        )
    base, *variants = found.evaluations
    rates = joined(f"{percent(found.evaluations[variant]['format_rate'])} ({variant})" for variant in variants)
    return opening + (
        "A model this small can't solve word problems like GSM8K's. What training can change here is the format: "
        f"the share of answers in the asked format was {percent(found.evaluations[base]['format_rate'])} before and "
        f"is {rates} after."
    )


def patterns(answers: Mapping[str, Rows]) -> list[Pattern]:
    """Questions grouped by which models are right (strict): first where models differ, in each part the largest."""
    models = list(answers)
    questions = [dict(zip(models, rows, strict=True)) for rows in zip(*answers.values(), strict=True)]

    def right(question: dict[str, dict[str, Any]]) -> tuple[bool, ...]:
        return tuple(question[model]["strict_correct"] for model in models)

    found = []
    for key, group in groupby(sorted(questions, key=right), key=right):
        same = list(group)
        found.append(Pattern(dict(zip(models, key, strict=True)), len(same), same[:SHOWN_QUESTIONS]))
    return sorted(found, key=lambda pattern: (len(set(pattern.right.values())) == 1, -pattern.count))


def thinned(samples: Rows) -> Rows:
    """The first sample of at most `SHOWN_SAMPLES` steps, evenly spread from first to last."""
    firsts = [next(group) for _, group in groupby(samples, key=lambda row: row["step"])]
    picked = min(SHOWN_SAMPLES, len(firsts))
    return [firsts[round(index * (len(firsts) - 1) / max(1, picked - 1))] for index in range(picked)]


def last_rewards(history: pd.DataFrame) -> dict[str, float]:
    """Mean of each reward at the last step, by name."""
    last = history.iloc[-1]
    return {column.removeprefix("reward_"): last[column] for column in reward_columns(history)}


def unbroken(sentence: str) -> str:
    """With spaces that don't break before the percent signs."""
    return sentence.replace(" %", "\u00a0%")


def p_value(p: float) -> str:
    return f"{p:.4f}" if p >= SMALLEST_P else f"< {SMALLEST_P}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `112.9 s`, `31 min`, `17.3 h`."""
    if seconds < 600:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def shown(value: Any) -> str:
    """A configuration value in a table's cell."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
