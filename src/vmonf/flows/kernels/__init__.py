"""Hand-written evaluations and gradients: the same numbers as the plain formulas, faster.

You can skip this package at first reading. Every map of `vmonf.flows` is written once as a
plain formula, which autograd differentiates. With few features, most of the time of a training
step is spent in many small calls into torch and in tensors that autograd keeps between them. The
kernels make fewer of both. `benchmarks/kernels.py` measures what they gain, and the tests
compare every kernel with its plain formula.

- `function.py`: what a kernel is, and how autograd and torch.func see it.
- `conditioned.py`: a coupling or autoregressive layer as one kernel.
- `perceptron.py`: the forward and backward pass of K perceptrons.
- `affine.py`, `spline.py`: the bijections.
"""
