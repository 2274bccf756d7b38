"""The text that Prometheus reads: what all processes of this machine or container have counted, and the state."""

import struct
import time
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from linmatrix.metrics.folder import shared_folder, tidy
from linmatrix.metrics.instruments import REGISTRY
from linmatrix.metrics.state import StateCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_state = StateCollector()


READS = 5
PAUSE_SECONDS = 0.05
"""A process that is starting makes its files, which for a moment are empty and cannot be read."""


def exposition() -> bytes:
    """All metrics, in Prometheus' text format. Never raises for a database or broker that is away."""
    return _counted() + generate_latest(_registry_of_state)


def _counted() -> bytes:
    folder = shared_folder()
    if folder is None:
        return generate_latest(REGISTRY)
    tidy(folder)
    for _ in range(READS - 1):
        try:
            return _sum(folder)
        except (struct.error, FileNotFoundError):
            time.sleep(PAUSE_SECONDS)
    return _sum(folder)


def _sum(folder: Path) -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return generate_latest(registry)


_registry_of_state = CollectorRegistry()
_registry_of_state.register(_state)
