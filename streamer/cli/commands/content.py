"""`freshet content`: what is known of items as vectors, for `freshet train --content`."""

import argparse
import json
import sys
from pathlib import Path

from consumers.counted import counted
from consumers.errors import DataRefused
from streamer.cli.flags import add_json_flag, settings_of
from streamer.cli.stream_flags import items_of
from streamer.embeddings.pretrained_encoders import WORDLLAMA, Images
from streamer.embeddings.registry import NodeVectors, write_vectors
from streamer.errors import UsageError
from streamer.runtime.progress import progress

EXAMPLE = "freshet content items.parquet --images covers --backbone resnet50 --weights resnet50.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("items", type=Path, help="file of items")
    parser.add_argument(
        "--text", default=WORDLLAMA, metavar="MODEL",
        help="model of the titles: wordllama, or a folder of a sentence-transformers model (default wordllama)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="folder of images named after their items, such as 42.jpg"
    )
    parser.add_argument(
        "--backbone", help="classifier of torchvision that reads the images, such as resnet50 or vit_b_16"
    )
    parser.add_argument("--weights", type=Path, help="file of the backbone's weights, of torch.save or safetensors")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("content.parquet"),
        help="Parquet file to write: item_id, embedding (default content.parquet)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    settings_of(arguments)
    given = (arguments.images, arguments.backbone, arguments.weights)
    if any(given) and not all(given):
        raise UsageError("--images, --backbone, --weights: one needs the other two")
    items = items_of(arguments.items)
    if not items:
        raise DataRefused(f"{arguments.items} has no items")
    from streamer.embeddings.content_vectors import item_vectors  # loads in seconds: after the file has been checked

    with progress("content", len(items), unit="items") as advance:
        vectors, refused = item_vectors(items, arguments.text, Images(*given) if all(given) else None, advance)
    for reason in refused:
        print(f"no image: {reason}", file=sys.stderr)
    write_vectors(arguments.out, "item_id", NodeVectors([item.item_id for item in items], vectors))
    answer = {"file": str(arguments.out), "items": len(items), "size": vectors.shape[1], "images_refused": len(refused)}
    said = f"{arguments.out}: {counted(len(items), 'item')}, {vectors.shape[1]} numbers each"
    print(json.dumps(answer) if arguments.json else said)
    return 0
