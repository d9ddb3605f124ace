# Base model, training, baselines, evaluation, and scripts found in a folder.


rule build_base_model:
    input:
        unpack(FILES.base_packs),
    output:
        multiext(
            "results/{suite}/base/{model}/",
            config="config.json",
            model="model.safetensors",
            tokenizer="tokenizer.json",
            tokenizer_config="tokenizer_config.json",
            generation="generation_config.json",
            base="base.json",
        ),
    log:
        "logs/build_base_model/{suite}/{model}.log",
    benchmark:
        "benchmarks/build_base_model/{suite}/{model}.tsv"
    priority: 100
    conda:
        "../envs/train.yaml"
    resources:
        mem_mb=memory,
    params:
        settings=PARAMS.base_model,
        code=PARAMS.code("build_base_model"),
    shell:
        'exec python "$SCRIPTS"/build_base_model.py --settings {params.settings:q} --train {input.train:q}'
        ' --validation {input.validation:q} --output "$(dirname {output.model:q})"'
        " --threads {threads} > {log:q} 2>&1"


rule train_model:
    input:
        unpack(FILES.packs),
        preflight=FILES.preflight,
        base=FILES.base,
    output:
        model="results/{suite}/runs/{run}/model.safetensors",
        history="results/{suite}/runs/{run}/history.csv",
        predictions="results/{suite}/runs/{run}/predictions.parquet",
        info="results/{suite}/runs/{run}/train.json",
    log:
        "logs/train_model/{suite}/{run}.log",
    benchmark:
        "benchmarks/train_model/{suite}/{run}.tsv"
    wildcard_constraints:
        run=dag.one_of(JOBS.runs_saved_as("model")),
    priority: FOLLOW.priority(50)
    conda:
        "../envs/train.yaml"
    threads: dag.same(run_threads, JOBS.runs)
    resources:
        mem_mb=memory,
        cap_mb=memory_cap,
        runtime=minutes,
        gpu=gpus,
        gpu_slots=JOBS.config.settings.gpu_slots,
        host=FOLLOW.hosts(),
    params:
        settings=PARAMS.run,
        epochs=PARAMS.run_value("epochs"),
        batch=PARAMS.run_value("batch_size"),
        lr=PARAMS.run_value("lr"),
        seed=PARAMS.run_value("seed"),
        base=PARAMS.trained_base_flags,
        code=PARAMS.code("train_model"),
    shell:
        'exec python "$SCRIPTS"/train_model.py --settings {params.settings:q} --train {input.train:q}'
        " --validation {input.validation:q} --test {input.test:q} {params.base} --preflight {input.preflight:q}"
        ' --checkpoints checkpoints/{wildcards.suite}/{wildcards.run} --output "$(dirname {output.model:q})"'
        " --code {params.code} --threads {threads} --gpu-slots {resources.gpu_slots} --memory-mb {resources.cap_mb}"
        " --watch-parent $PPID --log {log:q}"


use rule train_model as train_adapter with:
    output:
        model="results/{suite}/runs/{run}/adapter_model.safetensors",
        adapter="results/{suite}/runs/{run}/adapter_config.json",
        history="results/{suite}/runs/{run}/history.csv",
        predictions="results/{suite}/runs/{run}/predictions.parquet",
        info="results/{suite}/runs/{run}/train.json",
    wildcard_constraints:
        run=dag.one_of(JOBS.runs_saved_as("adapter")),


rule fit_baselines:
    input:
        unpack(FILES.packs),
        base=FILES.base,
    output:
        "results/{suite}/runs/{run}/baselines.parquet",
    log:
        "logs/fit_baselines/{suite}/{run}.log",
    wildcard_constraints:
        run=dag.one_of(r.name for r in JOBS.runs),
    conda:
        "../envs/light.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=PARAMS.task,
        base=PARAMS.base_flag,
        code=PARAMS.code("fit_baselines"),
    shell:
        'exec python "$SCRIPTS"/fit_baselines.py --settings {params.settings:q} --train {input.train:q}'
        " --validation {input.validation:q} --test {input.test:q} {params.base} --threads {threads}"
        " --output {output:q} > {log:q} 2>&1"


rule evaluate_model:
    input:
        predictions="results/{suite}/runs/{run}/predictions.parquet",
        baselines=FILES.baselines,
        info="results/{suite}/runs/{run}/train.json",
    output:
        "results/{suite}/runs/{run}/metrics.json",
    log:
        "logs/evaluate_model/{suite}/{run}.log",
    wildcard_constraints:
        run=dag.one_of(r.name for r in JOBS.with_figures),
    priority: 30
    conda:
        "../envs/light.yaml"
    params:
        settings=PARAMS.task,
        code=PARAMS.code("evaluate_model"),
    shell:
        'exec python "$SCRIPTS"/evaluate_model.py --settings {params.settings:q} --predictions {input.predictions:q}'
        " --baselines {input.baselines:q} --train-json {input.info:q} --output {output:q} > {log:q} 2>&1"


rule run_script:
    input:
        local(FILES.script_here),
    output:
        metrics="results/{suite}/runs/{run}/metrics.json",
        info="results/{suite}/runs/{run}/train.json",
    log:
        "logs/run_script/{suite}/{run}.log",
    benchmark:
        "benchmarks/run_script/{suite}/{run}.tsv"
    wildcard_constraints:
        run=dag.one_of(JOBS.script_names),
    priority: FOLLOW.priority(30)
    conda:
        "../envs/train.yaml"
    threads: script_threads
    resources:
        mem_mb=script_memory,
        runtime=script_minutes,
        gpu=script_gpus,
        gpu_slots=JOBS.config.settings.gpu_slots,
        host=FOLLOW.hosts(),
    params:
        script=PARAMS.script_path,
        settings=PARAMS.script,
        code=PARAMS.code("run_script"),
    shell:
        'exec python "$SCRIPTS"/run_script.py --script {params.script:q} --settings {params.settings:q}'
        ' --output "$(dirname {output.metrics:q})" --threads {threads}'
        " --gpu-slots {resources.gpu_slots} --watch-parent $PPID --log {log:q}"
