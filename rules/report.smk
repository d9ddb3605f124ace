# Comparison of a suite's runs, and one report of all suites: of the runs of this call, so local even where files go through a storage,
# in which the comparison of another person's part may lie.


rule compare_models:
    input:
        metrics=FILES.suite_metrics,
    output:
        table=report(
            local("results/{suite}/comparison.csv"),
            caption="../workflow/report/comparison.rst",
            category="Comparison",
            labels={"suite": "{suite}"},
        ),
        rows=local("results/{suite}/comparison.json"),
    log:
        local("logs/compare_models/{suite}.log"),
    conda:
        "../envs/light.yaml"
    params:
        code=PARAMS.code("compare_models"),
    shell:
        'exec python "$SCRIPTS"/compare_models.py --suite {wildcards.suite} --metrics {input.metrics:q}'
        " --output {output.table:q} --json {output.rows:q} > {log:q} 2>&1"


rule map_attention:
    input:
        unpack(FILES.packs),
        model="results/{suite}/runs/{run}/model.safetensors",
    output:
        "results/{suite}/attention/{run}.safetensors",
    log:
        "logs/map_attention/{suite}/{run}.log",
    conda:
        "../envs/train.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=PARAMS.task,
        code=PARAMS.code("map_attention"),
    shell:
        'exec python "$SCRIPTS"/map_attention.py --settings {params.settings:q} --model {input.model:q} --train {input.train:q}'
        " --test {input.test:q} --threads {threads} --output {output:q} > {log:q} 2>&1"


rule build_report:
    input:
        local(FILES.comparisons()),
        fetched=local("results/fetched.json") if STORAGE else [],
        splits=FILES.split_summaries(),
        attention=FILES.attention(),
    output:
        page=report(
            local("results/report/index.html"),
            caption="../workflow/report/page.rst",
            category="Report",
        ),
        status=local("results/report/STATUS.md"),
    log:
        "logs/build_report/report.log",
    conda:
        "../envs/light.yaml"
    params:
        suites=JOBS.active_suites(),
        code=PARAMS.code("build_report"),
    shell:
        'exec python "$SCRIPTS"/build_report.py --results results --output {output.page:q} --status {output.status:q}'
        " --checkpoints checkpoints --suites {params.suites:q} > {log:q} 2>&1"
