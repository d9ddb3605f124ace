"""The validation loss of each adapter, from the files its training and evaluation wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainyard.data.files import read_json
from trainyard.lora.adapter import AdapterError


def validation_losses(models: Sequence[Path], files: Sequence[Path] | None = None) -> list[float]:
    """Nats an answer token on validation rows. `files`: metrics.json or train.json of each; without them those in the
    models' folders. Raises AdapterError."""
    if files is None:
        files = [next((m / n for n in ("metrics.json", "train.json") if (m / n).is_file()), m / "metrics.json") for m in models]
    if len(files) != len(models):
        raise AdapterError(f"--metrics: {len(files)} files for {len(models)} models; give one for each, in the same order")
    return [_loss(Path(path)) for path in files]


def _loss(path: Path) -> float:
    try:
        content: Any = read_json(path)
    except OSError as error:
        why = f"{error.strerror}; the validation loss is needed: give --metrics, or use --strategy weighted with --weights"
        raise AdapterError(f"{path}: cannot be read: {why}") from None
    except ValueError as error:
        raise AdapterError(str(error)) from None
    try:
        for metric in content.get("metrics") or []:
            if (metric.get("part"), metric.get("split"), metric.get("metric")) == ("answer", "validation", "nll"):
                return float(metric["value"])
        info = content.get("train_info") or {}
        # Of the weights that were kept; without it the file is of a time when these were those of the best epoch as a rule.
        loss = info.get("validation_loss", info.get("best_validation_loss"))
        if loss is not None:
            return float(loss)
    except (AttributeError, TypeError, ValueError, KeyError):
        pass
    raise AdapterError(f"{path}: holds no validation loss of the answers; evaluate the model first, or give --weights")
