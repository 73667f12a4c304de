"""SAN: a cascade of heatmaps over a face and its style-aggregated picture (Dong et al., CVPR 2018)."""
