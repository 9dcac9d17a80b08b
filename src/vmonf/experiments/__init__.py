"""The paper's experiments, with its settings and with ours: `vmonf reproduce`.

Each experiment has one file. Its function `run` fits, draws figures and writes `results.json`.
`ledger` saves each result as soon as it is computed, and `tables` formats the results.
"""
