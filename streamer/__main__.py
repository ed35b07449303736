"""`python -m streamer` and the `freshet` command."""

import sys

from streamer.cli import main as cli_main


def main() -> None:
    """Entry point of the `freshet` command."""
    sys.exit(cli_main())


if __name__ == "__main__":
    main()
