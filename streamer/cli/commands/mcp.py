"""`freshet mcp`: the API as tools for assistants, by the Model Context Protocol."""

import argparse

from streamer.cli import numbers
from streamer.cli.flags import add_setting_flags, settings_of
from streamer.runtime.optional_packages import require

EXAMPLE = "freshet mcp http://localhost:8765"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        help="address of `freshet serve` or `up`, such as http://localhost:8765; /ns/NAME behind it for a namespace",
    )
    parser.add_argument("--write", action="store_true", help="tools that write and delete too; by default they read")
    parser.add_argument(
        "--http-port",
        type=numbers.count,
        metavar="N",
        help="port on loopback where it answers at /mcp; by default it speaks over stdin and stdout",
    )
    add_setting_flags(parser, "api_key")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    require("mcp", "fastmcp")
    from streamer.ops.mcp_server import open_mcp_server

    server = open_mcp_server(arguments.address, settings.api_key, arguments.write)
    if arguments.http_port is None:
        server.run("stdio", show_banner=False)
    else:
        server.run("http", show_banner=False, host="127.0.0.1", port=arguments.http_port, log_level="error")
    return 0
