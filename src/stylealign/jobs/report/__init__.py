"""The verb `report`: job.py makes the page of sections.py, which are made of the pieces of page.py."""
