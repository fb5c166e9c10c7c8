"""Baseline prefetchers, implemented from their papers, and tuned.

Each runs with a simple eviction policy; prefetched rows take slots of the same fast tier.
"""
