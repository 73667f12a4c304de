"""`spade`: landmarks drawn in a style whose code carries no layout (after Park et al., CVPR 2019, and Zhu et al., CVPR 2020)."""
