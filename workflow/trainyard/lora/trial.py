"""A merged adapter tried the way its users will: loaded by plain peft on its base, and asked."""

from pathlib import Path

import numpy as np

from trainyard.lora.adapter import Adapter
from trainyard.lora.adapter_config import AdapterError
from trainyard.lora.identity import check_base


def try_adapter(folder: Path, base: str | None = None, rows: Path | None = None) -> tuple[list[str], list[str]]:
    """Problems (none when it works) and lines for a person. `rows`: packed chat rows for base's and adapter's loss."""
    import torch

    from trainyard.config.architectures import LoraOptions
    from trainyard.data.chat_tokens import ChatTokenizer
    from trainyard.data.views import open_view
    from trainyard.lora.load import load_base
    from trainyard.lora.model import LoraChat
    from trainyard.lora.validate import Candidates

    adapter = Adapter(folder)
    base = base or adapter.config.get("base_model_name_or_path")
    if not base:
        return [f"{folder}: adapter_config.json names no base; give --base-model"], []
    try:
        check_base([adapter], base)
    except AdapterError as error:
        return [str(error)], []
    chat = LoraChat(load_base(base), ChatTokenizer(base), base, LoraOptions(max_length=1 << 30))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    candidates = Candidates(chat, device)
    ids = torch.arange(min(16, chat.tokenizer.size), device=device)[None]
    with torch.no_grad():
        before = chat.model.eval()(input_ids=ids).logits.float()
        candidates.put_on(folder)
        after = chat.model(input_ids=ids).logits.float()
    problems = [] if bool(torch.isfinite(after).all()) else [f"{folder}: with this adapter the base's logits are not finite"]
    change = float((after - before).norm() / before.norm())
    if change == 0:
        problems.append(f"{folder}: the adapter changes nothing on {base}: are its names those of this base?")
    lines = [f"peft loads it on {base}; logits change by {change:.1%}"]
    if rows is not None and not problems:
        view = open_view(rows, "validation")
        merged = candidates.answer(view, 0).loss
        candidates.put_on(None)
        plain = candidates.answer(view, 0).loss
        lines.append(f"answer loss on {len(view)} rows: {merged:.4f}, the base alone {plain:.4f}")
        if not np.isfinite(merged) or merged >= plain:
            problems.append(f"{folder}: the merged adapter's answer loss {merged:.4f} is not below the base's {plain:.4f}")
    return problems, lines
