from pathlib import Path

import hypothesis
import pytest

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("duotrack", deadline=None)
hypothesis.settings.load_profile("duotrack")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and clips beside the checkout; it is not part of the repository."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the reference material in {path}")
    return path
