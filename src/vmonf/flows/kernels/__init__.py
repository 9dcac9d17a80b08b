"""Hand-written evaluations and gradients: the same numbers as the plain formulas, faster.

You can skip this package at first reading. Every map of `vmonf.flows` is written as a plain
formula, which autograd differentiates. Where a plain formula takes at least a fifth longer, it has
a kernel here; `benchmarks/kernels.py` measures what each gains, and the tests compare each with
its plain formula.

- `function.py`: what a kernel is, and how autograd and torch.func see it.
- `perceptron.py`: large networks; their products skip what is masked.
- `spline.py`: rational-quadratic splines.
"""
