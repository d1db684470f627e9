"""The entries of one namespace: coded, sealed, stored, found, judged and listed."""
