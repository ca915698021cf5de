# GRPO on GSM8K: download -> extract -> base -> train -> evaluate -> compare -> report.
# `snakemake --cores 1 report` runs it; `snakemake -n report` shows what would run and why.
import os
import sys

from snakemake.utils import min_version

min_version("9.27")

# The code that runs is that of this folder, even in an environment that was made for another copy of it.
code = os.path.join(workflow.basedir, "workflow")
sys.path.insert(0, code)
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")])))


include: "workflow/rules/common.smk"
include: "workflow/rules/processes.smk"
include: "workflow/rules/kubernetes.smk"
include: "workflow/rules/outdated.smk"
include: "workflow/rules/configure.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/card.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        "results/report/report.html",


onsuccess:
    # If the report did not run, a summary would describe an older one.
    if any(job.rule.name == "report" for job in workflow.dag.finished_jobs):
        shell("gsm8k-grpo summary")
