# The adapters of a model's shards become one, and the first merge that passes is accepted.


rule merge_adapters:
    input:
        adapters=FILES.shard_adapters,
        configs=FILES.shard_configs,
        metrics=FILES.shard_metrics,
    output:
        multiext(
            "results/{suite}/merged/{merge}/{strategy}/",
            adapter="adapter_model.safetensors",
            config="adapter_config.json",
            certificate="certificate.json",
            page="certificate.html",
        ),
    log:
        "logs/merge_adapters/{suite}/{merge}-{strategy}.log",
    benchmark:
        "benchmarks/merge_adapters/{suite}/{merge}-{strategy}.tsv"
    priority: 60
    conda:
        "../envs/light.yaml"
    threads: 2
    params:
        folders=PARAMS.shard_folders("adapters"),
        flags=PARAMS.merge_flags,
        code=PARAMS.code("merge_adapters"),
    shell:
        'exec python "$SCRIPTS"/merge_adapters.py --models {params.folders:q} --metrics {input.metrics:q} {params.flags}'
        ' --strategy {wildcards.strategy} --output "$(dirname {output.adapter:q})"'
        " --threads {threads} > {log:q} 2>&1"


rule validate_merge:
    input:
        unpack(FILES.packs),
        shards=FILES.shard_adapters,
        configs=FILES.shard_configs,
        merged=FILES.merged,
        base=FILES.base,
    output:
        accepted="results/{suite}/merged/{merge}/accepted.json",
        evaluation="results/{suite}/merged/{merge}/evaluation.json",
        predictions="results/{suite}/merged/{merge}/predictions.parquet",
    log:
        "logs/validate_merge/{suite}/{merge}.log",
    benchmark:
        "benchmarks/validate_merge/{suite}/{merge}.tsv"
    priority: 60
    conda:
        "../envs/train.yaml"
    resources:
        mem_mb=memory,
        gpu=gpus,
        gpu_slots=JOBS.config.settings.gpu_slots,
    params:
        settings=PARAMS.merge,
        shards=PARAMS.shard_folders("shards"),
        merged=PARAMS.merged_folders,
        base=PARAMS.base_flag,
        code=PARAMS.code("validate_merge"),
    shell:
        'exec python "$SCRIPTS"/validate_merge.py --settings {params.settings:q} {params.base} --shards {params.shards:q}'
        " --merged {params.merged:q} --validation {input.validation:q} --test {input.test:q} --output {output.accepted:q}"
        " --evaluation {output.evaluation:q} --predictions {output.predictions:q} --threads {threads}"
        " --gpu-slots {resources.gpu_slots} > {log:q} 2>&1"


use rule fit_baselines as fit_merged_baselines with:
    input:
        train=FILES.shard_packs,
        validation=lambda wildcards: FILES.packs(wildcards)["validation"],
        test=lambda wildcards: FILES.packs(wildcards)["test"],
        base=FILES.base,
    output:
        "results/{suite}/merged/{merge}/baselines.parquet",
    log:
        "logs/fit_merged_baselines/{suite}/{merge}.log",
    params:
        settings=PARAMS.merge,
        base=PARAMS.base_flag,
        code=PARAMS.code("fit_baselines"),


use rule evaluate_model as evaluate_merge with:
    input:
        predictions="results/{suite}/merged/{merge}/predictions.parquet",
        baselines="results/{suite}/merged/{merge}/baselines.parquet",
        info="results/{suite}/merged/{merge}/evaluation.json",
    output:
        "results/{suite}/merged/{merge}/metrics.json",
    log:
        "logs/evaluate_merge/{suite}/{merge}.log",
    params:
        settings=PARAMS.merge,
        code=PARAMS.code("evaluate_model"),
