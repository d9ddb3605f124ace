# Trainyard: dataset split → local copy → preflight → training → adapter merge → comparison report.
# The DAG is static: every run is known from the configuration (config/README.md).
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14")

HOME = Path(workflow.basedir)
sys.path.insert(0, str(HOME / "workflow"))


configfile: HOME / "config" / "config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/preflight.smk"
include: "rules/train.smk"
include: "rules/promote.smk"
include: "rules/merge.smk"
include: "rules/report.smk"
include: "rules/machines.smk"


rule all:
    default_target: True
    input:
        local("results/report/index.html"),


rule data:
    input:
        FILES.all_packs(),


onstart:
    folder_lock.claim_locks()
    interrupts.pass_on_a_stop()
    dag.mark_what_follows(workflow)


onsuccess:
    print_comparisons()


onerror:
    partial_report()
