"""Scores and what is shown of them: metrics, tables, plots, pictures of faces with their landmarks. Knows no tensors."""
