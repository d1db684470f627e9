"""Clients that Stainless generates: calls are answered above HTTP, where the options are not yet a request."""
