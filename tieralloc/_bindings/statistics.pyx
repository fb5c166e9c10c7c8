# distutils: language = c++
"""Statistics of the core as dicts."""

import os

from libcpp.pair cimport pair
from libcpp.string cimport string

from tieralloc._bindings.arguments cimport promotion_name
from tieralloc._bindings.core.base cimport HistogramSum, Placement
from tieralloc._bindings.core.kernels cimport c_kernel_isa
from tieralloc._bindings.core.policy cimport LearnedStats
from tieralloc._bindings.core.sim cimport Counts
from tieralloc._bindings.core.slow_tier cimport PromotionStats, LineCosts
from tieralloc._bindings.core.store cimport PolicyStats, SlowTierStats, StoreStats


cdef counts_dict(const Counts& counts):
    return {
        "lookups": counts.lookups,
        "hits": counts.hits,
        "on_demand_fetches": counts.on_demand_fetches,
        "evictions": counts.evictions,
        "prefetches_issued": counts.prefetches_issued,
        "prefetches_useful": counts.prefetches_useful,
        "prefetches_late": counts.prefetches_late,
        "prefetches_useless": counts.prefetches_useless,
    }


cdef learned_dict(LearnedStats stats):
    cdef pair[string, double] estimate
    return {
        "active": stats.active.decode(),
        "network": stats.network.decode(),
        "observed": stats.observed,
        "evaluations": stats.evaluations,
        "switches": stats.switches,
        "sampled": stats.sampled,
        "sample_rate": stats.sample_rate,
        "prefetching": {
            "paused": stats.prefetching.pauses,
            "pauses": stats.prefetching.pauses_begun,
            "scored": stats.prefetching.scored,
            "chosen": stats.prefetching.chosen,
            "used": stats.prefetching.used,
            "displaced": stats.prefetching.displaced,
            "calibration": stats.prefetching.calibration,
        },
        "miss_ratios": {estimate.first.decode(): estimate.second
                        for estimate in stats.miss_ratios},
    }


cdef policy_stats_dict(PolicyStats* stats):
    return {
        "state": stats.state.decode(),
        "reason": stats.reason.decode("utf-8", "replace"),
        "steps": stats.steps,
        "accesses_observed": stats.observed,
        "cpu_seconds": stats.cpu_seconds,
        "policy_lag": {"mean": stats.mean_lag, "max": stats.max_lag},
        "pauses": stats.pauses,
        "saved_seconds": stats.saved_seconds,
        "spent_seconds": stats.spent_seconds,
        "tiers": [learned_dict(tier) for tier in stats.tiers],
    }


cdef _latency_dict(const HistogramSum& histogram):
    return {
        "count": histogram.count(),
        "p50": histogram.percentile(0.5),
        "p90": histogram.percentile(0.9),
        "p99": histogram.percentile(0.99),
        "p999": histogram.percentile(0.999),
        "max": histogram.max(),
    }


cdef placement_dict(const Placement& placement):
    """The placement of memory; None if no node was requested."""
    if placement.node < 0:
        return None
    refused = placement.refused.decode("utf-8", "replace")
    unverified = placement.unverified.decode("utf-8", "replace")
    return {
        "node": placement.node,
        "mode": "unbound" if refused else "prefer" if placement.prefer else "bind",
        "pages": placement.pages,
        "pages_elsewhere": None if unverified else placement.elsewhere,
        "refused": refused or unverified,
    }


cdef _admission_dict(const SlowTierStats& slow):
    cdef const PromotionStats* view = &slow.admission
    cdef const LineCosts* costs = &view.costs
    return {
        "rule": promotion_name(view.rule),
        "copies": view.promotes,
        "trials": view.trials,
        "lookup_ns_with_copies": view.with_copies_ns or None,
        "lookup_ns_in_place": view.in_place_ns or None,
        "copy_ns": view.copy_ns or None,
        "slow_line_ns": costs.slow_ns,
        "fast_line_ns": costs.fast_ns,
        "cost_ratio": costs.slow_ns / costs.fast_ns if costs.fast_ns > 0 else 1.0,
    }


cdef _slow_tier_dict(const SlowTierStats& slow):
    tier = {
        "kind": slow.kind.decode(),
        "path": os.fsdecode(<bytes>slow.path),
        "engine": slow.engine.decode(),
        "bytes": slow.bytes,
        "emulated": slow.memory.extra_ns > 0,
    }
    if slow.in_place:
        tier["placement"] = placement_dict(slow.memory.placement)
        tier["huge_page_bytes"] = slow.memory.huge_page_bytes
    if slow.memory.extra_ns > 0:
        tier["extra_ns"] = slow.memory.extra_ns
        tier["overlap"] = slow.memory.overlap
    return tier


cdef stats_dict(const StoreStats* stats):
    dram = {
        "vectors": stats.dram.vectors,
        "index": stats.dram.index,
        "metadata": stats.dram.metadata,
        "staging": stats.staging_bytes,
        "access_rings": stats.access_ring_bytes,
        "policy": stats.policy_bytes,
        "page_cache": stats.slow.page_cache_bytes,
    }
    return {
        "calls": stats.calls,
        "lookups": stats.lookups,
        "hits": stats.hits,
        "on_demand_fetches": stats.on_demand_fetches,
        "shared_fetches": stats.shared_fetches,
        "out_of_range": stats.out_of_range,
        "on_demand_seconds": stats.waited_ns * 1e-9,
        "accesses_dropped": stats.accesses_dropped,
        "evictions": stats.tiers.evictions,
        "bypassed": stats.tiers.bypassed,
        "prefetches_issued": stats.tiers.prefetches_issued,
        "prefetches_useful": stats.prefetches_useful,
        "prefetches_late": stats.prefetches_late,
        "prefetches_useless": stats.tiers.prefetches_useless,
        "prefetches_dropped": stats.prefetches_dropped,
        "updates": stats.updates,
        "write_backs": stats.tiers.write_backs,
        "write_back_errors": stats.tiers.write_back_errors,
        "write_back_error": stats.write_back_error.decode("utf-8", "replace"),
        "fast_rows": stats.fast_rows,
        "resident_rows": stats.resident_rows,
        "pinned_rows": stats.pinned_rows,
        "dirty_rows": stats.dirty_rows,
        "dram_bytes": dram,
        "huge_page_bytes": stats.huge_page_bytes,
        "index": stats.index_kind.decode(),
        "kernels": c_kernel_isa().decode(),
        "slow_tier": _slow_tier_dict(stats.slow),
        "fast_placement": placement_dict(stats.fast_placement),
        "admission": _admission_dict(stats.slow) if stats.slow.in_place else None,
        "background_cpus": list(stats.cpus),
        "latency_ns": {
            "call_hit": _latency_dict(stats.call_hit),
            "call_on_demand": _latency_dict(stats.call_on_demand),
            "row_hit": _latency_dict(stats.row_hit),
            "row_on_demand": _latency_dict(stats.row_on_demand),
        },
    }
