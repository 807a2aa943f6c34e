"""Muon for the matrices of transformer blocks and AdamW for everything else, as one optimizer.

Muon makes the momentum of a matrix orthogonal before it steps, so that all its directions are learned at one pace
(Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Steps have the size that AdamW's would have at the same
rate (Liu et al. 2025, arXiv:2502.16982), so that one rate stands for both. The paper trains with AdamW alone.
"""

from collections.abc import Callable
from typing import Any

import torch


class MuonAdamW(torch.optim.Optimizer):
    """Steps the groups of ``matrices`` by Muon and the ``others`` by AdamW.

    Args:
        matrices: parameter groups of two-dimensional parameters.
        others: parameter groups of any.
        weight_decay: of both, decoupled.

    Raises:
        ValueError: if one of both is empty, or a matrix has not two dimensions.
    """

    def __init__(self, matrices: list[dict[str, Any]], others: list[dict[str, Any]], weight_decay: float) -> None:
        self._muon = torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(others, weight_decay=weight_decay)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the state of :meth:`load_state_dict`, for both."""
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """Both step the groups, and keep their moments in the state, that are seen from outside."""
        count = len(self._muon.param_groups)
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:count], self.param_groups[count:]
        self._muon.state = self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of all groups.

        Raises:
            ValueError: for a closure, which would be evaluated twice.
        """
        if closure is not None:
            raise ValueError("MuonAdamW takes no closure")
        self._muon.step()
        self._adamw.step()
