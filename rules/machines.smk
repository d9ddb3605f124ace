# Machines without a shared filesystem: files travel through a storage (profiles ec2 and codespace). Without one, nothing here applies.

if STORAGE:
    # Raw data stay here and packs travel. What takes seconds is not worth a journey; the report is for the person here.
    STAY = (
        "generate_data",
        "index_dataset",
        "split_dataset",
        "copy_to_local",
        "decide_promotion",
        "build_ensemble",
        "evaluate_",
        "compare_models",
        "fetch_results",
        "build_report",
    )
    workflow.localrules(*(r.name for r in workflow.rules if r.name.startswith(STAY)))


rule fetch_results:
    input:
        local(FILES.comparisons()),
        FILES.attention(),
    output:
        local("results/fetched.json"),
    log:
        local("logs/fetch_results/results.log"),
    conda:
        "../envs/light.yaml"
    resources:
        store=STORAGE.prefix if STORAGE else "none",
    shell:
        'exec python "$SCRIPTS"/fetch_results.py --store {resources.store:q} --output {output:q} > {log:q} 2>&1'
