"""Cohere's wire APIs."""
