# NUMA nodes.

cdef extern from "base/numa/nodes.hpp" namespace "tieralloc" nogil:
    cdef cppclass NumaNodeInfo:
        int id
        vector[int] cpus
        uint64_t bytes
        uint64_t available
        c_bool allowed

    vector[NumaNodeInfo] c_numa_nodes "tieralloc::numa_nodes"() except +raise_core_error
    NumaNodeInfo c_usable_node "tieralloc::usable_node"(int node) except +raise_core_error


cdef extern from "slow_tier/memory/sampler.hpp" namespace "tieralloc" nogil:
    cdef cppclass MemoryQuestion:
        int node
        vector[int] cpus
        uint64_t bytes
        int repeats
        vector[uint32_t] row_bytes

    cdef cppclass MemorySamples:
        vector[double] load_ns
        vector[double] bytes_per_second
        vector[vector[double]] gather_ns
        Placement placement
        uint64_t huge_page_bytes

    cdef cppclass ChaseSamples:
        vector[double] plain_ns
        vector[double] extra_ns

    MemorySamples c_sample_memory "tieralloc::sample_memory"(
        const MemoryQuestion& question) except +raise_core_error
    ChaseSamples c_sample_emulation "tieralloc::sample_emulation"(
        double extra_ns, uint64_t bytes, int repeats) except +raise_core_error


cdef _node_dict(const NumaNodeInfo& node):
    return {
        "id": node.id,
        "cpus": list(node.cpus),
        "bytes": node.bytes,
        "available": node.available,
        "allowed": node.allowed,
    }


def numa_nodes():
    """Nodes that are online: number, processors, bytes, bytes it can still give, and whether this
    process may take memory there."""
    cdef NumaNodeInfo node
    found = []
    for node in c_numa_nodes():
        found.append(_node_dict(node))
    return found


def usable_node(int node):
    """The node of this number; ValueError, naming those there are, where it cannot be used."""
    return _node_dict(c_usable_node(node))


def sample_memory(int node, cpus, uint64_t memory_bytes, int repeats, row_bytes):
    """Measure a node's memory from some processors: samples of dependent loads and gathered rows in
    nanoseconds, and of bytes read a second."""
    cdef MemoryQuestion question
    question.node = node
    question.bytes = memory_bytes
    question.repeats = repeats
    for cpu in cpus:
        question.cpus.push_back(cpu)
    for size in row_bytes:
        question.row_bytes.push_back(size)
    cdef MemorySamples samples
    with nogil:
        samples = c_sample_memory(question)
    return {
        "load_ns": list(samples.load_ns),
        "bytes_per_second": list(samples.bytes_per_second),
        "gather_ns": [list(of_size) for of_size in samples.gather_ns],
        "placement": _placement_dict(samples.placement),
        "huge_page_bytes": samples.huge_page_bytes,
    }


def sample_emulation(double extra_ns, uint64_t memory_bytes, int repeats):
    """Samples of a dependent load, in nanoseconds: plain, and with an extra latency emulated."""
    cdef ChaseSamples samples
    with nogil:
        samples = c_sample_emulation(extra_ns, memory_bytes, repeats)
    return list(samples.plain_ns), list(samples.extra_ns)
