"""Files that commands write: they appear when all of them is there."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives the file to write to, which takes the place of `path` at the end, and is removed where that is not reached.

    Until then `path` is what it was before. A pipe or a device is written to as it is. Raises OSError.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file", str(path))
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve() if path.is_symlink() else path
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        if target.exists():  # who might not read the former file may not read this one
            part.chmod(part.stat().st_mode & target.stat().st_mode)
        part.replace(target)
    except OSError as error:
        if error.filename != str(part):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error  # nobody has named the other one
    finally:
        with suppress(OSError):
            part.unlink()
