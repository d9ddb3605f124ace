"""From an architecture's name to its class. Only the named module is imported."""

import importlib

from trainyard.config.architectures import ARCHITECTURES
from trainyard.models.base import TrainyardModel


def architecture(name: str) -> type[TrainyardModel]:
    """The class of an architecture."""
    module, _, cls = ARCHITECTURES[name].target.partition(":")
    return getattr(importlib.import_module(module), cls)
