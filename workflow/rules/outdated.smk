# Results that were made with another configuration run again, also where Snakemake has no record of them: in a new clone,
# or after .snakemake/ was deleted.
from gsm8k_grpo.commands import provenance
from snakemake.dag import DAG
from snakemake.logging import logger

check_incomplete = DAG.check_incomplete


async def check_configuration(dag):
    """Force the jobs whose results are outdated, as Snakemake forces those whose results are incomplete."""
    await check_incomplete(dag)
    results = {str(file) for job in dag.jobs for file in job.output}
    for made, change in provenance.outdated(settings).items():
        if str(made.note) in results:
            logger.info(f"{made.file}: {change}")
            dag.forcefiles.add(str(made.note))


DAG.check_incomplete = check_configuration
