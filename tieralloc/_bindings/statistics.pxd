from tieralloc._bindings.core.base cimport Placement
from tieralloc._bindings.core.policy cimport LearnedStats
from tieralloc._bindings.core.sim cimport Counts
from tieralloc._bindings.core.store cimport PolicyStats, StoreStats


cdef counts_dict(const Counts& counts)
cdef learned_dict(LearnedStats stats)
cdef placement_dict(const Placement& placement)
cdef policy_stats_dict(PolicyStats* stats)
cdef stats_dict(const StoreStats* stats)
