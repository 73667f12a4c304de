"""The job `study`: detectors x arms x label budgets x seeds at equal updates, from one recipe, into one table.

    <out>/cells/<row>/<budget>/s<seed>        an ordinary run of `train-detector`;
    s<seed>.yaml and s<seed>.log beside it
    <out>/predictions/<test>/<row>/<budget>/  what each model answers on each test set, so that tables are made again
    for nothing <out>/study.json, study.md, nme_*.png     the result

A row of the table is a detector in an arm; a cell is a row at one label budget with one seed. Every
cell's configuration is read before the first is trained. Finished cells are never trained again: a
stopped study continues with the same command, and a recipe with more seeds, rows or budgets trains only
what is new. Knows no network and no loss.
"""
