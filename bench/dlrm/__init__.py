"""A DLRM served end to end, its embeddings in a store: what a policy is worth to who waits."""
