"""Who did what with which key: the trail, its chain of hashes, and its proof."""
