"""The translator report: what a translator (or a style arm) keeps of a held-out face, what it changes, and by how much.

job.py         the verb
opening.py     subject, judge and feature network, read from their runs
subject.py     what is assessed: a translator or an arm behind one call
measure.py     all figures on one set of faces
images.py      likeness of pictures: PSNR, SSIM, feature distance, KID
style.py       what a picture looks like, whoever is in it: style statistics, retrieval of the donor
looks.py       what an eye tells: whose hair, skin and surroundings, how sharp, how real; who gives whom a style
structure.py   where an independent detector finds the landmarks of swapped faces: gap, drift, matrix
probes.py      what one code knows of the other: ridge regressions
drawn.py       drawn faces, for which the true answer of every swap can be drawn
writing.py     the folder;  tables.py and plots.py  what people look at
"""
