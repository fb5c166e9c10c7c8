"""A DLRM served end to end with its embeddings in a store: the worth of a policy to a request."""
