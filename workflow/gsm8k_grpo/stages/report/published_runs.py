"""The published GRPO runs that the report compares this run with, with their figures as the sources give them.

None of the sources reports an accuracy; they show rewards, answers to a few questions, time and memory.
"""

from dataclasses import dataclass, field

FULL_RUN = (
    "“Single card 4090 uses Deepseek-R1 GPRO to train QWen basic model complete steps”; in Chinese, with the 250 steps "
    "compared, at 链载Ai: “单卡4090用Deepseek-R1思想GPRO训练QWen基础模型完整step”"
)
CHINESE = (
    "“仅需单卡14G显存!手把手教你训练+推理爆火开源模型 DeepSeek-R1” (one GPU with 14 GB is enough), "
    "DAMO开发者矩阵 (DAMO developers)"
)
UNSLOTH = (
    "“7G显存,训练自己的DeepSeek-R1, GRPO资源暴降80%” (7 GB of GPU memory, train your own DeepSeek-R1, GRPO needs "
    "80 % less), PaperAgent, 10 February 2025, on Unsloth's GRPO"
)
RTX3080 = (
    "“RTX 3080 移动版能训练哪种大模型?” (which models can a mobile RTX 3080 train?), with images at jiqizhixin.com"
)


@dataclass(frozen=True)
class PublishedRun:
    """One run; a value is None if the source doesn't give it.

    Attributes:
        seconds: training time.
        device: the GPU and its memory, in the source's units.
        memory: the GPU memory used, in the source's units.
        rewards: means of the last logged step, by this project's names of the rewards.
    """

    model: str
    source: str
    remark: str
    steps: int | None = None
    epochs: float | None = None
    seconds: float | None = None
    device: str | None = None
    memory: str | None = None
    reward: float | None = None
    rewards: dict[str, float] = field(default_factory=dict)


PUBLISHED_RUNS = (
    PublishedRun(
        model="Qwen2.5-3B",
        source=FULL_RUN,
        remark="Stopped after 250 steps for a quick test; the source calls the full run clearly better.",
        steps=250,
        device="RTX 4090, 24,564 MiB",
    ),
    PublishedRun(
        model="Qwen2.5-3B",
        source=FULL_RUN,
        remark="7,473 examples, batch size 1, 59,867,136 trainable parameters. "
        "Rewards of single steps are noisy: in the last but one logged step the reward is 1.79.",
        steps=22_419,
        epochs=3.0,
        seconds=62_352.0686,
        device="RTX 4090, 24,564 MiB",
        memory="18,142 MiB",
        reward=3.1666667461395264,
        rewards={
            "xmlcount": 0.5,
            "soft_format": 0.0,
            "strict_format": 0.5,
            "int": 0.5,
            "correctness": 1.6666667461395264,
        },
    ),
    PublishedRun(
        model="Qwen2.5-7B-Instruct, 4 bit",
        source=CHINESE,
        remark="GSM8K in Chinese; the script sets 250 steps, but the answers shown are those after 100 steps.",
        steps=250,
        device="free Colab GPU, 14 GB",
    ),
    PublishedRun(
        model="Phi-4",
        source=UNSLOTH,
        remark="The source shows one answer before and after training.",
        steps=100,
    ),
    PublishedRun(
        model="Qwen2.5-1.5B",
        source=UNSLOTH,
        remark="The source says that 7 GB are enough, but shows no run.",
        memory="7 GB",
    ),
    PublishedRun(
        model="Llama-3.2-1B-Instruct",
        source=RTX3080,
        remark="The script sets one epoch; the text does not give its results.",
        epochs=1.0,
        device="RTX 3080 mobile, 15.73 GiB",
    ),
)
