"""Adam, without the import of torch's compiler."""

import inspect

import torch


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, whose methods do not import `torch._dynamo`.

    The decorators of torch's methods import the compiler when they are first used, which takes more
    than a second of the first fit of a process, to tell it not to compile them. Nothing is compiled
    here, and these methods are torch's own without their decorators.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
