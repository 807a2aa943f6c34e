import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.results import Track, beside, read_boxes, write_atomically


def track(n: int = 3) -> Track:
    boxes = np.arange(4 * n, dtype=np.float64).reshape(n, 4) + 1 / 3
    scores = np.linspace(0, 1, n)
    scores[0] = np.nan
    return Track(boxes, scores, np.full(n, 12.5), {"source": ["a.mp4", "b.mp4"], "settings": {"window": 1.0}})


def test_a_track_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = track().save(tmp_path / "new" / "folder", "walk.1")
    assert path == tmp_path / "new" / "folder" / "walk.1.txt"
    assert sorted(os.listdir(path.parent)) == ["walk.1.json", "walk.1.txt"]
    assert path.read_text().splitlines()[0] == "0.3333,1.3333,2.3333,3.3333"
    loaded = Track.load(path)
    np.testing.assert_allclose(loaded.boxes, track().boxes, atol=5e-5)
    np.testing.assert_array_equal(loaded.scores, track().scores)
    np.testing.assert_array_equal(loaded.milliseconds, track().milliseconds)
    assert loaded.info == track().info


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_where_the_target_was_lost_comes_back(lost: list[bool]) -> None:
    whole = track(len(lost))
    with tempfile.TemporaryDirectory() as folder:
        path = Track(whole.boxes, whole.scores, whole.milliseconds, whole.info, np.array(lost)).save(folder, "walk")
        assert Track.load(path).lost.tolist() == lost


def test_a_track_without_losses_was_never_lost(tmp_path: Path) -> None:
    path = track().save(tmp_path, "walk")
    content = json.loads(path.with_suffix(".json").read_text())
    assert content.pop("lost") == []
    path.with_suffix(".json").write_text(json.dumps(content))  # as an older duotrack wrote it
    assert Track.load(path).lost.tolist() == [False] * 3


def test_the_json_file_is_strict_json(tmp_path: Path) -> None:
    track().save(tmp_path, "walk")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    content = json.loads((tmp_path / "walk.json").read_text(), parse_constant=refuse)
    assert content["scores"] == [None, 0.5, 1.0]
    assert content["source"] == ["a.mp4", "b.mp4"]


def test_the_text_file_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    replace = os.replace

    def note(source: Path, target: Path) -> None:
        order.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    track().save(tmp_path, "walk")
    assert order == ["walk.json", "walk.txt"]


@pytest.mark.parametrize("name", ["", ".", "..", "../walk", "a/b", "a\\b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain name"):
        track().save(tmp_path / "run", name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("boxes", "scores", "milliseconds", "message"),
    [
        (np.zeros((3, 4)), np.zeros(2), np.zeros(3), r"expected \(N, 4\)"),
        (np.zeros((3, 5)), np.zeros(3), np.zeros(3), r"expected \(N, 4\)"),
        (np.zeros((3, 4)), np.array([0, 0, np.inf]), np.zeros(3), "scores of frame 2 are infinite"),
    ],
)
def test_lists_that_do_not_fit_are_refused(boxes: Any, scores: Any, milliseconds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Track(boxes, scores, milliseconds)


def test_losses_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lost have shapes .*\(2,\)"):
        Track(np.zeros((3, 4)), np.zeros(3), np.zeros(3), {}, np.zeros(2, bool))


def test_info_cannot_hide_a_list() -> None:
    with pytest.raises(ValueError, match="'lost'"):
        Track(np.zeros((1, 4)), np.zeros(1), np.zeros(1), {"lost": []})
    with pytest.raises(ValueError, match="'scores'"):
        Track(np.zeros((1, 4)), np.zeros(1), np.zeros(1), {"scores": []})


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[1, 2]", "3", "{}", '{"scores": [1, 2, 3]}', '{"scores": "abc", "milliseconds": [1, 2, 3]}',
     '{"scores": [1, 2], "milliseconds": [1, 2, 3]}', '{"scores": [1, 2, 1e999], "milliseconds": [1, 2, 3]}',
     '{"scores": [1, 2, {}], "milliseconds": [1, 2, 3]}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_json_file_is_named(tmp_path: Path, content: str) -> None:
    path = track().save(tmp_path, "walk")
    (tmp_path / "walk.json").write_text(content)
    with pytest.raises(ValueError, match=r"walk\.json is damaged or does not belong to"):
        Track.load(path)


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    path = track().save(tmp_path, "walk")
    (tmp_path / "walk.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"walk\.json"):
        Track.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5.5,6,7,nan\n",
        "1,2,3,4\r\n5.5,6,7,NaN\r\n\r\n  \r\n",
        "1\t2\t3\t4\n5.5\t6\t7\tnan",
        "1 2 3 4\n  5.5  6 7   nan \n\n",
        "1, 2, 3, 4\n5.5 ,6 ,\t7, nan\n",
        "\ufeff1,2,3,4\n5.5e0,6,+7,-nan\n",
    ],
)
def test_boxes_in_every_spelling(tmp_path: Path, text: str) -> None:
    path = tmp_path / "walk.txt"
    path.write_bytes(text.encode())
    np.testing.assert_array_equal(read_boxes(path), [[1, 2, 3, 4], [5.5, 6, 7, np.nan]])


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,4,5", "1,2,,4", "a,b,c,d", "1,2,3,inf", "1;2;3;4", "1,2,3,4,", ""])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "walk.txt"
    path.write_text(f"1,2,3,4\n{line}\n1,2,3,4\n")
    with pytest.raises(ValueError, match=r"walk\.txt, line 2: .* expected four numbers"):
        read_boxes(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "walk.txt").write_bytes(b"1,2,3,4\n\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"walk\.txt, line 2"):
        read_boxes(tmp_path / "walk.txt")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "walk.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"walk\.txt is empty"):
        read_boxes(tmp_path / "walk.txt")


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6) | st.just(float("nan"))] * 4), min_size=1, max_size=20))
def test_every_box_comes_back_to_a_ten_thousandth(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    n = len(rows)
    path = Track(np.array(rows), np.zeros(n), np.zeros(n)).save(tmp_path_factory.mktemp("track"), "walk")
    np.testing.assert_allclose(Track.load(path).boxes, rows, atol=5.1e-5, rtol=0)


def test_writing_atomically(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert os.listdir(path.parent) == ["file.txt"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), beside(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("half of it")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]
