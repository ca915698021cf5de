"""Stage `card`: the model card of a variant, with figures, data, limits and how to load it, for the Hugging Face hub.

Reads the results of every stage up to compare, writes `results/train/<variant>/README.md`.  That is the folder of
another stage: a card stands beside the weights that it describes, and has figures that come after them.  No file of
`train` is touched, and neither Snakemake nor DVC has the folder itself as an output of `train`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gsm8k_grpo.analysis.formatting import interval, percent
from gsm8k_grpo.analysis.metrics import METRICS
from gsm8k_grpo.analysis.verdict import format_reading, verdict
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import vllm_rank
from gsm8k_grpo.files import read_json, write_text
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.gsm8k.prompts import EXAMPLE, chat
from gsm8k_grpo.runtime import git
from gsm8k_grpo.stages.card import licences

TEMPLATES = Path(__file__).resolve().parent
LANGUAGES = {"english": "en", "chinese": "zh"}
SHARES = (*METRICS, "format_rate", "truncation_rate")

Json = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The result files that a card is made from."""

    source: Json
    training: Json
    base: Json
    evaluation: Json
    comparison: list[Json]
    base_model: str


def card(variant: str, results: Path, target: Path, params: Params) -> None:
    """Run the stage for one variant: `target` is the card."""
    adapter = (target.parent / "model" / "adapter_config.json").exists()
    write(variant, results, target, "model", adapter, params)


def write(variant: str, results: Path, target: Path, weights: str, adapter: bool, params: Params) -> None:
    """Write the card of a variant; `weights` is their folder as seen from the card's, `adapter` what is in it."""
    found = _read(variant, results)
    metadata = _metadata(variant, found, adapter, params).to_yaml()
    text = _text(variant, found, target.parent, weights, adapter, params)
    write_text(target, str(ModelCard(f"---\n{metadata}\n---\n\n{text}")))


def _read(variant: str, results: Path) -> Found:
    comparison = read_json(results / "compare" / "comparison.json")
    return Found(
        source=read_json(results / "download" / "source.json"),
        training=read_json(results / "train" / variant / "metrics.json"),
        base=read_json(results / "evaluate" / "base" / "metrics.json"),
        evaluation=read_json(results / "evaluate" / variant / "metrics.json"),
        comparison=[row for row in comparison if (row["a"], row["b"]) == ("base", variant)],
        base_model=read_json(results / "base" / "base.json")["model"],
    )


def _metadata(variant: str, found: Found, adapter: bool, params: Params) -> ModelCardData:
    licence = licences.of(params.model)
    published = params.source == "hub"
    origin = found.source["origin"] if published else f"{found.source['origin']} ({params.source})"
    return ModelCardData(
        language=LANGUAGES[params.extract.language],
        license=licence.identifier,
        license_name=licence.name,
        license_link=licence.link,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=None if params.model == "scratch" else params.model,
        datasets=[found.source["origin"]] if published else None,
        tags=["gsm8k", "reasoning", "trl", found.training["method"], *(["lora"] if adapter else [])],
        model_name=_name(variant, params),
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=origin,
                dataset_name=_data_name(found, params),
                dataset_split="test",
                dataset_revision=found.source["revision"] if published else None,
                metric_type="accuracy",
                metric_name=metric.replace("_", " "),
                metric_value=found.evaluation[metric],
                metric_args={"n": found.evaluation["n"], "ci95": found.evaluation[f"{metric}_ci95"]},
            )
            for metric in METRICS
        ],
    )


def _text(variant: str, found: Found, place: Path, weights: str, adapter: bool, params: Params) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    evaluations = {"base": found.base, variant: found.evaluation}
    return environment.get_template("card.md.j2").render(
        title=_name(variant, params),
        origin=_origin(variant, found, adapter, params),
        verdict=" ".join(verdict(metric, evaluations, found.comparison) for metric in METRICS),
        format_reading=format_reading(found.comparison),
        n=f"{found.evaluation['n']:,}",
        limit=params.evaluate.max_completion_length,
        variant=variant,
        rows=[_row(name, found) for name in SHARES],
        source=found.source,
        data={"name": _data_name(found, params), "sentence": _data_sentence(found, params)},
        training=_training(found, adapter, params, variant),
        limits=_limits(found, params),
        licence=_licence(params),
        adapter=adapter,
        folder=weights,
        base=_from(place, found.base_model),
        messages=_messages(params),
        rank=adapter and vllm_rank(params.lora.rank),
    )


