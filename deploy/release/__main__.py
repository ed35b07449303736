"""`python -m deploy.release`: checks all of what is to be so before a version is published, and leaves it in dist/.

Nothing is uploaded. With `--artifacts` only what is built is checked, of whatever is checked out.
"""

import argparse
from collections.abc import Iterator

from deploy.release.artifacts import check_artifacts
from deploy.release.sources import ROOT, check_sources
from streamer.ops.doctor import Finding


def main() -> int:
    """Says what was found. Returns 0 where all of it is fine."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifacts", action="store_true", help="leave out versions, changelog, tag and locks")
    fine = True
    for finding in findings(parser.parse_args().artifacts):
        fine = fine and finding.fine
        mend = f" → {finding.mend}" if finding.mend else ""
        print(f"{'ok  ' if finding.fine else 'MEND'} {finding.check}: {finding.found}{mend}", flush=True)
    return 0 if fine else 1


def findings(artifacts_alone: bool) -> Iterator[Finding]:
    """All of them, as they are found."""
    if not artifacts_alone:
        yield from check_sources()
    yield from check_artifacts(ROOT / "dist")


if __name__ == "__main__":
    raise SystemExit(main())
