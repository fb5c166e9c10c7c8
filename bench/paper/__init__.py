"""The paper's claims about prefetching, measured on recorded traces."""
