"""What Python code calls: caches, scopes, decorators, and the one place that wires the parts."""
