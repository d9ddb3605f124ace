# What is made of several finished runs: the promotion of the best to a longer training, and ensembles.


rule decide_promotion:
    input:
        unpack(FILES.candidate_files),
    output:
        "results/{suite}/promotion.json",
    log:
        "logs/decide_promotion/{suite}.log",
    wildcard_constraints:
        suite=dag.one_of(r.suite for r in JOBS.slots),
    priority: 40
    conda:
        "../envs/light.yaml"
    params:
        settings=PARAMS.promotion,
        code=PARAMS.code("decide_promotion"),
    shell:
        'exec python "$SCRIPTS"/decide_promotion.py --settings {params.settings:q} --predictions {input.predictions:q}'
        " --train-json {input.info:q} --output {output:q} > {log:q} 2>&1"


rule train_promoted:
    input:
        unpack(FILES.packs),
        decision="results/{suite}/promotion.json",
    output:
        model="results/{suite}/runs/{run}/model.safetensors",
        history="results/{suite}/runs/{run}/history.csv",
        predictions="results/{suite}/runs/{run}/predictions.parquet",
        info="results/{suite}/runs/{run}/train.json",
    log:
        "logs/train_promoted/{suite}/{run}.log",
    benchmark:
        "benchmarks/train_promoted/{suite}/{run}.tsv"
    wildcard_constraints:
        run=dag.one_of(r.name for r in JOBS.slots),
    priority: FOLLOW.priority(50)
    conda:
        "../envs/train.yaml"
    threads: run_threads
    resources:
        mem_mb=memory,
        cap_mb=memory_cap,
        runtime=longer_minutes,
        gpu=gpus,
        gpu_slots=JOBS.config.settings.gpu_slots,
        host=FOLLOW.hosts(),
    params:
        code=PARAMS.slot_codes,
    shell:
        'exec python "$SCRIPTS"/train_model.py --promotion {input.decision:q} --slot {wildcards.run} --train {input.train:q}'
        " --validation {input.validation:q} --test {input.test:q}"
        ' --checkpoints checkpoints/{wildcards.suite}/{wildcards.run} --output "$(dirname {output.model:q})"'
        " --code {params.code:q} --threads {threads} --gpu-slots {resources.gpu_slots} --memory-mb {resources.cap_mb}"
        " --watch-parent $PPID --log {log:q}"


rule build_ensemble:
    input:
        unpack(FILES.member_files),
        baselines=FILES.first_baselines,
    output:
        predictions="results/{suite}/runs/{run}/predictions.parquet",
        baselines="results/{suite}/runs/{run}/baselines.parquet",
        info="results/{suite}/runs/{run}/train.json",
    log:
        "logs/build_ensemble/{suite}/{run}.log",
    wildcard_constraints:
        run=dag.one_of(r.name for r in JOBS.ensembles),
    priority: 30
    conda:
        "../envs/light.yaml"
    params:
        settings=PARAMS.task,
        code=PARAMS.code("build_ensemble"),
    shell:
        'exec python "$SCRIPTS"/build_ensemble.py --settings {params.settings:q} --predictions {input.predictions:q}'
        ' --train-json {input.info:q} --baselines {input.baselines:q} --output "$(dirname {output.info:q})"'
        " > {log:q} 2>&1"
