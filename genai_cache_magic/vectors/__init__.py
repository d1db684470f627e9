"""Texts by their meaning: vectors as they are stored, how alike two are, and which are nearest."""
