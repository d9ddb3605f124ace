#!/usr/bin/env python
"""Ask the base, every shard's adapter and the merged ones the same held-out rows, and accept the first merge that passes.

Limits (loss, valid JSON, seconds, memory, size) are held against validation rows; the figures shown are of test rows.
Answers are greedy and nothing constrains them. Merges are tried in the order given; when none passes, accepted.json
says so and why, and the figures are those of the closest. Ends with 0 either way.

Example, by hand:
  validate_merge.py --settings @run.json --base-model base --shards runs/shard01 runs/shard02 \\
    --merged average=merged/average best=merged/best --validation packs/validation.jsonl --test packs/test.jsonl \\
    --output accepted.json --predictions predictions.parquet --evaluation evaluation.json
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from trainyard.command import at_least, by_name, not_empty_path, run_command, thread_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="the run's settings with `merge` (limits): JSON, or @file")
    parser.add_argument("--base-model", required=True, help="the base's folder or hub name")
    parser.add_argument("--shards", nargs="*", default=[], type=not_empty_path, help="adapter folders of the shards")
    parser.add_argument("--merged", nargs="+", required=True, help="strategy=folder of each merge, in the order of the fallback chain")
    for split in ("validation", "test"):
        parser.add_argument(f"--{split}", required=True, help=f"packed chat rows of the {split} split")
    parser.add_argument("--output", required=True, type=not_empty_path, help="accepted.json")
    parser.add_argument("--predictions", required=True, type=not_empty_path, help="predictions.parquet of the accepted merge")
    parser.add_argument(
        "--evaluation", required=True, type=not_empty_path, help="evaluation.json: run, model and settings, as train.json has them"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--gpu-slots", type=at_least(1), default=1, help="runs that one GPU holds at once (default %(default)s)")
    parser.add_argument("--threads", type=at_least(1), default=1, help="CPU threads")
    args = parser.parse_args()
    thread_limit(args.threads)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    merged = named_folders(args.merged)
    names = ["base", *(folder.name for folder in args.shards), *(name for name, _ in merged)]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ValueError(
            f"two of base, shards and merges are called '{twice}'; shards go by their folders' names, write merges strategy=folder"
        )

    from trainyard.config.architectures import LoraOptions
    from trainyard.config.merging import Merge
    from trainyard.config.validation import read_settings, validate
    from trainyard.data.files import read_json, write_json
    from trainyard.data.views import open_view
    from trainyard.lora.adapter import Adapter
    from trainyard.lora.compatible import check_together
    from trainyard.lora.identity import check_base

    settings = read_settings(args.settings, ("suite", "run", "model"))
    options = validate(LoraOptions, settings.get("options", {}), "options")
    wanted = validate(Merge, settings.get("merge", {}), "merge")
    shards = [Adapter(folder) for folder in args.shards]
    check_together(shards or [Adapter(merged[0][1])])
    check_base([*shards, *(Adapter(folder) for _, folder in merged)], args.base_model)
    near = by_name("trainyard.data.near").bring_near([args.validation, args.test])
    views = {split: open_view(near[getattr(args, split)], split) for split in ("validation", "test")}

    name = f"validate_merge {settings['suite']}/{settings['model']}"
    place = by_name("trainyard.host.slots").hold_gpu(args.device, name, args.gpu_slots)
    from trainyard.data.chat_tokens import ChatTokenizer
    from trainyard.lora.choose import Choice, choose_merge
    from trainyard.lora.load import load_base
    from trainyard.lora.model import LoraChat
    from trainyard.lora.validate import Candidates
    from trainyard.train.device import choose_device, set_up
    from trainyard.train.run_info import run_info, utc_now

    started, clock = utc_now(), time.monotonic()
    device = choose_device(place)
    set_up(device, args.threads, 0)
    chat = LoraChat(load_base(args.base_model, options.dtype), ChatTokenizer(args.base_model), args.base_model, options)
    base_parameters = sum(p.numel() for p in chat.model.parameters())
    choice = Choice(Candidates(chat, device), views, wanted.acceptance, options.generate)
    result = choose_merge(choice, args.shards, merged, wanted.prompts)
    result["against"] = beside(choice, result["shown"], [folder.name for folder in args.shards])
    shown = dict(merged)[result["shown"]]
    adapter = Adapter(shown)
    trained = sum(tensor.count for tensor in adapter.tensors.values())
    choice.predictions(result["shown"]).write(args.predictions)
    write_json(args.output, result)
    certificate = shown / "certificate.json"
    write_json(args.evaluation, {
        "run_info": run_info(str(device), args.threads, started),
        "train_info": {
            "seconds": round(time.monotonic() - clock, 3), "parameters": base_parameters + trained, "trained_parameters": trained,
            "bytes": adapter.path.stat().st_size, "adapters": len(args.shards), "strategy": result["shown"], "accepted": result["accepted"],
        },
        "meta_info": {"settings": settings, "accepted": result["accepted"], "reason": result["reason"],
                      "certificate": _short(read_json(certificate)) if certificate.is_file() else None},
    })  # fmt: skip
    print(f"accepted: {result['accepted'] or 'none'}: {result['reason']}")


def beside(choice: Any, shown: str, shards: list[str]) -> list[dict[str, Any]]:
    """What the merge that is shown gains on base, shards and their mean: reported, never assumed."""
    from trainyard.report.against import against, mean_of

    tokens = {name: answers.tokens for name, answers in choice.asked.items()}
    others = {name: tokens[name] for name in ("base", *shards)}
    if len(shards) > 1:
        others["mean of the shards"] = mean_of([tokens[name] for name in shards])
    return against(tokens[shown], others, choice.groups(shown))


def named_folders(texts: list[str]) -> list[tuple[str, Path]]:
    """strategy=folder pairs; a bare folder is named by its last part."""
    pairs = []
    for text in texts:
        name, equals, folder = text.partition("=")
        pairs.append((name, Path(folder)) if equals else (Path(text).name, Path(text)))
    return pairs


def _short(certificate: dict) -> dict:
    return {key: value for key, value in certificate.items() if key not in ("layers", "inputs")}


if __name__ == "__main__":
    run_command(main)
