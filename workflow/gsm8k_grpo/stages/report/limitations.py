"""What the run does not show: the doubts that its results leave open, derived from the results themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

from gsm8k_grpo.analysis.formatting import joined, percent
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.stages.report.results import Results

NOTABLE_TRUNCATION = 0.02  # if at least this share of answers is cut off, accuracy depends on the token limit


@dataclass(frozen=True)
class Limitation:
    """What is not shown (`what`), and the reason (`why`): a sentence to follow a colon, without a capital."""

    what: str
    why: str


def limitations(results: Results, params: Params) -> list[Limitation]:
    """The limitations of a run, roughly in the order of their weight: those of data and model come first."""
    return [
        *_of_the_data(results),
        _of_the_model(results, params),
        *_of_subsets(results),
        *_of_seeds(results),
        *_of_the_rewards(results, params),
        *_of_the_decoding(results),
        *_of_the_test(results),
    ]


def _of_the_data(results: Results) -> Iterator[Limitation]:
    if results.source["source"] == "generated":
        yield Limitation("Accuracy on GSM8K", "the problems are generated from templates in GSM8K's format.")
    if results.source["source"] == "local":
        yield Limitation(
            "That these are GSM8K's problems",
            f"they come from a local folder, “{results.source['origin']}”, and were not checked.",
        )


def _of_the_model(results: Results, params: Params) -> Limitation:
    if params.model != "scratch":
        return Limitation(
            "That the test questions were new to the model",
            f"it is not known whether the data that {params.model} was pretrained on contain them"
            f"{_known_by_heart(results)}.",
        )
    model = f"a model of {results.parameters:,} parameters, trained from scratch,"
    if results.source["source"] == "generated":
        sums = SETS[params.download.generated.problems].SUMS
        return Limitation(
            "Reasoning beyond these templates", f"{model} learns sums with {sums}, not word problems like GSM8K's."
        )
    return Limitation(
        "Reasoning", f"{model} can't solve word problems like GSM8K's; training can only change its answers' format."
    )


def _known_by_heart(results: Results) -> str:
    """What the contamination probe says about base and the test split; empty if it was not run."""
    for metric in results.task_metrics("base", "greedy"):
        if (metric["set"], metric["metric"]) == ("test", "continuation_exact"):
            return f"; it continues {percent(metric['value'])} of them word for word from the first half"
    return ""


def _of_subsets(results: Results) -> Iterator[Limitation]:
    subsets = {name: (run["prompts"], run["prompts_available"]) for name, run in results.training.items()}
    for used, available in dict.fromkeys(subsets.values()):
        if used < available:
            names = joined(name for name in subsets if subsets[name] == (used, available))
            yield Limitation("Training on all the data", f"{names} used {used:,} of {available:,} problems.")
    base = results.evaluations["base"]
    if base["n"] < base["n_available"]:
        yield Limitation(
            "Accuracy on the whole test split",
            f"only the first {base['n']:,} of its {base['n_available']:,} questions were used.",
        )


def _of_seeds(results: Results) -> Iterator[Limitation]:
    seeds = sorted({seed for row in results.seeds for seed in row["seeds"]})
    if len(seeds) == 1:
        yield Limitation(
            "How results vary between runs",
            f"each variant was trained once, with one seed ({seeds[0]}); the intervals cover only the choice of "
            "test questions.",
        )


def _of_the_rewards(results: Results, params: Params) -> Iterator[Limitation]:
    controls = [variant for variant in params.variants if not params.variant_rewards(variant).know_the_answer]
    begun = {start.partition("@")[0] for start in results.starts.values()}  # part of a variant, so no control of it
    supervised = any(
        not METHODS[run["method"]].learns_from_rewards for name, run in results.training.items() if name not in begun
    )
    if not controls and not supervised:
        yield Limitation(
            "That the rewards caused the difference", "no control (random, format-only or SFT) was trained."
        )


def _of_the_decoding(results: Results) -> Iterator[Limitation]:
    truncated = {
        model: evaluation["truncation_rate"]
        for model, evaluation in results.evaluations.items()
        if evaluation["truncation_rate"] > NOTABLE_TRUNCATION
    }
    if truncated:
        limit = results.evaluations["base"]["decoding"]["max_completion_length"]
        shares = joined(f"{percent(share)} of {model}'s" for model, share in truncated.items())
        yield Limitation(f"Answers longer than {limit:,} tokens", f"{shares} were cut off there.")
    if not results.sampled:
        yield Limitation("Accuracy of sampled answers", "only greedy decoding was used.")


def _of_the_test(results: Results) -> Iterator[Limitation]:
    for row in results.overlap:
        if row["exact"] or row["ngram"]:
            questions = "test questions" if row["set"] == "test" else f"questions of {row['set']}"
            yield Limitation(
                f"That the {questions} differ from those trained on",
                f"of {row['n']:,}, {row['exact']:,} are also in the train split, and {row['ngram']:,} share at least "
                f"{row['size']} consecutive words with one of its questions.",
            )
    if not any(metric["set"] != "test" for metric in results.task_metrics("base", "greedy")):
        yield Limitation("Other kinds of problem", "only one test set was used.")
