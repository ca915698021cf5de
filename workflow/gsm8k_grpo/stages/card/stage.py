"""Stage `card`: the model card of a variant for the Hugging Face hub, with accuracy, data, limitations and usage.

Reads the results of every stage up to compare, and writes `results/train/<variant>/README.md`.  The card is in the
folder of another stage, because it belongs next to the weights that it describes, but it needs results of later stages.
That does no harm: neither Snakemake nor DVC has the whole folder as an output of `train`, and the stage changes no file
of `train`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gsm8k_grpo.analysis.formatting import interval, percent
from gsm8k_grpo.analysis.metrics import ACCURACIES, metric_interval, metric_value
from gsm8k_grpo.analysis.signal import training_notes, training_signal
from gsm8k_grpo.analysis.verdict import format_reading, verdict
from gsm8k_grpo.config.methods import METHODS
from gsm8k_grpo.config.params import Params
from gsm8k_grpo.config.sections import vllm_rank
from gsm8k_grpo.files import read_json, write_text
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.gsm8k.prompts import EXAMPLE, prompt, trained_format
from gsm8k_grpo.records import Comparison, Evaluation, Source, TrainingMetrics
from gsm8k_grpo.runtime import git
from gsm8k_grpo.stages.card import licences

TEMPLATES = Path(__file__).resolve().parent
LANGUAGES = {"english": "en", "chinese": "zh"}
SHARES = (*ACCURACIES, "format_rate", "truncation_rate")


@dataclass(frozen=True)
class Results:
    """The results that a card reports.

    Attributes:
        comparison: the rows that compare the variant with base, one for each accuracy.
        base_model: the base model's folder, or its name on the hub.
    """

    source: Source
    training: TrainingMetrics
    base: Evaluation
    evaluation: Evaluation
    comparison: list[Comparison]
    base_model: str


def card(variant: str, results: Path, target: Path, params: Params) -> None:
    """Run the stage for one variant: `results` is the folder of all stages' results, `target` the card to write."""
    adapter = (target.parent / "model" / "adapter_config.json").exists()
    write(variant, results, target, "model", adapter, params)


def write(variant: str, folder: Path, target: Path, weights: str, adapter: bool, params: Params) -> None:
    """Write the card of a variant.

    Args:
        folder: the folder of all stages' results.
        target: the card.
        weights: the folder of the weights, relative to the folder of the card.
        adapter: whether the weights are those of an adapter.
    """
    results = _read(variant, folder)
    metadata = _metadata(variant, results, adapter, params).to_yaml()
    text = _text(variant, results, target.parent, weights, adapter, params)
    write_text(target, str(ModelCard(f"---\n{metadata}\n---\n\n{text}")))


def _read(variant: str, folder: Path) -> Results:
    comparison = read_json(folder / "compare" / "comparison.json")
    return Results(
        source=read_json(folder / "download" / "source.json"),
        training=read_json(folder / "train" / variant / "metrics.json"),
        base=read_json(folder / "evaluate" / "base" / "metrics.json"),
        evaluation=read_json(folder / "evaluate" / variant / "metrics.json"),
        comparison=[row for row in comparison if (row["a"], row["b"]) == ("base", variant)],
        base_model=read_json(folder / "base" / "base.json")["model"],
    )


def _metadata(variant: str, results: Results, adapter: bool, params: Params) -> ModelCardData:
    licence = licences.of(params.model)
    published = params.source == "hub"
    origin = results.source["origin"] if published else f"{results.source['origin']} ({params.source})"
    return ModelCardData(
        language=LANGUAGES[params.extract.language],
        license=licence.identifier,
        license_name=licence.name,
        license_link=licence.link,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=None if params.model == "scratch" else params.model,
        datasets=[results.source["origin"]] if published else None,
        tags=["gsm8k", "reasoning", "trl", results.training["method"], *(["lora"] if adapter else [])],
        model_name=_name(variant, params),
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=origin,
                dataset_name=_data_name(results, params),
                dataset_split="test",
                dataset_revision=results.source["revision"] if published else None,
                metric_type="accuracy",
                metric_name=metric.replace("_", " "),
                metric_value=metric_value(results.evaluation, metric),
                metric_args={"n": results.evaluation["n"], "ci95": metric_interval(results.evaluation, metric)},
            )
            for metric in ACCURACIES
        ],
    )


def _text(variant: str, results: Results, folder: Path, weights: str, adapter: bool, params: Params) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    evaluations = {"base": results.base, variant: results.evaluation}
    return environment.get_template("card.md.j2").render(
        title=_name(variant, params),
        origin=_origin(variant, results, adapter, params),
        verdict=" ".join(verdict(metric, evaluations, results.comparison) for metric in ACCURACIES),
        format_reading=format_reading(results.comparison),
        n=f"{results.evaluation['n']:,}",
        limit=params.evaluate.max_completion_length,
        answer_place=trained_format(params.extract).place,
        variant=variant,
        rows=[_row(name, results) for name in SHARES],
        source=results.source,
        data={"name": _data_name(results, params), "sentence": _data_sentence(results, params)},
        training=_training(results, adapter, params, variant),
        limits=_limits(params),
        licence=_licence(params),
        adapter=adapter,
        folder=weights,
        base=_relative(folder, results.base_model),
        messages=_messages(params),
        stop_tokens=results.evaluation["decoding"]["stop_tokens"],
        template_arguments="".join(f", {name}={value!r}" for name, value in params.chat_template_kwargs.items()),
        chat_arguments=_chat_arguments(params),
        rank=vllm_rank(params.lora.rank) if params.lora else None,
    )


