"""What the run does not show: the doubts that its results leave open, each told from the results themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

from gsm8k_grpo.analysis.formatting import joined, percent
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.stages.report.results import Results

MUCH_CUT = 0.02  # share of answers cut at the limit from which accuracy depends on the limit


@dataclass(frozen=True)
class Limitation:
    """`what` is not shown, and `why`, half a sentence."""

    what: str
    why: str


def limitations(found: Results, params: Params) -> list[Limitation]:
    """In the order of their weight: data and model, what was left out, the seed, what stands beside it."""
    return [
        *_of_the_data(found),
        _of_the_model(found, params),
        *_of_subsets(found),
        *_of_seeds(found),
        *_of_the_rewards(found, params),
        *_of_the_decoding(found),
        *_of_the_test(found),
    ]


def _of_the_data(found: Results) -> Iterator[Limitation]:
    if found.source["source"] == "generated":
        yield Limitation("Accuracy on GSM8K", "the problems are generated from templates in its format.")
    if found.source["source"] == "local":
        yield Limitation(
            "That these are GSM8K's problems", f"they come from a local folder, “{found.source['origin']}”, unchecked."
        )


def _of_the_model(found: Results, params: Params) -> Limitation:
    if params.model != "scratch":
        return Limitation(
            "That the test questions were new to the model",
            f"what {params.model} was trained on before is not known here.",
        )
    made = f"a model of {found.parameters:,} parameters, made from scratch, "
    if found.source["source"] == "generated":
        sums = SETS[params.download.generated.problems].SUMS
        return Limitation(
            "Reasoning beyond these templates", f"{made}learns sums with {sums}, not word problems like GSM8K's."
        )
    return Limitation(
        "Reasoning", f"{made}can't solve word problems like GSM8K's; what training can change is the answers' format."
    )


def _of_subsets(found: Results) -> Iterator[Limitation]:
    parts = {name: (run["prompts"], run["prompts_available"]) for name, run in found.training.items()}
    for part in dict.fromkeys(parts.values()):
        if part[0] < part[1]:
            names = joined(name for name in parts if parts[name] == part)
            yield Limitation("Training on all the data", f"{names} used {part[0]:,} of {part[1]:,} problems.")
    asked = found.evaluations["base"]
    if asked["n"] < asked["n_available"]:
        yield Limitation(
            "Accuracy on the whole test split", f"the first {asked['n']:,} of {asked['n_available']:,} were asked."
        )


def _of_seeds(found: Results) -> Iterator[Limitation]:
    seeds = sorted({seed for row in found.seeds for seed in row["seeds"]})
    if len(seeds) == 1:
        yield Limitation(
            "How another run would end",
            f"all is one run with one seed ({seeds[0]}); the intervals are about the choice of questions alone.",
        )


def _of_the_rewards(found: Results, params: Params) -> Iterator[Limitation]:
    controls = [variant for variant in params.variants if not params.variant_rewards(variant).know_the_answer]
    supervised = [variant for variant, run in found.training.items() if not METHODS[run["method"]].learns_from_rewards]
    if not controls and not supervised:
        yield Limitation(
            "That it took these rewards",
            "no control was trained beside them, be it on a random reward, on the format alone or on the solutions.",
        )


def _of_the_decoding(found: Results) -> Iterator[Limitation]:
    cut = {model: figures["truncation_rate"] for model, figures in found.evaluations.items()}
    much = {model: share for model, share in cut.items() if share > MUCH_CUT}
    if much:
        longest = found.evaluations["base"]["decoding"]["max_completion_length"]
        shares = joined(f"{percent(share)} of {model}'s" for model, share in much.items())
        yield Limitation(f"Answers longer than {longest:,} tokens", f"{shares} were cut there.")
    if not found.sampled:
        yield Limitation("Answers drawn by chance", "decoding is greedy alone.")


def _of_the_test(found: Results) -> Iterator[Limitation]:
    for row in found.overlap:
        if row["exact"] or row["ngram"]:
            yield Limitation(
                f"That the questions of {row['set']} are unlike those trained on",
                f"of {row['n']:,}, {row['exact']:,} also stand in train, {row['ngram']:,} share {row['size']} words in "
                "a row with it.",
            )
    if not any(measure["set"] != "test" for measure in found.measures("base", "greedy")):
        yield Limitation("Other kinds of problem", "one test set was asked.")
