"""Thin adapters that make a ``Cache`` fit the cache interfaces of other libraries.

Each file bears the name of its library and is the only one that imports it. Inside a scope the adapters
stand aside: there the interceptors answer, and count each call once.
"""
