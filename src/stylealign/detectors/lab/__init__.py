"""LAB: facial boundaries first, then landmarks that look along them (Wu et al., CVPR 2018)."""