def _name(variant: str, params: Params) -> str:
    return f"{Path(params.model).name}-gsm8k-{variant}"


def _data_name(found: Found, params: Params) -> str:
    return "problems generated in GSM8K's format" if params.source == "generated" else found.source["origin"]


def _data_sentence(found: Found, params: Params) -> str:
    origin, licence = found.source["origin"], found.source["licence"]
    if params.source == "generated":
        limits = SETS[params.download.generated.problems].LIMITS
        return f"Problems generated from templates in GSM8K's format; they are not GSM8K. {limits} Licence: {licence}."
    if params.source == "local":
        return f"A local folder, “{origin}”, whose files are told by their digests. Licence: {licence}."
    link = f"[{origin}](https://huggingface.co/datasets/{origin})"
    return f"{link} at revision `{found.source['revision']}`. Licence: {licence}."


def _origin(variant: str, found: Found, adapter: bool, params: Params) -> str:
    size = f"{found.training['effective_config']['parameters']:,} parameters"
    what = f"A model of {size}, made from scratch" if params.model == "scratch" else f"{params.model}, {size}"
    how = "as an adapter (LoRA)" if adapter else "with all its weights"
    return f"{what}, trained {how} by {METHODS[found.training['method']]} on grade-school word problems."


def _row(name: str, found: Found) -> dict[str, str]:
    paired = next((row for row in found.comparison if row["metric"] == name), None)
    bounds = paired and [f"{100 * bound:+.1f}" for bound in paired["ci95"]]
    return {
        "name": name.replace("_", " "),
        "before": f"{percent(found.base[name])} ({interval(*found.base[f'{name}_ci95'])})",
        "after": f"{percent(found.evaluation[name])} ({interval(*found.evaluation[f'{name}_ci95'])})",
        "difference": f"{100 * paired['difference']:+.1f} ({bounds[0]} to {bounds[1]})" if paired else "",
        "p": f"{paired['p_holm']:.2g}" if paired else "",
    }


def _training(found: Found, adapter: bool, params: Params, variant: str) -> list[str]:
    told, effective = found.training, found.training["effective_config"]
    lines = [
        f"Recipe `{params.recipe}`, seed {params.seed}, code at commit `{git.commit()}`",
        f"{told['steps']:,} steps, {told['epochs']:.3g} epochs of {told['prompts']:,} problems, "
        f"{told['prompts_seen']:,} prompts seen",
        f"{told['seconds'] / 60:.1f} minutes on {effective['device']}, {told['peak_memory_gib']:.1f} GiB at most",
        f"Learning rate {effective['learning_rate']:g}, weights of type `{params.precision}`"
        f"{f', base in {params.quantization}' if params.quantization else ''}",
    ]
    if METHODS[told["method"]].learns_from_rewards:
        rewards = params.variant_rewards(variant)
        weighted = ", ".join(f"{name} x {weight:g}" for name, weight in rewards.weights.items())
        lines.insert(2, f"Rewards, set `{rewards.set}`: {weighted}")
    if adapter:
        lora = params.lora
        lines.append(f"Adapter of rank {lora.rank}, alpha {lora.alpha}, on {', '.join(lora.targets)}")
    return lines


def _limits(found: Found, params: Params) -> list[str]:
    lines = [
        f"The run with seed {params.seed}: the intervals tell how much depends on the choice of test questions, "
        "not how much another training would differ.",
        "It was tested on word problems of this one kind, and is not meant for anything else; nothing was done for "
        "the safety of its answers.",
        "A correct answer doesn't make its reasoning correct: only the final number was judged.",
    ]
    if params.source != "hub":
        lines.insert(0, "The problems are not the published GSM8K as far as this project can tell; see Data.")
    return lines


def _licence(params: Params) -> str:
    licence = licences.of(params.model)
    if params.model == "scratch":
        return f"{licence.title}, as the project that made it."
    link = f" ([text]({licence.link}))" if licence.link else ""
    return f"That of the base model, {params.model}: {licence.title}{link}."


def _from(folder: Path, model: str) -> str:
    """A model as a program that runs in `folder` names it."""
    return os.path.relpath(model, folder) if Path(model).is_dir() else model


def _messages(params: Params) -> str:
    question = EXAMPLE[params.extract.language][0]
    messages = chat(question, params.extract.language, params.extract.one_shot)
    return json.dumps(messages, indent=4, ensure_ascii=False)
