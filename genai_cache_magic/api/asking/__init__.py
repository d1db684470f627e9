"""Asking beforehand: what is to be asked, who asks it, and what came of it."""