def _name(variant: str, params: Params) -> str:
    return f"{Path(params.model).name}-gsm8k-{variant}"


def _data_name(results: Results, params: Params) -> str:
    return "problems generated in GSM8K's format" if params.source == "generated" else results.source["origin"]


def _data_sentence(results: Results, params: Params) -> str:
    origin, licence = results.source["origin"], results.source["licence"]
    if params.source == "generated":
        limits = SETS[params.download.generated.problems].LIMITS
        return f"Problems generated from templates in GSM8K's format; they are not GSM8K. {limits} Licence: {licence}."
    if params.source == "local":
        return f"The local folder “{origin}”; the digests below identify its files. Licence: {licence}."
    link = f"[{origin}](https://huggingface.co/datasets/{origin})"
    return f"{link} at revision `{results.source['revision']}`. Licence: {licence}."


def _origin(variant: str, results: Results, adapter: bool, params: Params) -> str:
    size = f"{results.training['effective_config']['parameters']:,} parameters"
    what = f"A model of {size}, pretrained from scratch" if params.model == "scratch" else f"{params.model}, {size}"
    how = "as a LoRA adapter" if adapter else "(all weights)"
    return f"{what}, fine-tuned {how} with {METHODS[results.training['method']].title} on grade-school word problems."


def _row(metric: str, results: Results) -> dict[str, str]:
    comparison = next((row for row in results.comparison if row["metric"] == metric), None)
    row = {
        "name": metric.replace("_", " "),
        "before": _share(results.base, metric),
        "after": _share(results.evaluation, metric),
        "difference": "",
        "p": "",
    }
    if comparison is not None:
        low, high = comparison["ci95"]
        row["difference"] = f"{100 * comparison['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        row["p"] = f"{comparison['p_holm']:.2g}"
    return row


def _share(evaluation: Evaluation, metric: str) -> str:
    return f"{percent(metric_value(evaluation, metric))} ({interval(*metric_interval(evaluation, metric))})"


def _training(results: Results, adapter: bool, params: Params, variant: str) -> list[str]:
    run, effective = results.training, results.training["effective_config"]
    memory = "resident memory of the process" if effective["device"] == "cpu" else "in use on the whole GPU"
    start = params.variants[variant].start
    lines = [
        *([f"Trained from `{start}`, a run of the same recipe, not from the base model itself"] if start else []),
        f"Recipe `{params.recipe}`, seed {params.seed}, code at commit `{git.commit()}`",
        f"{run['steps']:,} steps, {run['epochs']:.3g} epochs of {run['prompts']:,} problems, "
        f"{run['prompts_seen']:,} prompts seen",
        f"{run['seconds'] / 60:.1f} minutes on {effective['device']}, at most {run['peak_memory_gib']:.1f} GiB "
        f"({memory})",
        f"Learning rate {effective['learning_rate']:g}, weights in `{params.precision}`"
        f"{f', base quantized to {params.quantization}' if params.quantization else ''}",
    ]
    if METHODS[run["method"]].learns_from_rewards:
        rewards = params.variant_rewards(variant)
        weighted = ", ".join(f"{name} x {weight:g}" for name, weight in rewards.weights.items())
        lines.insert(len(lines) - 2, f"Rewards of the set `{rewards.set}`: {weighted}")
    without = training_signal({variant: run})
    lines += [note.removesuffix(".") for note in [*([without] if without else []), *training_notes({variant: run})]]
    if adapter and params.lora:
        lora = params.lora
        lines.append(f"LoRA adapter of rank {lora.rank}, alpha {lora.alpha}, on {', '.join(lora.targets)}")
    return lines


def _limits(params: Params) -> list[str]:
    lines = [
        f"This is one run, with seed {params.seed}: the intervals show how much the results depend on the choice of "
        "test questions, not how much another training run would differ.",
        "The model was tested on word problems of this kind only and is not meant for anything else. Nothing was done "
        "to make its answers safe.",
        "A correct answer does not mean correct reasoning: only the final number was graded.",
    ]
    if params.source != "hub":
        lines.insert(0, "The problems are not the published GSM8K, or not verifiably so; see Data.")
    return lines


def _licence(params: Params) -> str:
    licence = licences.of(params.model)
    if params.model == "scratch":
        return f"{licence.title}, like the project that trained it."
    link = f" ([text]({licence.link}))" if licence.link else ""
    return f"The licence of the base model, {params.model}: {licence.title}{link}."


def _relative(folder: Path, model: str) -> str:
    """The path of a model relative to `folder`, or its name on the hub."""
    return os.path.relpath(model, folder) if Path(model).is_dir() else model


def _chat_arguments(params: Params) -> str:
    """The variables of the chat template, as a further argument of vLLM's `chat`."""
    return f", chat_template_kwargs={params.chat_template_kwargs!r}" if params.chat_template_kwargs else ""


def _messages(params: Params) -> str:
    question = EXAMPLE[params.extract.language][0]
    return json.dumps(prompt(question, params.extract), indent=4, ensure_ascii=False)
