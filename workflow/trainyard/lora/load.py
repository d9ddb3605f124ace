"""A base model by folder or hub name, and a fresh adapter on it."""

import warnings
from pathlib import Path
from typing import Any

import torch

from trainyard.config.architectures import LoraOptions
from trainyard.data.chat_tokens import refuse_absent
from trainyard.data.tensors import refuse_unsafe_weights
from trainyard.models.layers import SampleDropout, number_dropouts


def load_base(base: str, dtype: str = "auto") -> Any:
    """A causal model of transformers. Raises ValueError.

    `dtype`: float32, bfloat16, or auto: bfloat16 where a GPU computes in it, else float32. On a CPU, weights that are
    stored in that type stay in the memory-mapped file: all processes of a machine share one copy of them.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    refuse_absent(base)
    folder = Path(base).expanduser()
    base = str(folder) if folder.is_dir() else base
    logging.disable_progress_bar()
    # peft asks transformers by the old name of a property.
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    half = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    kind = {"auto": torch.bfloat16 if half else torch.float32}.get(dtype) or getattr(torch, dtype)
    if folder.is_dir():
        refuse_unsafe_weights(base)
    # Neither pickled weights nor a model's own code: both could do anything.
    only = {"use_safetensors": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
        _silence(config)
        return AutoModelForCausalLM.from_pretrained(base, config=config, dtype=kind, **only)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{base}: no causal model can be loaded from it: {' '.join(str(error).split())[:300]}") from None


def _silence(config: Any) -> None:
    """A frozen base that forgets at random would answer differently each time, from a generator no checkpoint holds."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in vars(part).items():
            if isinstance(value, float) and ("drop" in name or "jitter" in name):
                setattr(part, name, 0.0)


def linear_layers(model: Any) -> list[str]:
    """Every linear layer by its class, whatever an architecture calls it, but the output's. peft's "all-linear" would add the
    experts of some mixtures, which are bare parameters: adapters on those cannot be merged, so the experts stay as they are."""
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D) and module is not output]


def put_adapter(model: Any, options: LoraOptions, base: str) -> Any:
    """The model with a trainable adapter (peft). Raises ValueError when it has no such layers."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.target_modules) if options.target_modules is not None else linear_layers(model),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        names = ", ".join(options.target_modules or ("all linear layers",))
        raise ValueError(f"{base}: target_modules {names}: {error}") from None
    if model.peft_config["default"].target_parameters:
        raise ValueError(
            f"{base}: target_modules {', '.join(options.target_modules or ())}: these are bare parameters of a mixture's experts, and "
            "adapters on them cannot be merged; name linear layers, or none for all of them"
        )
    for name, module in model.named_modules():
        if name.endswith("lora_dropout"):  # torch's dropout would make the loss depend on the batch
            for key in list(module.keys()):
                module[key] = SampleDropout(options.dropout)
    number_dropouts(model)
    if options.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model
