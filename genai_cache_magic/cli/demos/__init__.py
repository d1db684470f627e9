"""The demonstrations that the package ships."""
