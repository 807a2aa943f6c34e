"""Sequences of the five data sets as what a tracker runs on: frames and a first box."""

import os
from pathlib import Path

from duotrack.data.datasets import Layout, count, image_files
from duotrack.sequence import Sequence


def open_sequence(folder: str | os.PathLike[str], layout: Layout) -> Sequence:
    """Opens a sequence of a data set; :func:`duotrack.data.datasets.first_box` gives the box to start with.

    Published folders do not always hold as many images as annotated frames. The sequence ends where the shorter
    modality or the annotation ends (:attr:`duotrack.data.datasets.Counts.frames`): what lies beyond is not scored.
    Too few images are no error here either, for published data may be so;
    :attr:`duotrack.data.datasets.Counts.lacking` says how many frames a result will lack, and ``duotrack data check``
    lists such sequences.

    Returns:
        A lazy sequence with the name of the folder.

    Raises:
        OSError: if a folder of images or an annotation is missing.
        ValueError: if one is unusable, or the modalities differ in size.
    """
    frames = count(folder, layout).frames
    visible, infrared = image_files(folder, layout)
    return Sequence.from_images(visible[:frames], infrared[:frames], Path(folder).name)
