from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from .tiny import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data folder."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Training sets the threads of the whole process: puts back what was there."""
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(cv2_threads)
