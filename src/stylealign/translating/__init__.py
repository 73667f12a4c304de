"""Translators in a user's hands: the Python API, the verb `translate`, and an augmentation for other people's data loaders.

Training translators, and making data sets with them, is the work of translators/ and of generate.py.
"""
