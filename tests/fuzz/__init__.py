"""A seeded mutation fuzzer over everything that reads a stranger's file.

kinds.py      small valid inputs of each kind, and what reads them
mutations.py  how a file is damaged
child.py      reads inputs one after the other, within limits on time and memory
__main__.py   children side by side, a table of what came of it: `make fuzz`
"""
