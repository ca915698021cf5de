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
        variant=lookup(dpath="variants/{variant}", within=config),
        keep_checkpoints=lookup(dpath="keep_checkpoints", within=config),
        method=lookup(dpath="method", within=config),
        answers=lookup(dpath="extract/answers", within=config),
        answer_form=lookup(dpath="extract/answer_form", within=config),
        train=lookup(dpath="train", within=config),
        sft=lookup(dpath="sft", within=config),
        online_dpo=lookup(dpath="online_dpo", within=config),
        ppo=lookup(dpath="ppo", within=config),
        rewards=lookup(dpath="rewards", within=config),
        chat_template_kwargs=lookup(dpath="chat_template_kwargs", within=config),
        backend=lookup(dpath="backend", within=config),
        engine=lookup(dpath="engine", within=config),
        precision=lookup(dpath="precision", within=config),
        quantization=lookup(dpath="quantization", within=config),
        lora=lookup(dpath="lora", within=config),
        gpus=lookup(dpath="gpus", within=config),
        vllm=lookup(dpath="vllm", within=config),
        graphs=lookup(dpath="graphs", within=config),
        vram_gib=lookup(dpath="vram_gib", within=config),
        threads=lookup(dpath="threads", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo train --variant {wildcards.variant} > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
