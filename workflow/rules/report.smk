rule report:
    input:
        "results/configure/params.yaml",
        "results/download/source.json",
        "results/extract/metrics.json",
        "results/extract/overlap.json",
        "results/base/base.json",
        "results/compare/comparison.json",
        "results/compare/gains.json",
        "results/compare/seeds.json",
        expand(
            "results/train/{variant}/{file}",
            variant=VARIANTS,
            file=["history.csv", "samples.jsonl", "metrics.json", "README.md"],
        ),
        expand(
            "results/evaluate/{model}/{file}",
            model=MODELS,
            file=["answers.jsonl", "sampled.jsonl", "probes.jsonl", "checkpoints.jsonl", "metrics.json"],
        ),
        # A new prompt or set is a missing file, which makes Snakemake run the evaluation.
        expand("results/evaluate/{model}/prompts/{prompt}.jsonl", model=MODELS, prompt=PROMPTS),
        expand("results/evaluate/{model}/sets/{set}.jsonl", model=MODELS, set=SETS),
    output:
        report(
            "results/report/report.html",
            caption="../report/report.rst",
            category="Answer",
            labels={"what": "the whole report"},
        ),
        [
            report(
                f"results/report/{figure}.png",
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": figure},
            )
            for figure in FIGURES
        ],
        "results/report/configuration.json",
    log:
        "logs/report.log",
    params:
        configuration=config,
    shell:
        "gsm8k-grpo report > >(trap '' INT TERM HUP; exec tee -p {log}) 2>&1"
