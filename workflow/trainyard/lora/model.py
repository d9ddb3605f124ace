"""LoRA on a chat model (https://arxiv.org/abs/2106.09685): any causal model of transformers, an adapter by peft.

The base stays frozen; the loss is the answers' tokens only.
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
from trainyard.lora.batches import block_mask, make_batch
from trainyard.lora.generate import takes_logits_to_keep
from trainyard.lora.identity import base_identity
from trainyard.lora.load import load_base, put_adapter
from trainyard.lora.packable import check_packing
from trainyard.lora.packing import pack_rows
from trainyard.models.base import TrainyardModel, save_tensors

log = logging.getLogger("trainyard.lora")
PART = "answer"


class LoraChat(TrainyardModel):
    """A frozen chat model with a trainable adapter. Parts: "answer" (tokens)."""

    def __init__(self, model: Any, tokenizer: ChatTokenizer, base_name: str, options: LoraOptions):
        """`model`: a peft model, or a plain causal model to be asked only."""
        super().__init__()
        self.model, self.tokenizer, self.base_name, self.options = model, tokenizer, base_name, options
        self.called = base_name  # what the adapter's config calls the base
        self.notes: dict[str, Any] = {}
        self._encoded: dict[Any, EncodedRows] = {}
        self._some_logits = takes_logits_to_keep(model)

    @classmethod
    def from_pack(cls, options: LoraOptions, pack: Any, rows: np.ndarray, paths: Mapping[str, str]) -> Self:
        """`paths["base_model"]` is a folder or a name on the hub; `paths["base_name"]`, where that folder is a copy, what the adapter is
        to call it. Raises ValueError when base, layers or packing do not fit."""
        if not paths.get("base_model"):
            raise ValueError("an adapter is trained on a base: give --base-model, its folder or hub name")
        base = str(paths["base_model"])
        tokenizer = ChatTokenizer(base)
        model = load_base(base, options.dtype)
        if options.packing:
            check_packing(model, base, options.max_length)
        chat = cls(put_adapter(model, options, base), tokenizer, base, options)
        chat.called = str(paths.get("base_name", base))
        return chat

    def encoded(self, pack: Any) -> EncodedRows:
        """The pack's rows as ids, made once."""
        key = getattr(pack, "path", id(pack))
        if key not in self._encoded:
            self._encoded[key] = encode_pack(self.tokenizer, pack, self.options.answers == "every")
        return self._encoded[key]

    def items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """Rows of at most max_length tokens, (m, 1). Longer ones are reported and left out: a cut answer would teach
        the model to stop in the middle. Raises ValueError when none is left."""
        return self._short_enough(pack, np.asarray(rows, np.int64))[:, None]

    def training_items(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        """As `items`, and where it is asked for, the conversations' earlier answers as rows of their own, and several rows
        in one sequence: (m, rows in the fullest), filled up with -1."""
        encoded = self.encoded(pack)
        found = self._short_enough(pack, np.flatnonzero(np.isin(encoded.of, rows)))
        if not self.options.packing:
            return found[:, None]
        bins = pack_rows(found, encoded.lengths[found], self.options.max_length)
        full = float(encoded.lengths[found].sum()) / (len(bins) * self.options.max_length)
        self.notes["packing"] = {"rows": len(found), "sequences": len(bins), "filled": round(full, 4)}
        return bins

    def samples(self, items: np.ndarray) -> np.ndarray:
        return (items >= 0).sum(1)

    def sample_ids(self, pack: Any, items: np.ndarray) -> list[str]:
        return pack.texts("id", list(dict.fromkeys(self.encoded(pack).of[items[items >= 0]].tolist())))

    def _short_enough(self, pack: Any, rows: np.ndarray) -> np.ndarray:
        encoded, most = self.encoded(pack), self.options.max_length
        lengths = encoded.lengths[rows]
        long = rows[lengths > most]
        place = Path(getattr(pack, "path", "the pack"))
        if len(long) and place.name not in self.notes.get("rows_too_long", {}):
            some = ", ".join(pack.texts("id", encoded.of[long[:5]])) + (" …" if len(long) > 5 else "")
            what = f"more than max_length {most} tokens"
            log.warning("%s: %d of %d rows have %s and are left out: %s", place, len(long), len(rows), what, some)
            self.notes.setdefault("rows_too_long", {})[place.name] = len(long)
        if len(rows) and len(long) == len(rows):
            raise ValueError(f"{place}: all {len(rows)} rows have more than max_length {most} tokens; raise options.max_length")
        return rows[lengths <= most]

    def collate(self, pack: Any, items: np.ndarray, seeds: np.ndarray | None) -> dict[str, Tensor]:
        return make_batch(self.encoded(pack), items, self.tokenizer.pad_id, seeds)

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        nats, _ = self.score(batch)
        return nats.sum(1)

    def predict(self, batch: dict[str, Tensor]) -> dict[str, PartOutput]:
        nats, hits = self.score(batch)
        return {PART: PartOutput.tokens(nats.sum(1).cpu().numpy(), hits.sum(1).cpu().numpy(), batch["weight"].cpu().numpy())}

    def score(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Nats of each answer token and whether it was the likeliest, both (n, t - 1), 0 elsewhere."""
        scored = batch["scored"][:, 1:]
        more: dict[str, Any] = {}
        if "row" in batch:
            mask = block_mask(batch["row"], self.model.get_input_embeddings().weight.dtype)
            more = {"position_ids": batch["position_ids"], "attention_mask": mask}
        # Logits only where some row has an answer: the vocabulary is the widest thing there is.
        keep = scored.any(0).nonzero()[:, 0]
        if self._some_logits:
            more["logits_to_keep"] = keep
        logits = self.model(input_ids=batch["input_ids"], use_cache=False, **more).logits
        if not self._some_logits:
            logits = logits[:, keep]
        at, column = scored[:, keep].nonzero(as_tuple=True)
        chosen, target = logits[at, column].float(), batch["labels"][at, keep[column] + 1]
        nats = torch.zeros(scored.shape, device=scored.device)
        nats = nats.index_put((at, keep[column]), F.cross_entropy(chosen, target, reduction="none"))
        hits = torch.zeros(scored.shape, dtype=torch.int64, device=scored.device)
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
        config |= {"inference_mode": True, "base_model_name_or_path": self.called}
        metadata = {"format": "pt", "base_identity": base_identity(self.base_name)}
        save_tensors(Path(folder) / "adapter_model.safetensors", self.trainable_state(), metadata)
        write_json(Path(folder) / "adapter_config.json", json.loads(json.dumps(config, default=str)))
