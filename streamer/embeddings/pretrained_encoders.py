"""What pretrained models make of texts and images, from files alone: nothing is fetched, no code out of a model is run.

Text: WordLlama, whose weights and tokenizer come in its wheel, or a model of sentence-transformers in a folder. Images:
any classifier of torchvision without its last layer, with weights out of a file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamer.errors import UsageError
from streamer.runtime.optional_packages import require
from tgn.graph import F32

if TYPE_CHECKING:  # torch loads where something is embedded
    from torch import nn

WORDLLAMA = "wordllama"
BATCH = 64  # images


class Images(NamedTuple):
    """Where images are, and what embeds them."""

    folder: Path  # of files named after their item's id, such as 42.jpg
    backbone: str  # a classifier's name in torchvision, such as resnet50
    weights: Path  # its state, as torch.save or safetensors write it


def embed_texts(texts: Sequence[str], model: str = WORDLLAMA) -> F32:
    """[N, C] of length 1; 0 of an empty text. model: `wordllama`, or a folder of sentence-transformers.

    Raises UsageError where there is no such model, or what reads it is not installed.
    """
    told = [n for n, text in enumerate(texts) if text.strip()]
    embed = _wordllama() if model == WORDLLAMA else _sentence_transformer(Path(model))
    found = embed([texts[n] for n in told] or ["nothing"])
    vectors = np.zeros((len(texts), found.shape[1]), np.float32)
    if told:
        vectors[told] = found
    return _unit_rows(vectors)


def embed_images(ids: Sequence[str], images: Images, advance: Callable[[int], None]) -> tuple[F32, list[str]]:
    """[N, C] of length 1, 0 of an item without an image; and what is wrong with those files that are no images.

    Raises UsageError where there are no images, or `weights` is not of the backbone.
    """
    require("content", "torchvision")
    import torch
    from torchvision.models import get_model_weights

    model = _backbone(images)
    transform = get_model_weights(images.backbone).DEFAULT.transforms()
    files = {file.stem: file for file in sorted(images.folder.glob("*"))}
    there = [n for n, id_ in enumerate(ids) if id_ in files]
    if not there:
        raise UsageError(f"--images: no file of {images.folder} is named after an item, such as {ids[0]}.jpg")
    found: dict[int, np.ndarray] = {}
    refused: list[str] = []
    for first in range(0, len(there), BATCH):
        batch = {}
        for n in there[first : first + BATCH]:
            try:
                batch[n] = transform(_opened(files[ids[n]]))
            except (OSError, ValueError) as error:
                refused.append(f"{files[ids[n]]}: {error}")
        if batch:
            with torch.no_grad():
                found |= dict(zip(batch, model(torch.stack(list(batch.values()))).numpy(), strict=True))
        advance(min(BATCH, len(there) - first))
    if not found:
        raise UsageError(f"--images: no file of {images.folder} that is named after an item is an image: {refused[0]}")
    vectors = np.zeros((len(ids), len(next(iter(found.values())))), np.float32)
    vectors[list(found)] = list(found.values())
    return _unit_rows(vectors), refused


def _unit_rows(vectors: np.ndarray) -> F32:
    """[N, C] of length 1, rows of 0 as they are."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def _wordllama() -> Callable[[list[str]], np.ndarray]:
    require("graph", "wordllama")
    import wordllama

    # without the folder it looks for its tokenizer in the network, although that lies beside it
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return lambda texts: np.asarray(model.embed(texts), np.float32)


def _sentence_transformer(folder: Path) -> Callable[[list[str]], np.ndarray]:
    if not (folder / "modules.json").is_file():
        raise UsageError(f"--text: {folder} is no folder of a sentence-transformers model: it has no modules.json")
    require("content", "sentence_transformers")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), local_files_only=True, trust_remote_code=False)
    return lambda texts: np.asarray(model.encode(texts, show_progress_bar=False), np.float32)


def _backbone(images: Images) -> "nn.Module":
    """The classifier, with what comes before its last layer as its result."""
    import torch
    import torchvision
    from safetensors.torch import load_file
    from torch import nn

    if images.backbone not in torchvision.models.list_models(module=torchvision.models):
        raise UsageError(f"--backbone: torchvision has no classifier {images.backbone!r}; resnet50 or vit_b_16 are two")
    model = torchvision.models.get_model(images.backbone, weights=None)
    try:
        if images.weights.suffix == ".safetensors":
            state = load_file(images.weights)
        else:
            state = torch.load(images.weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except Exception as error:  # whatever a damaged file makes of its reader
        raise UsageError(f"--weights: {images.weights} is not of {images.backbone}: {error}") from error
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"--backbone: {images.backbone} has no last layer to leave out; take another one")
    model.set_submodule(linear[-1], nn.Identity())
    result: nn.Module = model.eval()
    return result


def _opened(file: Path) -> object:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
