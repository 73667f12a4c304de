"""Scores and what is shown of them: metrics, tables, plots, pictures of faces with landmarks. Knows no tensors."""
