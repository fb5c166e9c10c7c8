"""Cython over the C++ core: arguments, buffers, errors; no logic."""

from tieralloc._bindings.checkpoint import Checkpoint
from tieralloc._bindings.delta import Delta
from tieralloc._bindings.external_model import ExternalModel
from tieralloc._bindings.hardware import fetch_engines, kernel_isa
from tieralloc._bindings.held_policy import HeldPolicy
from tieralloc._bindings.labels import belady, next_uses, opt_labels
from tieralloc._bindings.learned_model import LearnedModel
from tieralloc._bindings.network import Network
from tieralloc._bindings.numa import numa_nodes, sample_emulation, sample_memory, usable_node
from tieralloc._bindings.planned_model import PlannedModel
from tieralloc._bindings.row_order import RowOrder, rows_per_page
from tieralloc._bindings.samples import (
    MAX_CONTEXTS,
    PREFETCH_HORIZON,
    ROW_FEATURES_VERSION,
    candidate_feature_names,
    draw_candidate_samples,
    draw_row_samples,
    row_feature_names,
)
from tieralloc._bindings.simulator import (
    Simulator,
    eviction_policy_bytes,
    eviction_policy_names,
)
from tieralloc._bindings.statistics import all_statistics
from tieralloc._bindings.store import Store

__all__ = [
    "MAX_CONTEXTS",
    "PREFETCH_HORIZON",
    "ROW_FEATURES_VERSION",
    "Checkpoint",
    "Delta",
    "ExternalModel",
    "HeldPolicy",
    "LearnedModel",
    "Network",
    "PlannedModel",
    "RowOrder",
    "Simulator",
    "Store",
    "all_statistics",
    "belady",
    "candidate_feature_names",
    "draw_candidate_samples",
    "draw_row_samples",
    "eviction_policy_bytes",
    "eviction_policy_names",
    "fetch_engines",
    "kernel_isa",
    "next_uses",
    "numa_nodes",
    "opt_labels",
    "row_feature_names",
    "rows_per_page",
    "sample_emulation",
    "sample_memory",
    "usable_node",
]
