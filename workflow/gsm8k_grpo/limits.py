"""What the run does not show: the doubts that its results leave open, each told from the results themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

from gsm8k_grpo.findings import Found
from gsm8k_grpo.params import Params
from gsm8k_grpo.problems import SETS
from gsm8k_grpo.summary import joined, percent

MUCH_CUT = 0.02  # share of answers cut at the limit from which accuracy depends on the limit


@dataclass(frozen=True)
class Limit:
    """`what` is not shown, and `why`, half a sentence."""

    what: str
    why: str


def limits(found: Found, params: Params) -> list[Limit]:
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


def _of_the_data(found: Found) -> Iterator[Limit]:
    if found.source["source"] == "generated":
        yield Limit("Accuracy on GSM8K", "the problems are generated from templates in its format.")
    if found.source["source"] == "local":
        yield Limit(
            "That these are GSM8K's problems", f"they come from a local folder, “{found.source['origin']}”, unchecked."
        )


def _of_the_model(found: Found, params: Params) -> Limit:
    if params.model != "scratch":
        return Limit(
            "That the test questions were new to the model",
            f"what {params.model} was trained on before is not known here.",
        )
    made = f"a model of {found.parameters:,} parameters, made from scratch, "
    if found.source["source"] == "generated":
        sums = SETS[params.download.generated.problems].SUMS
        return Limit(
            "Reasoning beyond these templates", f"{made}learns sums with {sums}, not word problems like GSM8K's."
        )
    return Limit(
        "Reasoning", f"{made}can't solve word problems like GSM8K's; what training can change is the answers' format."
    )


def _of_subsets(found: Found) -> Iterator[Limit]:
    parts = {name: (run["prompts"], run["prompts_available"]) for name, run in found.training.items()}
    for part in dict.fromkeys(parts.values()):
        if part[0] < part[1]:
            names = joined(name for name in parts if parts[name] == part)
            yield Limit("Training on all the data", f"{names} used {part[0]:,} of {part[1]:,} problems.")
    asked = found.evaluations["base"]
    if asked["n"] < asked["n_available"]:
        yield Limit(
            "Accuracy on the whole test split", f"the first {asked['n']:,} of {asked['n_available']:,} were asked."
        )


def _of_seeds(found: Found) -> Iterator[Limit]:
    seeds = sorted({seed for row in found.seeds for seed in row["seeds"]})
    if len(seeds) == 1:
        yield Limit(
            "How another run would end",
            f"all is one run with one seed ({seeds[0]}); the intervals are about the choice of questions alone.",
        )


def _of_the_rewards(found: Found, params: Params) -> Iterator[Limit]:
    controls = [variant for variant in params.variants if not params.variant_rewards(variant).know_the_answer]
    supervised = [variant for variant, run in found.training.items() if run["method"] == "sft"]
    if not controls and not supervised:
        yield Limit(
            "That it took these rewards",
            "no control was trained beside them, be it on a random reward, on the format alone or on the solutions.",
        )


def _of_the_decoding(found: Found) -> Iterator[Limit]:
    cut = {model: figures["truncation_rate"] for model, figures in found.evaluations.items()}
    much = {model: share for model, share in cut.items() if share > MUCH_CUT}
    if much:
        longest = found.evaluations["base"]["decoding"]["max_completion_length"]
        shares = joined(f"{percent(share)} of {model}'s" for model, share in much.items())
        yield Limit(f"Answers longer than {longest:,} tokens", f"{shares} were cut there.")
    if not found.sampled:
        yield Limit("Answers drawn by chance", "decoding is greedy alone.")


def _of_the_test(found: Found) -> Iterator[Limit]:
    for row in found.overlap:
        if row["exact"] or row["ngram"]:
            yield Limit(
                f"That the questions of {row['set']} are unlike those trained on",
                f"of {row['n']:,}, {row['exact']:,} also stand in train, {row['ngram']:,} share {row['size']} words in "
                "a row with it.",
            )
    if not any(measure["set"] != "test" for measure in found.measures("base", "greedy")):
        yield Limit("Other kinds of problem", "one test set was asked.")
