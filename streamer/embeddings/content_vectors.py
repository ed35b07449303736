"""What is known of items as vectors: attributes, the title and an image side by side, each of length 1."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from consumers.schemas import Item
from streamer.embeddings.pretrained_encoders import WORDLLAMA, Images, embed_images, embed_texts
from streamer.features.item_content import hash_content
from tgn.graph import F32


def item_vectors(
    items: Sequence[Item],
    text: str = WORDLLAMA,
    images: Images | None = None,
    advance: Callable[[int], None] = lambda items: None,
) -> tuple[F32, list[str]]:
    """[N, C] and what is wrong with files of images. C: 64 of the attributes, the text model's, the backbone's.

    What is not known of an item is 0. Raises UsageError as `streamer.embeddings.pretrained_encoders` does.
    """
    known = [hash_content(msgspec.structs.replace(item, title=None)) for item in items]
    parts = [np.array(known), embed_texts([item.title or "" for item in items], text)]
    refused: list[str] = []
    if images:
        seen, refused = embed_images([item.item_id for item in items], images, advance)
        parts.append(seen)
    return np.concatenate(parts, axis=1), refused
