# Results that were made with another configuration run again, also where Snakemake has no record of them: in a new clone,
# or after .snakemake/ was deleted.
from gsm8k_grpo.commands import provenance
from snakemake.dag import DAG

check_incomplete = DAG.check_incomplete


async def check_configuration(dag):
    """Force the jobs whose results are outdated, as Snakemake forces those whose results are incomplete."""
    await check_incomplete(dag)
    dag.forcefiles.update(str(made.note) for made in provenance.outdated(settings))


DAG.check_incomplete = check_configuration
