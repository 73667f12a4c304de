"""`vunet`: the paper's generator as released; its style encoder sees the whole face (docs/paper_map.md 1.2 to 1.6)."""
