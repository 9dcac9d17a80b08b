"""The paper's experiments, reproduced, and ours beside them: `vmonf reproduce`.

One file an experiment, each with a `run(out, n_seeds, quick)` that fits, draws and writes
`results.json`, and tables of what it found; `ledger` keeps results as they come.
"""
