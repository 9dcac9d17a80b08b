"""Adam, without the import of torch's compiler."""

import inspect

import torch


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, whose methods do not import `torch._dynamo`.

    When torch's methods are first used, their decorators import the compiler, to tell it not to
    compile them. This takes more than a second of the first fit of a process. Nothing is compiled
    here, so that these are torch's own methods without their decorators.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
