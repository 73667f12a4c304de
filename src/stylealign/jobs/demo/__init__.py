"""The page `stylealign demo`: pair.py does the work, page.py draws the page, job.py starts it. Only page.py knows
gradio."""
