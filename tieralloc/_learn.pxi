# Shadows of a fast tier, and the guard that compares policies on them.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

import numpy as np


cdef extern from "learn/shadow_tier.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_ShadowTier "tieralloc::ShadowTier":
        c_ShadowTier(string policy, uint32_t capacity, uint64_t seed) except +
        bint access(uint64_t row) except +
        bint holds(uint64_t row)
        void prefetch(uint64_t row) except +
        size_t advise_evictions(RowSpan rows, size_t most)
        void withdraw_advice(RowSpan rows)
        void clear_advice()
        size_t advised_rows()
        void sample_residents(size_t draws, vector[uint64_t]& rows) except +
        void use_policy(string policy) except +
        uint32_t capacity()
        uint32_t resident_rows()
        uint64_t lookups()
        uint64_t misses()
        uint64_t evictions()
        uint64_t advised_evictions()
        uint64_t prefetches_issued()
        uint64_t prefetches_useful()
        uint64_t prefetches_useless()


cdef extern from "learn/guard.hpp" namespace "tieralloc" nogil:
    cdef cppclass GuardOptions:
        uint64_t capacity
        vector[string] policies
        uint32_t shadow_rows
        double half_life
        double margin
        double patience
        double changeover
        c_bool ahead
        uint64_t scouting
        uint64_t seed

    size_t c_learned "tieralloc::Guard::kLearned"

    cdef cppclass c_Guard "tieralloc::Guard":
        c_Guard(GuardOptions options) except +
        void observe(RowSpan rows) except +
        size_t bytes()
        c_ShadowTier& learned()
        c_ShadowTier* ahead()
        c_bool is_sampled(uint64_t row)
        size_t choice()
        c_bool fetches_ahead()
        c_bool looks_ahead()
        uint64_t switches()
        uint64_t ahead_switches()
        uint64_t sampled()
        double sample_rate()
        vector[double] miss_ratios() except +


cdef class ShadowTier:
    """A fast tier without bytes that takes advice on who leaves, as a `Store`'s does.

    For one thread at a time. The GIL is released.

    Parameters
    ----------
    policy : str
        One of `eviction_policy_names`, which decides where there is no advice.
    capacity : int
        Rows.
    seed : int
        Of policies that draw at random, and of samples.
    """

    cdef unique_ptr[c_ShadowTier] _own
    cdef c_ShadowTier* _tier
    cdef object _owner  # of what `_tier` is a part of, where it is not its own

    def __cinit__(self, str policy not None, uint32_t capacity, *, uint64_t seed=0):
        self._own.reset(new c_ShadowTier(policy.encode(), capacity, seed))
        self._tier = self._own.get()

    def run(self, const uint64_t[::1] accesses not None):
        """Access rows one by one; returns how many were missing."""
        cdef uint64_t before = self._tier.misses()
        cdef Py_ssize_t i
        with nogil:
            for i in range(accesses.shape[0]):
                self._tier.access(accesses[i])
        return self._tier.misses() - before

    def view(self):
        """Lookups so far, and of the one tier what whoever advises needs to know."""
        return self._tier.lookups(), [{
            "capacity": self._tier.capacity(),
            "resident_rows": self._tier.resident_rows(),
            "advised_rows": self._tier.advised_rows(),
            "evictions": self._tier.evictions(),
            "advised_evictions": self._tier.advised_evictions(),
        }]

    def sample_residents(self, size_t tier, size_t draws):
        """As `Store.sample_residents`."""
        cdef vector[uint64_t] rows
        with nogil:
            self._tier.sample_residents(draws, rows)
        return _row_array(rows)

    def advise_evictions(self, const uint64_t[::1] rows not None, size_t most):
        """As `Store.advise_evictions`."""
        cdef size_t advised
        with nogil:
            advised = self._tier.advise_evictions(_span(rows), most)
        return advised

    def withdraw_advice(self, const uint64_t[::1] rows not None):
        """As `Store.withdraw_advice`."""
        with nogil:
            self._tier.withdraw_advice(_span(rows))

    def clear_advice(self):
        """As `Store.clear_advice`."""
        self._tier.clear_advice()

    def find_absent(self, const uint64_t[::1] rows not None):
        """As `Store.find_absent`."""
        absent = np.empty(rows.shape[0], dtype=np.bool_)
        cdef uint8_t[::1] view = absent.view(np.uint8)
        cdef Py_ssize_t i
        with nogil:
            for i in range(rows.shape[0]):
                view[i] = not self._tier.holds(rows[i])
        return absent

    def prefetch_rows(self, const uint64_t[::1] rows not None):
        """Fetch rows ahead, which are there at once; returns how many were absent."""
        cdef uint64_t before = self._tier.prefetches_issued()
        cdef Py_ssize_t i
        with nogil:
            for i in range(rows.shape[0]):
                self._tier.prefetch(rows[i])
        return self._tier.prefetches_issued() - before

    @property
    def prefetches(self):
        """How many were issued, useful (used before they were evicted), useless (evicted unused)."""
        return {
            "prefetches_issued": self._tier.prefetches_issued(),
            "prefetches_useful": self._tier.prefetches_useful(),
            "prefetches_useless": self._tier.prefetches_useless(),
        }

    def use_policy(self, str name not None):
        """As `Store.use_policy`."""
        self._tier.use_policy(name.encode())


