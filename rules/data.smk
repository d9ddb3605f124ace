# Demo data, index, split and local copy (packs).

COPY = (
    'exec python "$SCRIPTS"/copy_to_local.py --root {resources.root:q} --index {input.index:q}'
    " --splits {input.splits:q} --settings {params.settings:q} --workers {threads}"
    ' --output-dir "$(dirname {output.summary:q})"'
    " --quarantine {output.quarantine:q} --summary {output.summary:q} > {log:q} 2>&1"
)


# Through a storage, the index and what is made of it may be there already, made by another person: then they count, and what only
# generates the same samples here does not. That they are the same is in the index's params.
MANIFEST = (
    local(ancient(FILES.demo_manifest)) if STORAGE else local(FILES.demo_manifest)
)


rule generate_data:
    output:
        local("data/demo/{suite}/{dataset}/manifest.json"),
    log:
        "logs/generate_data/{suite}/{dataset}.log",
    priority: FOLLOW.priority(20)
    conda:
        "../envs/train.yaml"
    params:
        settings=PARAMS.generator,
        code=PARAMS.code("generate_data"),
    shell:
        'exec python "$SCRIPTS"/generate_data.py --settings {params.settings:q} --output {output:q} > {log:q} 2>&1'


rule index_dataset:
    input:
        MANIFEST,
    output:
        "results/{suite}/data/{dataset}/index.parquet",
    log:
        "logs/index_dataset/{suite}/{dataset}.log",
    priority: FOLLOW.priority(20)
    conda:
        "../envs/light.yaml"
    resources:
        # A resource and not a param: where the data lie is no reason to do anything again.
        root=FILES.root,
    params:
        settings=PARAMS.dataset,
        data=PARAMS.data_stamp,
        code=PARAMS.code("index_dataset"),
    shell:
        'exec python "$SCRIPTS"/index_dataset.py --root {resources.root:q} --settings {params.settings:q}'
        " --output {output:q} > {log:q} 2>&1"


rule split_dataset:
    input:
        "results/{suite}/data/{dataset}/index.parquet",
    output:
        table="results/{suite}/data/{dataset}/splits.parquet",
        summary="results/{suite}/data/{dataset}/splits.json",
    log:
        "logs/split_dataset/{suite}/{dataset}.log",
    priority: FOLLOW.priority(20)
    conda:
        "../envs/light.yaml"
    params:
        settings=PARAMS.dataset,
        code=PARAMS.code("split_dataset"),
    shell:
        'exec python "$SCRIPTS"/split_dataset.py --index {input:q} --settings {params.settings:q}'
        " --output {output.table:q} --summary {output.summary:q} > {log:q} 2>&1"


rule copy_to_local:
    input:
        index="results/{suite}/data/{dataset}/index.parquet",
        splits="results/{suite}/data/{dataset}/splits.parquet",
    output:
        "results/{suite}/packs/{dataset}/train.safetensors",
        "results/{suite}/packs/{dataset}/validation.safetensors",
        "results/{suite}/packs/{dataset}/test.safetensors",
        quarantine="results/{suite}/packs/{dataset}/quarantine.csv",
        summary="results/{suite}/packs/{dataset}/summary.json",
    log:
        "logs/copy_to_local/{suite}/{dataset}.log",
    benchmark:
        "benchmarks/copy_to_local/{suite}/{dataset}.tsv"
    wildcard_constraints:
        dataset=dag.one_of(JOBS.datasets_laid_out("split")),
    priority: FOLLOW.priority(20)
    conda:
        "../envs/train.yaml"
    threads: copy_threads
    resources:
        mem_mb=1500,
        root=FILES.root,
    params:
        settings=PARAMS.dataset,
        code=PARAMS.code("copy_to_local"),
    shell:
        COPY


use rule copy_to_local as copy_to_local_folds with:
    output:
        "results/{suite}/packs/{dataset}/all.safetensors",
        quarantine="results/{suite}/packs/{dataset}/quarantine.csv",
        summary="results/{suite}/packs/{dataset}/summary.json",
    wildcard_constraints:
        dataset=dag.one_of(JOBS.datasets_laid_out("folds")),


for SHARDS in JOBS.shard_counts():

    rule:
        name:
            f"copy_to_local_{SHARDS}_shards"
        input:
            index="results/{suite}/data/{dataset}/index.parquet",
            splits="results/{suite}/data/{dataset}/splits.parquet",
        output:
            dag.chat_files(SHARDS),
            quarantine="results/{suite}/packs/{dataset}/quarantine.csv",
            summary="results/{suite}/packs/{dataset}/summary.json",
        log:
            "logs/copy_to_local/{suite}/{dataset}.log",
        benchmark:
            "benchmarks/copy_to_local/{suite}/{dataset}.tsv"
        wildcard_constraints:
            dataset=dag.one_of(JOBS.datasets_laid_out("chat", SHARDS)),
        priority: FOLLOW.priority(20)
        conda:
            "../envs/train.yaml"
        threads: copy_threads
        resources:
            mem_mb=1500,
            root=FILES.root,
        params:
            settings=PARAMS.dataset,
            code=PARAMS.code("copy_to_local"),
        shell:
            COPY
