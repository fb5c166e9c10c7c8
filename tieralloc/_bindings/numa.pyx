# distutils: language = c++
"""NUMA nodes, and samples of their memory."""

from libc.stdint cimport uint64_t

from tieralloc._bindings.core.base cimport (
    ChaseSamples,
    MemoryQuestion,
    MemorySamples,
    NumaNodeInfo,
    c_numa_nodes,
    c_sample_emulation,
    c_sample_memory,
    c_usable_node,
)
from tieralloc._bindings.statistics cimport placement_dict


cdef _node_dict(const NumaNodeInfo& node):
    return {
        "id": node.id,
        "cpus": list(node.cpus),
        "bytes": node.bytes,
        "available": node.available,
        "allowed": node.allowed,
    }


def numa_nodes():
    """Online nodes: number, processors, bytes, available bytes, and whether this process may
    allocate memory there."""
    cdef NumaNodeInfo node
    found = []
    for node in c_numa_nodes():
        found.append(_node_dict(node))
    return found


def usable_node(int node):
    """The node of this number; ValueError, which names the usable ones, if it is none of them."""
    return _node_dict(c_usable_node(node))


def sample_memory(int node, cpus, uint64_t memory_bytes, int repeats, row_bytes):
    """Measure a node's memory from `cpus`: samples of dependent loads and gathered rows in
    nanoseconds, and of bytes read per second."""
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
        "placement": placement_dict(samples.placement),
        "huge_page_bytes": samples.huge_page_bytes,
    }


def sample_emulation(double extra_ns, uint64_t memory_bytes, int repeats):
    """Samples of a dependent load in nanoseconds: plain, and with an emulated extra latency."""
    cdef ChaseSamples samples
    with nogil:
        samples = c_sample_emulation(extra_ns, memory_bytes, repeats)
    return list(samples.plain_ns), list(samples.extra_ns)