cdef class Guard:
    """Says whether a learned policy or a simple one should decide who leaves a fast tier.

    And where the learned one has rows fetched ahead, whether that pays.

    For one thread at a time.

    Parameters
    ----------
    capacity : int
        Rows of the fast tier.
    policies : sequence of str
        The simple ones to compare with.
    shadow_rows : int
        Rows of a shadow at most.
    half_life : float
        Of what the estimates remember, in accesses to rows of the sample.
    margin, patience : float
        Who would miss less than who is in charge, by a larger share of its own misses than the
        margin and by more misses of the sample than the patience beyond that, takes its place.
    changeover : float
        How many times the patience for a simple policy other than the one in charge last.
    ahead : bool
        Whether the learned policy has rows fetched ahead.
    scouting : int
        Accesses to rows of the sample by which it shows whether that pays.
    seed : int
        Of the sample.
    """

    cdef unique_ptr[c_Guard] _guard
    cdef readonly tuple policies

    def __cinit__(self, uint64_t capacity, policies, *, uint32_t shadow_rows=2048,
                  double half_life=16384, double margin=0.01, double patience=24, double changeover=4,
                  bint ahead=False, uint64_t scouting=1 << 14, uint64_t seed=0):
        cdef GuardOptions options
        self.policies = tuple(policies)
        options.capacity = capacity
        for policy in self.policies:
            options.policies.push_back(policy.encode())
        options.shadow_rows = shadow_rows
        options.half_life = half_life
        options.margin = margin
        options.patience = patience
        options.changeover = changeover
        options.ahead = ahead
        options.scouting = scouting
        options.seed = seed
        self._guard.reset(new c_Guard(options))

    def observe(self, const uint64_t[::1] rows not None):
        """Replay what was accessed, and think again about who should decide."""
        with nogil:
            self._guard.get().observe(_span(rows))

    @property
    def nbytes(self):
        """Bytes of memory that the shadows take."""
        return self._guard.get().bytes()

    @property
    def learned(self):
        """The shadow that the learned policy is to advise as it advises the tier."""
        return _part_of(self, &self._guard.get().learned())

    @property
    def ahead(self):
        """The one that it is also to fetch rows for, those that are sampled; None: there is none."""
        cdef c_ShadowTier* ahead = self._guard.get().ahead()
        return None if ahead == NULL else _part_of(self, ahead)

    def find_sampled(self, const uint64_t[::1] rows not None):
        """Say of which rows, (n,), the shadows see accesses: (n,) bool."""
        sampled = np.empty(rows.shape[0], dtype=np.bool_)
        cdef uint8_t[::1] view = sampled.view(np.uint8)
        cdef Py_ssize_t i
        with nogil:
            for i in range(rows.shape[0]):
                view[i] = self._guard.get().is_sampled(rows[i])
        return sampled

    @property
    def choice(self):
        """The simple policy that should decide; None: the learned one."""
        cdef size_t choice = self._guard.get().choice()
        return None if choice == c_learned else self.policies[choice]

    @property
    def fetches_ahead(self):
        """Whether rows should be fetched ahead; not before that was seen to pay."""
        return self._guard.get().fetches_ahead()

    @property
    def looks_ahead(self):
        """Whether to fetch rows for the shadow `ahead`, and advise it; if not it is not judged."""
        return self._guard.get().looks_ahead()

    @property
    def ahead_miss_ratio(self):
        """Estimated miss ratio of the learned policy where it fetches rows ahead.

        None: it never does, or nobody looks at present whether that pays.
        """
        return self._guard.get().miss_ratios().back() if self.looks_ahead else None

    @property
    def ahead_switches(self):
        """How often rows began to be fetched ahead, or ceased to."""
        return self._guard.get().ahead_switches()

    @property
    def miss_ratios(self):
        """Estimated miss ratio of each simple policy by name, and of the learned one as None."""
        return dict(zip((*self.policies, None), self._guard.get().miss_ratios()))

    @property
    def switches(self):
        """How often the choice changed."""
        return self._guard.get().switches()

    @property
    def sampled(self):
        """Accesses that the shadows saw."""
        return self._guard.get().sampled()

    @property
    def sample_rate(self):
        """The share of all rows that is in the sample."""
        return self._guard.get().sample_rate()


cdef ShadowTier _part_of(Guard guard, c_ShadowTier* shadow):
    cdef ShadowTier tier = ShadowTier(guard.policies[0], 1)
    tier._own.reset()
    tier._tier = shadow
    tier._owner = guard
    return tier
