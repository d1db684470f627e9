"""Where a namespace key comes from: one file per kind of wrapper."""
