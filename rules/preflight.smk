# Everything that would fail at hour six, checked in the first minute. Ends with 0 either way: its file says the verdict,
# and training refuses on "fail".
#
# Reruns for the reasons that make a training rerun, and no other: an edit of the checks themselves retrains nothing. (ancient() in
# the training's input would not do: Snakemake asks no reasons of a job behind one that reruns, ancient or not.)


rule preflight_check:
    input:
        unpack(FILES.packs),
        base=FILES.base,
        index=FILES.index,
    output:
        "results/{suite}/preflight/{model}.json",
    log:
        "logs/preflight_check/{suite}/{model}.log",
    priority: FOLLOW.priority(10)
    conda:
        "../envs/train.yaml"
    threads: run_threads
    resources:
        mem_mb=memory,
        gpu=gpus,
        # Resources and not params: what says where and how much is no reason to do anything again.
        gpus_asked=gpus_asked,
        gpu_slots=JOBS.config.settings.gpu_slots,
        root=FILES.model_root,
        runs=JOBS.runs_of_model,
    params:
        settings=PARAMS.model,
        base=PARAMS.base_flag,
        code=PARAMS.code("train_model"),
    shell:
        'exec python "$SCRIPTS"/preflight_check.py --settings {params.settings:q} --train {input.train:q}'
        " --validation {input.validation:q} --test {input.test:q} {params.base} --threads {threads}"
        " --root {resources.root:q} --index {input.index:q} --runs {resources.runs} --memory-mb {resources.mem_mb}"
        " --gpus {resources.gpus_asked} --gpu-slots {resources.gpu_slots} --output {output:q} > {log:q} 2>&1"


rule preflight:
    input:
        FILES.preflights(),
