"""LoRA on a chat model (https://arxiv.org/abs/2106.09685): any causal model of transformers, an adapter by peft.

The base stays frozen; the loss is the answer's tokens only. Sequences are padded on the right: under a causal mask
no token sees what follows it, so neither padding nor the other rows of a batch change a row's loss.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainyard.config.architectures import LoraOptions
from trainyard.data.chat_tokens import ChatTokenizer, EncodedRows, encode_pack
from trainyard.data.files import write_json
from trainyard.data.predictions import PartOutput
from trainyard.lora.generate import takes_logits_to_keep
from trainyard.lora.identity import base_identity
from trainyard.models.base import TrainyardModel, save_tensors
from trainyard.models.layers import SampleDropout, number_dropouts

log = logging.getLogger("trainyard.lora")
PART = "answer"


class LoraChat(TrainyardModel):
    """A frozen chat model with a trainable adapter. Parts: "answer" (tokens)."""

    def __init__(self, model: Any, tokenizer: ChatTokenizer, base_name: str, max_length: int):
        """`model`: a peft model, or a plain causal model to be asked only."""
        super().__init__()
        self.model, self.tokenizer, self.base_name, self.max_length = model, tokenizer, base_name, max_length
        self.notes: dict[str, Any] = {}
        self._encoded: dict[Any, EncodedRows] = {}
        self._some_logits = takes_logits_to_keep(model)

    @classmethod
    def from_pack(cls, options: LoraOptions, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        """`paths["base_model"]` is a folder or a name on the hub. Raises ValueError when base or layers do not fit."""
        from peft import LoraConfig, get_peft_model

        base = str(paths["base_model"])
        tokenizer = ChatTokenizer(base)
        model = load_base(base)
        config = LoraConfig(
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=list(options.target_modules),
            task_type="CAUSAL_LM",
            base_model_name_or_path=base,
        )
        try:
            model = get_peft_model(model, config)
        except ValueError as error:
            raise ValueError(f"{base}: target_modules {', '.join(options.target_modules)}: {error}") from None
        for name, module in model.named_modules():
            if name.endswith("lora_dropout"):  # torch's dropout would make the loss depend on the batch
                for key in list(module.keys()):
                    module[key] = SampleDropout(options.dropout)
        number_dropouts(model)
        if options.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return cls(model, tokenizer, base, options.max_length)

    def encoded(self, pack: Any) -> EncodedRows:
        """The pack's rows as ids, made once."""
        key = getattr(pack, "path", id(pack))
        if key not in self._encoded:
            self._encoded[key] = encode_pack(self.tokenizer, pack)
        return self._encoded[key]

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """Rows of at most max_length tokens, (m, 1). Longer ones are reported and left out: a cut answer would teach
        the model to stop in the middle. Raises ValueError when none is left."""
        rows = np.asarray(rows, np.int64)
        lengths = self.encoded(pack).lengths[rows]
        long = rows[lengths > self.max_length]
        place = Path(getattr(pack, "path", "the pack"))
        if len(long) and place.name not in self.notes.get("rows_too_long", {}):
            some = ", ".join(pack.texts("id", long[:5])) + (" …" if len(long) > 5 else "")
            what = f"more than max_length {self.max_length} tokens"
            log.warning("%s: %d of %d rows have %s and are left out: %s", place, len(long), len(rows), what, some)
            self.notes.setdefault("rows_too_long", {})[place.name] = len(long)
        if len(rows) and len(long) == len(rows):
            raise ValueError(f"{place}: all {len(rows)} rows have more than max_length {self.max_length} tokens")
        return rows[lengths <= self.max_length][:, None]

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        """input_ids (n, t) int64, padded on the right; scored (n, t) bool marks the answer; weight (n,) counts it."""
        encoded = self.encoded(pack)
        rows = np.asarray(items)[:, 0]
        lengths = encoded.lengths[rows]
        ids = np.full((len(rows), int(lengths.max())), self.tokenizer.pad_id, np.int64)
        scored = np.zeros(ids.shape, bool)
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = encoded.at(row)
            scored[i, encoded.prompt[row] : lengths[i]] = True
        scored[:, 0] = False  # nothing predicts the first token
        weight = scored.sum(1).astype(np.float32)
        return {"input_ids": torch.from_numpy(ids), "scored": torch.from_numpy(scored), "weight": torch.from_numpy(weight)}

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        nats, _ = self._score(batch)
        return nats.sum(1)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        nats, hits = self._score(batch)
        return {PART: PartOutput.tokens(nats.sum(1).cpu().numpy(), hits.sum(1).cpu().numpy(), batch["weight"].cpu().numpy())}

    def _score(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Nats of each answer token and whether it was the likeliest, both (n, t - 1), 0 elsewhere."""
        ids, scored = batch["input_ids"], batch["scored"][:, 1:]
        # Logits only where some row has an answer: the vocabulary is the widest thing there is.
        keep = scored.any(0).nonzero()[:, 0]
        if self._some_logits:
            logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits
        else:
            logits = self.model(input_ids=ids, use_cache=False).logits[:, keep]
        at, column = scored[:, keep].nonzero(as_tuple=True)
        chosen, target = logits[at, column].float(), ids[at, keep[column] + 1]
        nats = torch.zeros(scored.shape, device=ids.device)
        nats = nats.index_put((at, keep[column]), F.cross_entropy(chosen, target, reduction="none"))
        hits = torch.zeros(scored.shape, dtype=torch.int64, device=ids.device)
        hits[at, keep[column]] = (chosen.detach().argmax(-1) == target).long()
        return nats, hits

    def trainable_state(self) -> dict[str, Tensor]:
        """The adapter's tensors under the names of its file."""
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(self.model, save_embedding_layers=False)

    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        from peft import set_peft_model_state_dict

        found: Any = set_peft_model_state_dict(self.model, dict(state))
        if found.unexpected_keys:
            raise ValueError(f"the adapter holds '{found.unexpected_keys[0]}', which this base has no place for")

    def write(self, folder: str) -> None:
        """adapter_model.safetensors and adapter_config.json, which plain peft loads."""
        config = self.model.peft_config["default"].to_dict()
        config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        config |= {"inference_mode": True, "base_model_name_or_path": self.base_name}
        metadata = {"format": "pt", "base_identity": base_identity(self.base_name)}
        save_tensors(Path(folder) / "adapter_model.safetensors", self.trainable_state(), metadata)
        write_json(Path(folder) / "adapter_config.json", json.loads(json.dumps(config, default=str)))


def load_base(base: str) -> Any:
    """A causal model by folder or hub name: bfloat16 where a GPU computes in it, else float32. Raises ValueError."""
    from transformers import AutoModelForCausalLM

    half = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    try:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if half else torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{base}: no causal model can be loaded from it: {' '.join(str(error).split())[:300]}") from None
