"""Which files a job reads and writes. The paths are the project's file contract; `wildcards` are Snakemake's."""

from pathlib import Path
from typing import Any

from trainyard.config import Run
from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.together import ENSEMBLE
from trainyard.dag.jobs import Jobs

SPLITS = ("train", "validation", "test")
BASE = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "base.json")
MERGED = ("adapter_model.safetensors", "adapter_config.json", "certificate.json")


def chat_files(shards: int) -> list[str]:
    """The local copy of a chat dataset, with wildcards."""
    train = [f"shard-{i:02d}.jsonl" for i in range(1, shards + 1)] or ["train.jsonl"]
    return [f"results/{{suite}}/packs/{{dataset}}/{name}" for name in [*train, "validation.jsonl", "test.jsonl"]]


def _predicted(folders: list[str]) -> dict[str, list[str]]:
    return {"predictions": [f"{f}/predictions.parquet" for f in folders], "info": [f"{f}/train.json" for f in folders]}


class Files:
    """Input functions of the rules."""

    def __init__(self, jobs: Jobs):
        self.jobs = jobs
        self.sent: frozenset[str] = frozenset()  # found scripts that are on other machines, too
        self.stored = False  # whether files go through a storage

    # ---- data --------------------------------------------------------------------------------------------------
    def root(self, wildcards: Any) -> str:
        """Where a dataset's samples lie: the user's root, or the generated files."""
        return self._root(wildcards.suite, wildcards.dataset)

    def _root(self, suite: str, dataset: str) -> str:
        root = self.jobs.dataset(suite, dataset).root
        return str(Path(root).expanduser()) if root else f"data/demo/{suite}/{dataset}/files"

    def demo_manifest(self, wildcards: Any) -> list[str]:
        own = self.jobs.dataset(wildcards.suite, wildcards.dataset).root
        return [] if own else [f"data/demo/{wildcards.suite}/{wildcards.dataset}/manifest.json"]

    def all_packs(self) -> list[str]:
        return [path for suite, dataset in self.jobs.used_datasets() for path in self._pack_files(suite, dataset)]

    def _pack_files(self, suite: str, dataset: str) -> list[str]:
        if self.jobs.layout(suite, dataset) == "chat":
            files = chat_files(self.jobs.dataset(suite, dataset).shards)
            return [f.format(suite=suite, dataset=dataset) for f in files]
        return sorted(set(self._packs(suite, dataset).values()))

    def _packs(self, suite: str, dataset: str, shard: int = 0) -> dict[str, str]:
        """The pack of each split."""
        folder, layout = f"results/{suite}/packs/{dataset}", self.jobs.layout(suite, dataset)
        if layout == "folds":
            return dict.fromkeys(SPLITS, f"{folder}/all.safetensors")
        packs = {split: f"{folder}/{split}.{'jsonl' if layout == 'chat' else 'safetensors'}" for split in SPLITS}
        return packs | ({"train": f"{folder}/shard-{shard:02d}.jsonl"} if shard else {})

    def packs(self, wildcards: Any) -> dict[str, str]:
        """train, validation and test of a run, or of a model's first run."""
        run = self.jobs.run_of(wildcards)
        return self._packs(run.suite, self.jobs.model(run.suite, run.model).dataset, run.shard)

    # ---- training ----------------------------------------------------------------------------------------------
    def base_packs(self, wildcards: Any) -> dict[str, str]:
        packs = self._packs(wildcards.suite, self.jobs.model_of(wildcards).base.dataset)
        return {split: packs[split] for split in ("train", "validation")}

    def base(self, wildcards: Any) -> list[str]:
        """The built base; nothing for other models, or for a base given by path or hub name."""
        model = self.jobs.run_of(wildcards).model
        built = self.jobs.builds_base(wildcards.suite, model)
        return [f"results/{wildcards.suite}/base/{model}/{f}" for f in BASE] if built else []

    def preflight(self, wildcards: Any) -> str:
        return f"results/{wildcards.suite}/preflight/{self.jobs.run_of(wildcards).model}.json"

    def preflights(self) -> list[str]:
        return sorted({f"results/{r.suite}/preflight/{r.model}.json" for r in self.jobs.runs})

    def index(self, wildcards: Any) -> str:
        """The index of a model's dataset."""
        return f"results/{wildcards.suite}/data/{self.jobs.model_of(wildcards).dataset}/index.parquet"

    def model_root(self, wildcards: Any) -> str:
        """Where the raw data of a model's dataset lie."""
        return self._root(wildcards.suite, self.jobs.model_of(wildcards).dataset)

    def baselines(self, wildcards: Any) -> str:
        """What a run is held against: a promoted run stands beside the baselines of the runs that it may go on with."""
        run = self.jobs.run_of(wildcards)
        return self._baselines(run) if run.role == ENSEMBLE else self.first_baselines(wildcards)

    def first_baselines(self, wildcards: Any) -> str:
        """The baselines of a run, or of the first of those that it is made of: they are the same for all."""
        run = self.jobs.run_of(wildcards)
        while run.of:
            run = run.of[0]
        return self._baselines(run)

    def _baselines(self, run: Run) -> str:
        return f"results/{run.suite}/runs/{run.name}/baselines.parquet"

    def members(self, wildcards: Any) -> list[str]:
        """The folders of the runs that an ensemble is made of."""
        return [f"results/{r.suite}/runs/{r.name}" for r in self.jobs.run_of(wildcards).of]

    def member_files(self, wildcards: Any) -> dict[str, list[str]]:
        return _predicted(self.members(wildcards))

    def candidate_files(self, wildcards: Any) -> dict[str, list[str]]:
        return _predicted([f"results/{r.suite}/runs/{r.name}" for r in self.jobs.candidates(wildcards.suite)])

    def script_here(self, wildcards: Any) -> list[str]:
        """A found script as an input, which keeps its job on this machine; nothing where it is sent with the sources."""
        return [path for path in [self.script(wildcards)] if path not in self.sent]

    def script(self, wildcards: Any) -> str:
        return next(s.path for s in self.jobs.scripts if (s.suite, s.name) == (wildcards.suite, wildcards.run))

    # ---- merge -------------------------------------------------------------------------------------------------
    def shard_folders(self, wildcards: Any) -> list[str]:
        return [f"results/{r.suite}/runs/{r.name}" for r in self.jobs.merges[wildcards.suite, wildcards.merge]]

    def shard_adapters(self, wildcards: Any) -> list[str]:
        return [f"{folder}/adapter_model.safetensors" for folder in self.shard_folders(wildcards)]

    def shard_configs(self, wildcards: Any) -> list[str]:
        return [f"{folder}/adapter_config.json" for folder in self.shard_folders(wildcards)]

    def shard_metrics(self, wildcards: Any) -> list[str]:
        return [f"{folder}/metrics.json" for folder in self.shard_folders(wildcards)]

    def shard_packs(self, wildcards: Any) -> list[str]:
        """The training rows of all shards together: what a merged model has seen."""
        dataset = self.jobs.model_of(wildcards).dataset
        return [self._packs(r.suite, dataset, r.shard)["train"] for r in self.jobs.merges[wildcards.suite, wildcards.merge]]

    def merged_folders(self, wildcards: Any) -> dict[str, str]:
        """The folder of each strategy, in the order of the fallback chain."""
        strategies = self.jobs.model_of(wildcards).merge.strategies
        return {s: f"results/{wildcards.suite}/merged/{wildcards.merge}/{s}" for s in strategies}

    def merged(self, wildcards: Any) -> list[str]:
        return [f"{folder}/{name}" for folder in self.merged_folders(wildcards).values() for name in MERGED]

    # ---- comparison and report ---------------------------------------------------------------------------------
    def suite_metrics(self, wildcards: Any) -> list[str]:
        suite = wildcards.suite
        names = [r.name for r in self.jobs.with_figures if r.suite == suite] + [s.name for s in self.jobs.scripts if s.suite == suite]
        merged = [f"results/{suite}/merged/{m}/metrics.json" for m in self.jobs.merges_of(suite)]
        # With a worker: what others have done already is compared too, where it has come here.
        others = [f"results/{suite}/runs/{name}/metrics.json" for of, name in self.jobs.others if of == suite]
        return [f"results/{suite}/runs/{n}/metrics.json" for n in names] + merged + [path for path in others if Path(path).exists()]

    def attention(self) -> list[str]:
        """Attention maps of the runs whose architecture has them."""
        has = lambda run: ARCHITECTURES[self.jobs.model(run.suite, run.model).architecture].attention  # noqa: E731
        return [f"results/{r.suite}/attention/{r.name}.safetensors" for r in self.jobs.runs if has(r)]

    def comparisons(self) -> list[str]:
        return [f"results/{suite}/comparison.json" for suite in self.jobs.active_suites()]

    def split_summaries(self) -> list[str]:
        return [f"results/{suite}/data/{dataset}/splits.json" for suite, dataset in self.jobs.used_datasets()]
