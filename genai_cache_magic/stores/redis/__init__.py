"""Redis as a store: one server or a cluster, alone or with Blob for what is large."""
