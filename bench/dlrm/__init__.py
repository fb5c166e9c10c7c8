"""A DLRM served end to end with its embeddings in a store: the effect of policies on requests."""
