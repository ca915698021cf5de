rule compare:
    input:
        expand("results/evaluate/{model}/answers.jsonl", model=MODELS + FURTHER_RUNS),
    output:
        "results/compare/gains.json",
        "results/compare/seeds.json",
        report(
            "results/compare/comparison.json",
            caption="../report/comparison.rst",
            category="Comparison",
        ),
    log:
        "logs/compare.log",
    params:
        compare=lookup(dpath="compare", within=config),
        seeds=lookup(dpath="seeds", within=config),
        seed=lookup(dpath="seed", within=config),
    shell:
        "gsm8k-grpo compare > >(tee -i {log}) 2>&1"
