"""Machines without a shared filesystem: the object store, the mirror of the checkpoints, the way home for the results.

Knows nothing of models. Training reaches it by name, so an edit here retrains nothing.
"""
