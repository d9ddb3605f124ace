# Everything that would fail at hour six, checked in the first minute. Ends with 0 either way: its file says the verdict,
# and training refuses on "fail".
#
# Reruns for the reasons that make a training rerun, and no other: an edit of the checks themselves retrains nothing. (ancient() in
# the training's input would not do: Snakemake asks no reasons of a job behind one that reruns, ancient or not.)


rule preflight_check:
    input:
        unpack(FILES.packs),
        base=FILES.base,
    output:
        "results/{suite}/preflight/{model}.json",
    log:
        "logs/preflight_check/{suite}/{model}.log",
    priority: 10
    conda:
        "../envs/train.yaml"
    resources:
        mem_mb=memory,
        gpu=gpus,
    params:
        settings=PARAMS.model,
        base=PARAMS.base_flag,
        code=PARAMS.code("train_model"),
    shell:
        'exec python "$SCRIPTS"/preflight_check.py --settings {params.settings:q} --train {input.train:q}'
        " --validation {input.validation:q} --test {input.test:q} {params.base} --threads {threads}"
        " --output {output:q} > {log:q} 2>&1"
