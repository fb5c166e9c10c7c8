"""Prefetchers that recmg is compared with, each from its paper's description and tuned.

Each runs over a simple eviction policy: what it fetches ahead takes places in the same fast tier.
"""
