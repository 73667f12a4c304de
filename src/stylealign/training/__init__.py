"""What every training shares: the loop, its faces, run folders, weights and learning rates. Knows no network."""
