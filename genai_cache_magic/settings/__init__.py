"""What can be set, where it is read from, and the units that people write it in."""
