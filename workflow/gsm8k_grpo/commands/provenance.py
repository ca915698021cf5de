"""With which configuration each result was made, and whether that is the present one.

Every stage notes the keys that it looks up (`config/stage_keys.py`), with their values, in a `configuration.json` next
to its results.  Snakemake's own records are lost with `.snakemake/` and don't come with a clone; the notes are part of
the results.  The workflow runs a stage again if its note differs from the present configuration.  A stage that is run
by hand, and `sync`, would build on such results, so they refuse them.  `summary`, `ask` and `export` only show them, so
they mention the difference in one line.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsm8k_grpo.config import layers, starts
from gsm8k_grpo.config.errors import as_written
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.resolved import resolved
from gsm8k_grpo.config.stage_keys import values
from gsm8k_grpo.files import PipelineError, read_json, visible, write_json

RESULTS = Path("results")
MISSING = "nothing"  # the value of a key that one of two configurations lacks

DATA, SETS = frozenset({"download", "extract"}), frozenset({"download_sets", "extract_sets"})
MODELS = DATA | {"base", "train"}
# The rules whose results a rule or a command reads, and those that these results were made from.  Training is among
# its own, since it may start from another variant.
READ = {
    "train": MODELS,
    "ask": MODELS,
    "export": MODELS,
    "evaluate": MODELS | SETS,
    "compare": MODELS | SETS | {"evaluate"},
    "card": MODELS | SETS | {"evaluate", "compare"},
    "report": MODELS | SETS | {"evaluate", "compare", "card"},
    "summary": MODELS | SETS | {"evaluate", "compare", "card", "report"},
}


@dataclass(frozen=True)
class Result:
    """The result of one job.

    Attributes:
        rule: the rule of the workflow.
        name: the variant or the model; "" for the rules that run once.
        file: the result's main file, which exists if the job ever ran.
        note: the file that holds the configuration.
    """

    rule: str
    name: str
    file: Path
    note: Path

    @property
    def command(self) -> str:
        """The command that makes the result."""
        stage, _, part = self.rule.partition("_")
        options = {"train": f" --variant {self.name}", "card": f" --variant {self.name}"}
        options |= {"evaluate": f" --model {self.name}"}
        return f"gsm8k-grpo {stage}{' --part sets' if part else options.get(stage, '')}"

    def values(self, params: Params) -> dict[str, Any]:
        """The keys that the rule looks up, with their values, as JSON has them."""
        return json.loads(json.dumps(values(self.rule, self.name, resolved(params))))

    def change(self, params: Params) -> str | None:
        """How the configuration differs from that of the result, as one clause; None if it does not."""
        if not self.note.exists():
            return f"{self.note} is missing, so the configuration that it was made with is unknown"
        # PyYAML would read JSON's 1e-05 as a text.
        noted = layers.read(self.note) if self.rule == "configure" else read_json(self.note)
        found = first_difference(noted, self.values(params))
        if found is None:
            return None
        key, before, now = found
        key = key.removeprefix(f"training.{self.name}.")
        return f"it was made with {key} = {before}, and the configuration has {now}"


def result(rule: str, name: str = "", results: Path = RESULTS) -> Result:
    """The result of a rule, for a variant or model if the rule has one result for each."""
    stage, _, part = rule.partition("_")
    folder = results / stage / name
    if rule == "card":
        folder = results / "train" / name
        return Result(rule, name, folder / "README.md", folder / "card-configuration.json")
    if rule == "configure":
        return Result(rule, name, folder / "params.yaml", folder / "params.yaml")
    file = {
        "download": "source.json", "download_sets": "sets/source.json", "extract_sets": "overlap.json",
        "base": "base.json", "compare": "comparison.json", "report": "report.html",
    }.get(rule, "metrics.json")  # fmt: skip
    return Result(rule, name, folder / file, folder / part / "configuration.json")


def pipeline(params: Params, results: Path = RESULTS) -> list[Result]:
    """Every result of a configuration, in the order of the stages; kept checkpoints are evaluated only on demand."""
    runs = [*params.variants, *params.further_runs]
    once = ("configure", "download", "download_sets", "extract", "extract_sets", "base")
    jobs = [
        *((rule, "") for rule in once),
        *(("train", run) for run in runs),
        *(("evaluate", model) for model in ["base", *runs]),
        ("compare", ""),
        *(("card", variant) for variant in params.variants),
        ("report", ""),
    ]
    return [result(rule, name, results) for rule, name in jobs]


def outdated(params: Params, results: Path = RESULTS) -> dict[Result, str]:
    """The results that exist and were made with another configuration, and how it differs."""
    kept = [result("evaluate", model, results) for model in params.model_names() if "@" in model]
    changes = {made: made.change(params) for made in [*pipeline(params, results), *kept] if made.file.exists()}
    return {made: change for made, change in changes.items() if change}


def read_by(rule: str, params: Params, name: str = "", results: Path = RESULTS) -> list[Result]:
    """The results that a rule or a command reads, with those that they were made from, in the order of the stages.

    Args:
        rule: a key of `READ`.
        name: the variant or the model, where a rule is about one.
    """
    made = [made for made in pipeline(params, results) if made.rule in READ[rule]]
    if not params.evaluate.sets and rule == "evaluate":
        made = [one for one in made if not one.rule.endswith("_sets")]
    if not name:
        return made
    lineage = _lineage(name, params)
    names = {"", *lineage[1:]} if rule == "train" else {"", "base", *lineage}
    return [one for one in made if one.name in names]


def _lineage(model: str, params: Params) -> list[str]:
    """The training run of a model and those whose weights it started from; for base nothing but base."""
    run = starts.variant_of(model)
    if run == "base":
        return [run]
    variant, seed = params.further_runs.get(run, (run, params.seed))
    return [params.runs[link][seed] for link in starts.chain(params.variants, variant)]


def require_current(rule: str, params: Params, name: str = "", results: Path = RESULTS) -> None:
    """Check that everything that a rule reads was made with the present configuration; arguments as of `read_by`.

    Raises:
        PipelineError: for the first result, in the order of the stages, that was made with another one.
    """
    line = _first_outdated(rule, params, name, results)
    if line:
        raise PipelineError(line)


def mention_outdated(command: str, params: Params, name: str = "", results: Path = RESULTS) -> None:
    """Name the first result that a command shows although it was made with another configuration."""
    line = _first_outdated(command, params, name, results)
    if line:
        print(f"note: {visible(line)}", file=sys.stderr)


def _first_outdated(rule: str, params: Params, name: str, results: Path) -> str | None:
    for made in read_by(rule, params, name, results):
        change = made.change(params) if made.file.exists() else None
        if change:
            return (
                f"{made.file.parent}: {change}; run `snakemake --cores 1 report`, which repeats what has changed, or "
                f"`{made.command}`"
            )
    return None


@contextmanager
def noted(rule: str, params: Params, name: str = "") -> Iterator[None]:
    """Note the configuration of a result when the block, which makes it, has ended.

    There is no note during the block: what a killed process leaves is of no configuration.  If the block fails before
    it has written anything, the former result and its note stay.
    """
    made = result(rule, name)
    former = made.note.read_bytes() if made.note.exists() else None
    made.note.unlink(missing_ok=True)
    before = _state(made.note.parent)
    try:
        yield
    except BaseException:
        if former is not None and _state(made.note.parent) == before:
            made.note.write_bytes(former)
        raise
    write_json(made.note, made.values(params))


def _state(folder: Path) -> dict[Path, int]:
    """When each file of a folder was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def first_difference(one: Any, other: Any, key: str = "") -> tuple[str, str, str] | None:
    """The dotted key and both values, where two configurations differ first; None where they are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for part in [*one, *(added for added in other if added not in one)]:
            dotted = f"{key}.{part}" if key else str(part)
            found = first_difference(one.get(part, MISSING), other.get(part, MISSING), dotted)
            if found:
                return found
        return None
    return None if one == other else (key, _shown(one), _shown(other))


def _shown(value: Any) -> str:
    return MISSING if value == MISSING else as_written(value)
