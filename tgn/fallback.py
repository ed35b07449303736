"""Where compiled kernels are kept if no usual folder can be written; to be said before `tgn.kernel` is imported."""

from pathlib import Path

FOLDERS: list[Path] = []
