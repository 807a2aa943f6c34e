"""A tracker without duotrack: its two ONNX graphs, NumPy, OpenCV and onnxruntime (docs/deployment.md has the formulas).

python onnx_tracker.py WEIGHTS VISIBLE INFRARED X,Y,W,H BOXES.txt
"""

import math
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


def frames(source: Path):
    """RGB images of a folder, in the order of their names, or of a video."""
    if source.is_dir():
        yield from (cv2.imread(str(path))[..., ::-1] for path in sorted(source.iterdir()))
        return
    video = cv2.VideoCapture(str(source))
    while (answer := video.read())[0]:
        yield answer[1][..., ::-1]


def cut(image, box, factor, size, padding):
    """The square window around a box, resized; and its side in image pixels."""
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    x1, y1 = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
    height, width = image.shape[:2]
    left, top, right, bottom = max(0, -x1), max(0, -y1), max(0, x1 + side - width + 1), max(0, y1 + side - height + 1)
    inside = np.ascontiguousarray(image[y1 + top : y1 + side - bottom, x1 + left : x1 + side - right])
    color = cv2.mean(inside)[:3] if padding == "mean" else (0, 0, 0)
    inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=color)
    return cv2.resize(inside, (size, size)), side


def track(weights: Path, visible: Path, infrared: Path, box):
    """Yields the box of every frame, x, y, w, h in pixels; the first is the given one."""
    show, search = (onnxruntime.InferenceSession(weights / name) for name in ("model_template.onnx", "model.onnx"))
    says = search.get_modelmeta().custom_metadata_map
    template_size, search_size = show.get_inputs()[0].shape[2], search.get_inputs()[0].shape[2]
    features = None
    for pair in zip(frames(visible), frames(infrared), strict=True):
        factor, size = float(says["search_factor"]), search_size
        if features is None:
            factor, size = float(says["template_factor"]), template_size
        (seen, side), (felt, _) = (cut(image, box, factor, size, says["padding"]) for image in pair)
        crops = np.stack([seen, felt])[:, None]
        if features is None:
            (features,) = show.run(["features"], {"template": crops})
            yield box
            continue
        score, extent, offset = search.run(["score", "size", "offset"], {"search": crops, "features": features})
        grid = score.shape[-1]
        hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, grid + 1) / (grid + 1))).astype(np.float32)
        row, col = divmod(int(np.argmax(score[0, 0] * np.outer(hann, hann) ** float(says["window"]))), grid)
        w, h = extent[0, :, row, col] * side
        cx = box[0] + box[2] / 2 - side / 2 + (col + offset[0, 0, row, col]) / grid * side
        cy = box[1] + box[3] / 2 - side / 2 + (row + offset[0, 1, row, col]) / grid * side
        (height, width), margin = pair[0].shape[:2], 10
        x1, y1 = min(max(0, cx - w / 2), width - margin), min(max(0, cy - h / 2), height - margin)
        x2, y2 = min(max(margin, cx + w / 2), width), min(max(margin, cy + h / 2), height)
        box = (x1, y1, max(margin, x2 - x1), max(margin, y2 - y1))
        yield box


if __name__ == "__main__":
    weights, visible, infrared, start, output = sys.argv[1:]
    boxes = list(track(Path(weights), Path(visible), Path(infrared), tuple(map(float, start.split(",")))))
    np.savetxt(output, boxes, fmt="%.3f", delimiter=",")
