"""Sources of text, its vocabulary, and its ids on disk, cut into lanes."""
