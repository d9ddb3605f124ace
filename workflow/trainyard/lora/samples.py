"""How many samples each adapter was trained on, from the files its training wrote."""

from collections.abc import Sequence
from pathlib import Path

from trainyard.data.files import read_json
from trainyard.lora.adapter_config import AdapterError


def training_samples(models: Sequence[Path], files: Sequence[Path] | None = None) -> list[int]:
    """`files`: metrics.json or train.json of each; without them those in the models' folders. Raises AdapterError."""
    if files is None:
        files = [next((m / n for n in ("train.json", "metrics.json") if (m / n).is_file()), m / "train.json") for m in models]
    if len(files) != len(models):
        raise AdapterError(f"--metrics: {len(files)} files for {len(models)} models; give one for each, in the same order")
    return [_samples(Path(path)) for path in files]


def _samples(path: Path) -> int:
    try:
        content = read_json(path)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read: {error.strerror}; give --metrics, or --weights with numbers") from None
    except ValueError as error:
        raise AdapterError(str(error)) from None
    info = content.get("train_info") if isinstance(content, dict) else None
    count = info.get("samples") if isinstance(info, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise AdapterError(f"{path}: train_info.samples: expected the number of training samples, found {count!r}; or give --weights")
    return count
