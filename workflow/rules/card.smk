# The card is written next to the weights that it describes; no output of the rule train contains it.
rule card:
    input:
        "results/download/source.json",
        "results/base/base.json",
        "results/train/{variant}/metrics.json",
        "results/evaluate/base/metrics.json",
        "results/evaluate/{variant}/metrics.json",
        "results/compare/comparison.json",
    output:
        report(
            "results/train/{variant}/README.md",
            caption="../report/card.rst",
            category="Training",
            labels={"variant": "{variant}", "what": "model card"},
        ),
        "results/train/{variant}/card-configuration.json",
    log:
        "logs/card/{variant}.log",
    params:
        variant=lookup(dpath="variants/{variant}", within=config),
        recipe=lookup(dpath="recipe", within=config),
        seed=lookup(dpath="seed", within=config),
        source=lookup(dpath="source", within=config),
        model=lookup(dpath="model", within=config),
        chat_template_kwargs=lookup(dpath="chat_template_kwargs", within=config),
        lora=lookup(dpath="lora", within=config),
        precision=lookup(dpath="precision", within=config),
        quantization=lookup(dpath="quantization", within=config),
        prompt=lookup(dpath="extract", within=config),
        rewards=lookup(dpath="rewards", within=config),
        limit=lookup(dpath="evaluate/max_completion_length", within=config),
        problems=lookup(dpath="download/generated/problems", within=config),
    shell:
        "gsm8k-grpo card --variant {wildcards.variant} > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
