"""The peers of `lora_throughput.py`: transformers' Trainer with peft, and TRL's SFTTrainer with its packing."""

import time
from collections.abc import Iterator

from bench import scratch
from lora_paths import LENGTH, PER_STEP, RATE, SIZES, Bench, Result
from trainyard.config.architectures import LoraOptions
from trainyard.lora.load import put_adapter


def labelled_rows(bench: Bench, mask: str) -> Iterator[dict]:
    for i, prompt in enumerate(bench.encoded.prompt):
        ids = bench.encoded.at(i).tolist()
        answer = [j >= prompt for j in range(len(ids))]
        yield {"input_ids": ids, mask: [int(a) for a in answer]} if mask == "completion_mask" else {
            "input_ids": ids, "labels": [t if a else -100 for t, a in zip(ids, answer)],
        }  # fmt: skip


def with_trainer(bench: Bench) -> Result:
    import transformers

    return _train(bench, transformers.Trainer, transformers.TrainingArguments, list(labelled_rows(bench, "labels")), {})


def with_trl(bench: Bench) -> Result:
    import datasets
    import trl

    datasets.disable_progress_bars()
    more = {"packing": True, "max_length": LENGTH, "dataset_kwargs": {"skip_prepare_dataset": False}}
    return _train(bench, trl.SFTTrainer, trl.SFTConfig, datasets.Dataset.from_list(list(labelled_rows(bench, "completion_mask"))), more)


def _train(bench: Bench, trainer: type, arguments: type, rows, more: dict) -> Result:
    from transformers import PrinterCallback, TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(clock, *_, **__) -> None:
            bench.wait()
            ends.append(time.perf_counter())

    # Packed, a sequence holds several rows: fewer of them make the step of as many rows.
    a_step = max(1, round(PER_STEP * float(bench.encoded.lengths.mean()) / LENGTH)) if more else PER_STEP
    with scratch() as place:
        told = arguments(
            output_dir=str(place), per_device_train_batch_size=1, gradient_accumulation_steps=a_step, num_train_epochs=1,
            learning_rate=RATE, bf16=bench.device.type == "cuda", use_cpu=bench.device.type == "cpu", report_to=[], save_strategy="no",
            logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False, remove_unused_columns=bool(more), **more,
        )  # fmt: skip
        model = put_adapter(bench.base(), LoraOptions(r=8, alpha=16), "random")
        if not more:
            run = trainer(model, told, train_dataset=rows)
        else:
            run = trainer(model, told, train_dataset=rows, processing_class=tokenizer(SIZES[bench.size]["vocab_size"]))
        run.add_callback(Clock())
        run.remove_callback(PrinterCallback)
        run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    share = (len(ends) - 1) / len(ends)
    return Result(ends[-1] - ends[0], int(bench.encoded.lengths.sum() * share), losses, bench.peak())


def tokenizer(vocabulary: int):
    """TRL asks for one; rows are ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"<{i}>": i for i in range(vocabulary)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "<0>")), pad_token="<0>", eos_token="<1>")
