"""What the configuration, the memory plan and the report need to know about a training method.

How a method trains is the matter of an object in `stages.train.methods`; all other rooms use the traits below.
"""

from dataclasses import dataclass
from typing import Literal

from gsm8k_grpo.records import Method


@dataclass(frozen=True)
class MethodTraits:
    """The traits of a training method.

    Attributes:
        title: the method and its trainer, as the model card names them.
        label: the method in a few words, as the report names it.
        section: the section of the configuration that holds its settings.
        learns_from_rewards: it samples completions (`backend`, `engine`) and learns from their rewards; otherwise it
            learns the solutions of the data, by TRL's own trainer whatever `backend` says.
        own_section: a further section, for the settings that only this method has.
        learns_from_pairs: of a prompt's completions only a pair goes through the model, so a batch holds whole groups.
        has_values: it trains a value head next to the model.
    """

    title: str
    label: str
    section: Literal["train", "sft"]
    learns_from_rewards: bool
    own_section: Literal["online_dpo", "ppo"] | None = None
    learns_from_pairs: bool = False
    has_values: bool = False


METHODS: dict[Method, MethodTraits] = {
    "grpo": MethodTraits("GRPO (TRL's GRPOTrainer)", "GRPO", "train", learns_from_rewards=True),
    "online_dpo": MethodTraits(
        "online DPO (on TRL's GRPOTrainer)",
        "online DPO",
        "train",
        learns_from_rewards=True,
        own_section="online_dpo",
        learns_from_pairs=True,
    ),
    "ppo": MethodTraits(
        "PPO (on TRL's GRPOTrainer)", "PPO", "train", learns_from_rewards=True, own_section="ppo", has_values=True
    ),
    "rloo": MethodTraits("RLOO (on TRL's GRPOTrainer)", "RLOO", "train", learns_from_rewards=True),
    "sft": MethodTraits(
        "supervised fine-tuning (TRL's SFTTrainer)", "training on the solutions", "sft", learns_from_rewards=False
    ),
}
