"""Sampling on hand-made clips in which every pixel tells where it is from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.crops import CropSettings
from duotrack.data.augment import Pair, Processing
from duotrack.data.clips import Clip, Track
from duotrack.data.folders import BrokenDatasetError, BrokenImageError
from duotrack.data.objects import Objects
from duotrack.data.sources import MISALIGNED, ClipSource, DatasetSource, Mixture, Sampling, causal_pair

PROCESSING = Processing(CropSettings(padding="mean"), template_size=32, search_size=64)


def clip(*, visible: bool = True, infrared: bool = True, frames: int = 30) -> Clip:
    """A white 20 x 20 square on grey in the middle of 200 x 160."""
    picture = np.full((frames, 160, 200), 60, np.uint8)
    picture[:, 70:90, 90:110] = 255
    track = Track("T", np.arange(frames), np.tile([90.0, 70.0, 20.0, 20.0], (frames, 1)))
    return Clip("c", np.repeat(picture[..., None], 3, 3) if visible else None, picture if infrared else None, (track,))


@given(
    frames=st.lists(st.integers(0, 400), min_size=5, max_size=40, unique=True),
    after=st.integers(0, 3),
    max_gap=st.integers(2, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_pairs_are_causal_and_no_further_apart_than_needed(
    frames: list[int], after: int, max_gap: int, seed: int
) -> None:
    rows = np.array(sorted(frames))
    track = Track("T", rows, np.zeros((len(rows), 4)))
    length = int(rows[-1]) + 1 + after
    first, second = causal_pair(track, length, max_gap, np.random.default_rng(seed))
    assert first < second
    assert rows[first] <= length - 2
    # Where the clip goes on after the last annotated frame, that one may be drawn, and then the gap grows.
    if after == 0 and (np.diff(rows) < max_gap).all():
        assert rows[second] - rows[first] < max_gap


def test_the_gap_grows_by_five_with_every_failed_draw() -> None:
    """From frame 100 nothing is within 200 or 205 frames; 305 is within 210. So it takes three tails of a coin."""
    track = Track("T", np.array([0, 100, 305]), np.zeros((3, 4)))
    draws = [causal_pair(track, 306, 200, np.random.default_rng(seed)) for seed in range(2000)]
    assert set(draws) == {(0, 1), (1, 2)}
    assert draws.count((1, 2)) / 2000 == pytest.approx(1 / 8, abs=0.03)


def test_short_tracks_and_clips_are_left_out() -> None:
    with pytest.raises(ValueError, match="20 frames"):
        ClipSource([clip(frames=19)], PROCESSING)
    ClipSource([clip(frames=20)], PROCESSING)
    with pytest.raises(ValueError, match="look-alikes need"):
        ClipSource([clip()], PROCESSING, Sampling(lookalikes=0.5))


def test_look_alikes_of_a_kind_that_is_not_there_are_refused_before_any_is_drawn() -> None:
    objects = Objects({}, [np.zeros((8, 8, 3), np.uint8)], {"figure": 1.0})
    ClipSource([clip()], PROCESSING, Sampling(lookalikes=0.5), objects, ("figure",))
    with pytest.raises(
        ValueError, match=r"lookalikes: no such kinds of object: \['warm person'\]; there are \['figure'"
    ):
        ClipSource([clip()], PROCESSING, Sampling(lookalikes=0.5), objects, ("figure", "warm person"))


def test_absent_targets_are_absent() -> None:
    source = ClipSource([clip()], PROCESSING, Sampling(absent=1.0))
    pairs = [pair for seed in range(150) if (pair := source(np.random.default_rng(seed))) is not None]
    assert len(pairs) > 20
    for pair in pairs:
        assert not pair.present
        assert pair.search.max() < 100
        assert pair.template.max() == 255
        assert (pair.search_box[2:] > 0).all()


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_missing_modality_is_black_or_rendered(lacking: int) -> None:
    single = clip(visible=lacking != 0, infrared=lacking != 1)
    black = ClipSource([single], PROCESSING)(np.random.default_rng(3))
    rendered = ClipSource([single], PROCESSING, Sampling(rendered=1.0))(np.random.default_rng(3))
    assert black is not None
    assert rendered is not None
    assert not black.search[lacking].any()
    assert not black.template[lacking].any()
    assert black.shown == (lacking != 0, lacking != 1)
    assert rendered.search[lacking].std() > 0
    assert rendered.shown == (True, True)
    np.testing.assert_array_equal(rendered.search[1 - lacking], black.search[1 - lacking])


def plain(value: int, shown: tuple[bool, bool] = (True, True)) -> Pair:
    box = np.array([0.25, 0.25, 0.5, 0.5], np.float32)
    crops = np.full((2, 8, 8, 3), value, np.uint8)
    return Pair(crops, crops, box, box, np.ones(2, np.float32), shown=shown)


def test_the_stream_depends_on_seed_and_index_only() -> None:
    def stream(seed: int) -> Mixture:
        source = ClipSource([clip()], PROCESSING)
        return Mixture([(source, 2.0), (lambda rng: plain(int(rng.integers(256))), 1.0)], seed, corruption=0.2)

    first, again, other = stream(1), stream(1), stream(2)
    order = np.random.default_rng(0).permutation(40)
    shuffled = {int(index): again.pair(int(index)) for index in order}
    for index in range(40):
        a, b = first.pair(index), shuffled[index]
        for name in ("template", "search", "template_box", "search_box", "brightness"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert any(not np.array_equal(first.pair(i).search, other.pair(i).search) for i in range(10))


def test_invalid_draws_are_repeated_but_not_forever() -> None:
    mixture = Mixture([(lambda rng: plain(7) if rng.random() < 0.1 else None, 1.0)], seed=0)
    assert mixture.pair(0).search[0, 0, 0, 0] == 7
    with pytest.raises(ValueError, match="no valid pair"):
        Mixture([(lambda rng: None, 1.0)], seed=0).pair(0)


def test_broken_images_are_passed_over_and_named() -> None:
    """Three of four draws fail: what remains is what a generator that skips those draws gives."""

    def fragile(rng: np.random.Generator) -> Pair:
        value = int(rng.integers(256))
        if value % 4:
            raise BrokenImageError("it is damaged", Path(f"{value}.jpg"))
        return plain(value)

    mixture = Mixture([(fragile, 1.0)], seed=0)
    for index in range(20):
        rng, skipped = np.random.default_rng([0, index]), []
        rng.random()  # which source
        while (value := int(rng.integers(256))) % 4:
            skipped.append(f"{value}.jpg")
        pair = mixture.pair(index)
        assert pair.search[0, 0, 0, 0] == value
        assert pair.skipped == tuple(skipped)


def test_a_data_set_with_too_many_broken_images_stops_the_run() -> None:
    def fails(share: float) -> DatasetSource:
        def maker(rng: np.random.Generator) -> Pair:
            if rng.random() < share:
                raise BrokenImageError("7.jpg is truncated", Path("7.jpg"))
            return plain(1)

        return DatasetSource("data/LasHeR", maker, tolerance=0.2)

    fine = Mixture([(fails(0.1), 1.0)], seed=0)
    assert sum(len(fine.pair(index).skipped) for index in range(400)) > 20
    with pytest.raises(
        BrokenDatasetError, match=r"data/LasHeR: \d+ of 1\d\d draws .* tolerance of 0\.2.*7\.jpg is truncated"
    ):
        broken = Mixture([(fails(0.4), 1.0)], seed=0)
        for index in range(400):
            broken.pair(index)


def test_corruption_takes_one_modality_and_never_the_last_one() -> None:
    def changed(shown: tuple[bool, bool]) -> list[list[bool]]:
        mixture = Mixture([(lambda rng: plain(100, shown), 1.0)], seed=0, corruption=1.0)
        return [[bool((image != 100).any()) for image in mixture.pair(index).search] for index in range(60)]

    both = changed((True, True))
    assert not any(visible and infrared for visible, infrared in both)
    assert any(visible for visible, _ in both)
    assert any(infrared for _, infrared in both)
    assert not any(visible for visible, _ in changed((True, False)))
    assert not any(infrared for _, infrared in changed((False, True)))
    assert not any(visible or infrared for visible, infrared in changed((False, False)))


def test_misalignment_moves_infrared_alike_in_template_and_search_or_in_the_search_alone() -> None:
    """A bright square of 16 pixels in the template and of 32 in the search: where it goes, in sides of it."""

    def moved(shown: tuple[bool, bool]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        images = [np.full((2, side, side, 3), 50, np.uint8) for side in (64, 128)]
        images[0][:, 24:40, 24:40] = images[1][:, 48:80, 48:80] = 250
        template_box, search_box = (np.array([0.375, 0.375, 0.25, 0.25], np.float32) for _ in range(2))
        pair = Pair(images[0], images[1], template_box, search_box, np.ones(2, np.float32), shown=shown)
        mixture = Mixture([(lambda rng: pair, 1.0)], seed=0, misalignment=1.0)
        for index in range(150):
            found = mixture.pair(index)
            assert (found.template[0] == images[0][0]).all()
            assert (found.search[0] == images[1][0]).all()
            assert found.search_box is search_box
            yield _shift(found.template[1], images[0][1], 16), _shift(found.search[1], images[1][1], 32)

    pairs = list(moved((True, True)))
    late = [abs(template).max() == 0 for template, _ in pairs]
    assert 0.2 < np.mean(late) < 0.4
    for (template, search), alone in zip(pairs, late, strict=True):
        assert alone or search == pytest.approx(template, abs=0.03)
    deviation = np.std([search for _, search in pairs])
    assert deviation == pytest.approx(MISALIGNED, rel=0.2)
    # What only infrared shows is never where its template does not tell.
    assert all(abs(template).max() > 0 for template, _ in moved((False, True)))


def _shift(moved: np.ndarray, image: np.ndarray, side: int) -> np.ndarray:
    """How far the bright square has gone, (x, y), in sides."""
    weights = [picture[..., 0].astype(float) - picture.min() for picture in (moved, image)]
    rows, columns = np.indices(image.shape[:2])
    now, before = (np.array([(columns * w).sum(), (rows * w).sum()]) / w.sum() for w in weights)
    return np.asarray((now - before) / side)


def test_weather_never_spoils_the_only_modality() -> None:
    """The square stands out from its surroundings in every modality that is said to show it."""
    source = ClipSource([clip()], PROCESSING, Sampling(weather=1.0))
    spoiled = 0
    for seed in range(80):
        pair = source(np.random.default_rng(seed))
        assert pair is not None
        assert any(pair.shown)
        spoiled += not all(pair.shown)
        x, y, w, h = (pair.search_box * 64).astype(int)
        if x < 1 or y < 1 or x + w > 63 or y + h > 63:
            continue
        middle = (slice(y + h // 3, y + 2 * h // 3 + 1), slice(x + w // 3, x + 2 * w // 3 + 1))
        for shows, image in zip(pair.shown, pair.search.astype(float), strict=True):
            if shows:
                assert abs(image[middle].mean() - np.median(image)) > 15
    assert spoiled > 15


def test_weather_leaves_no_image_black() -> None:
    source = ClipSource([clip()], PROCESSING, Sampling(weather=1.0))
    pairs = [source(np.random.default_rng(seed)) for seed in range(60)]
    assert all(pair is not None and pair.search[0].any() and pair.search[1].any() for pair in pairs)
