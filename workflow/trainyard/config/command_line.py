"""The configuration as snakemake would see it, for commands that are called without it."""

from pathlib import Path
from typing import Any

import yaml

from trainyard.config.base import ConfigError
from trainyard.config.validation import merge


def read_config(home: Path, files: list[Path], words: list[str]) -> dict[str, Any]:
    """config/config.yaml below `home`, overlays in their order, then KEY=VALUE words. Raises ConfigError."""
    config: dict[str, Any] = {}
    for path in (home / "config" / "config.yaml", *files):
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
        if data is not None and not isinstance(data, dict):
            raise ConfigError(f"{path}: expected a mapping")
        config = merge(config, data or {})
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--config: expected KEY=VALUE, found '{word}'")
        try:
            config = merge(config, {key: yaml.safe_load(value)})
        except yaml.YAMLError as error:
            raise ConfigError(f"--config: {key}: {' '.join(str(error).split())}") from None
    return config
