"""A session on PyTorch: the plain networks, on a CPU or a GPU. The only place where tracking touches torch."""

from pathlib import Path

import numpy as np
import torch

from duotrack.model import weights
from duotrack.model.network import Template
from duotrack.model.normalization import normalize
from duotrack.processor import usable_threads
from duotrack.sessions.base import Floats, Maps, Pixels


class TorchSession:
    """Runs a :class:`duotrack.model.StudentNetwork` in float32."""

    name = "torch"

    def __init__(self, folder: Path, *, device: str | None = None, threads: int | None = None) -> None:
        """Loads the weights of a folder.

        Args:
            folder: with ``config.json`` and ``model.safetensors``.
            device: such as ``cpu`` or ``cuda:0``; by default a GPU where there is one.
            threads: of torch, for the whole process; by default as many as pay.

        Raises:
            ValueError: if the weights do not fit their configuration.
        """
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self._device.type == "cpu":
            torch.set_num_threads(threads or usable_threads())
        self._network = weights.load(folder).eval().to(self._device)
        self.template_size = self._network.config.template_size
        self.search_size = self._network.config.search_size

    @torch.inference_mode()
    def template(self, crops: Pixels, box: Floats | None = None) -> Template:
        """See :class:`duotrack.sessions.base.Session`."""
        target = None if box is None else torch.from_numpy(np.asarray(box, np.float32)).to(self._device)
        return self._network.template(normalize(torch.from_numpy(crops).to(self._device)), target)

    @torch.inference_mode()
    def search(self, state: Template, crops: Pixels) -> Maps:
        """See :class:`duotrack.sessions.base.Session`."""
        output = self._network.search(state, normalize(torch.from_numpy(crops).to(self._device)))
        maps = (output.score, output.size, output.offset, output.box_cxcywh)
        return Maps(*(tensor.cpu().numpy() for tensor in maps))
