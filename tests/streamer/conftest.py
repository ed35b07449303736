"""Fixtures of the commands' tests."""

from pathlib import Path

import pytest

from tests.worlds import checkerboard


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "events.csv"
    rows = "".join(f"{u},{i},view,{t}\n" for u, i, t in checkerboard(events=400))
    file.write_text("user_id,item_id,event_type,timestamp\n" + rows)
    return file
