"""Bars of text, for a terminal."""

TEXT_WIDTH = 24  # characters


def text_bar(value: float, longest: float) -> str:
    """A bar of blocks, padded to what `longest` takes; none below 0."""
    return f"{'█' * round(TEXT_WIDTH * max(value, 0) / longest):<{TEXT_WIDTH}}"
