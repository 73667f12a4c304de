"""The page `stylealign demo`: pair.py does the work, page.py draws it, gate.py says which requests reach it, job.py
starts it. Only page.py knows gradio."""
