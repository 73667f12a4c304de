"""`spade`: landmarks drawn in a style whose code carries no layout (after Park et al. 2019 and Zhu et al. 2020)."""
