"""Progress goes to stderr, and never gets between the work and its results."""

import pytest

from duotrack.progress import bar, watched


def test_watched_gives_every_item_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert [*watched("drawing", "abc")] == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "drawing" in err
    assert "3/3" in err


def test_watched_takes_items_one_at_a_time() -> None:
    items = watched("drawing", range(5))
    assert next(items) == 0
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]  # a generator: the bar ends with it


def test_a_bar_counts_and_shows_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("tracking", 4, unit="pairs") as advance:
        for _ in range(3):
            advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert "tracking" in err
    assert "3/4" in err
    assert "pairs/s" in err


def test_an_error_goes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="frame 3"), bar("tracking", 4):
        raise ValueError("frame 3")
    assert capsys.readouterr().out == ""
