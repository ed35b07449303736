"""What training minimises, from scores of what happened and of negatives. [B] edges, [M] negatives."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["softmax", "infonce", "bpr"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """−ln σ(s⁺ − s⁻), the mean over the negatives (Rendle et al. 2009). positive [B], negative [B, M]; gives [B]."""
    return F.softplus(negative - positive.unsqueeze(1)).mean(1)


def sampled_softmax(positive: Tensor, negative: Tensor, log_q: Tensor) -> Tensor:
    """−ln of the share of the positive, negatives corrected by how likely they were drawn.

    positive [B], negative [B, M], log_q [M]: ln of the expected number of draws of each (logQ; Bengio & Senécal 2003);
    gives [B].
    """
    return torch.logaddexp((negative - log_q).logsumexp(1), positive) - positive


def infonce(positive: Tensor, negative: Tensor) -> Tensor:
    """The same without a correction: what is drawn often is pushed away more (van den Oord et al. 2018); gives [B]."""
    return torch.logaddexp(negative.logsumexp(1), positive) - positive


def multitask(losses: Tensor, task: Tensor, weight: Tensor) -> Tensor:
    """The mean over the tasks (click, purchase, rating, …) of each one's mean loss, weighted.

    losses [B], task [B] int64: which one an edge is of; weight [T]. Gives a number.
    """
    zero = torch.zeros_like(weight)
    total = zero.index_add(0, task, losses)
    count = zero.index_add(0, task, torch.ones_like(losses))
    here = count > 0
    return (weight[here] * total[here] / count[here]).sum() / weight[here].sum()
