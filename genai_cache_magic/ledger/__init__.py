"""What calls came to: spent, saved, hits and misses, by day."""
