rule train:
    input:
        "results/extract/train.jsonl",
        "results/base/base.json",
        start,
    output:
        directory("results/train/{variant}/model"),
        directory("results/train/{variant}/checkpoints"),
        report(
            "results/train/{variant}/history.csv",
            caption="../report/history.rst",
            category="Training",
            labels={"variant": "{variant}", "what": "every step"},
        ),
        "results/train/{variant}/samples.jsonl",
        report(
            "results/train/{variant}/metrics.json",
            caption="../report/training.rst",
            category="Training",
            labels={"variant": "{variant}", "what": "the whole run"},
        ),
        "results/train/{variant}/configuration.json",
    log:
        "logs/train/{variant}.log",
    resources:
        **of_nodes(gpus),
        gpu=gpus,
    params:
        training=lookup(dpath="training/{variant}", within=config),
    shell:
        "gsm8k-grpo train --variant {wildcards.variant} > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
