"""The life of a model call: what is decided about it, what is kept of it, what is told of it."""
