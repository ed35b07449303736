"""`freshet content`: what pretrained models make of titles and images, read from files."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamer.cli.main import main
from streamer.embeddings.pretrained_encoders import embed_texts
from tests.lazily import lazily, needs

pytestmark = needs("torchvision", "content")
Image = lazily("PIL.Image")
torch = lazily("torch")
TITLES = ["Iron Man", "The Iron Giant", "Love Actually", ""]


@pytest.fixture(autouse=True)
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four items, the last of them without a title."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "items.jsonl"
    rows = [{"item_id": f"i{n}", "title": title, "categories": [f"c{n % 2}"]} for n, title in enumerate(TITLES)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Pictures of two items, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n, colour in ((0, "red"), (1, "blue")):
        Image.new("RGB", (40, 30), colour).save(folder / f"i{n}.png")
    (folder / "i2.png").write_bytes(b"no image")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said on standard error."""
    assert main(["content", *map(str, arguments)]) != 0
    return capsys.readouterr().err


def vectors(*arguments: object) -> np.ndarray:
    assert main(["content", *map(str, arguments)]) == 0
    return np.array(pq.read_table("content.parquet")["embedding"].to_pylist())


def weights(backbone: str, file: Path) -> Path:
    """Random ones: what is tested is how they are read, and the shapes, not what they see."""
    torch.manual_seed(0)
    from torchvision.models import get_model  # seconds: only the process that runs these tests spends them

    state = get_model(backbone, weights=None).state_dict()
    if file.suffix == ".safetensors":
        lazily("safetensors.torch").save_file(state, file)
    else:
        torch.save(state, file)
    return file


def test_titles_that_mean_alike_are_near_by_wordllama(items: Path) -> None:
    found = vectors(items)
    assert found.shape == (4, 64 + 256)
    assert pq.read_table("content.parquet")["item_id"].to_pylist() == ["i0", "i1", "i2", "i3"]
    titles = found[:, 64:]
    assert np.allclose(np.linalg.norm(titles, axis=1), [1, 1, 1, 0], atol=1e-5)
    assert titles[0] @ titles[1] > titles[0] @ titles[2]
    assert np.allclose(found[0, :64], found[2, :64])  # of the same category


def test_a_model_of_sentence_transformers_is_read_from_its_folder(items: Path, tmp_path: Path) -> None:
    """WordLlama's weights as such a model give what WordLlama gives."""
    import wordllama
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    known = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    SentenceTransformer(modules=[StaticEmbedding(known.tokenizer, embedding_weights=known.embedding)]).save("model")
    assert np.allclose(embed_texts(TITLES, str(tmp_path / "model"))[:1], embed_texts(TITLES[:1]), atol=1e-3)
    assert vectors(items, "--text", "model").shape == (4, 64 + 256)


@pytest.mark.parametrize(
    ("backbone", "size", "name"),
    [("resnet18", 512, "weights.pth"), ("mobilenet_v3_small", 1024, "weights.safetensors")],
)
def test_images_by_a_backbone_without_its_last_layer(
    backbone: str, size: int, name: str, items: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = weights(backbone, tmp_path / name)
    found = vectors(items, "--images", images, "--backbone", backbone, "--weights", file)[:, 64 + 256 :]
    assert found.shape == (4, size)
    assert np.allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 0], atol=1e-5)
    assert not np.allclose(found[0], found[1])
    assert "no image: " in (told := capsys.readouterr().err)
    assert "i2.png" in told


def test_what_no_model_can_read_is_refused(
    items: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = weights("resnet18", tmp_path / "weights.pth")
    assert "has no modules.json" in refused(capsys, items, "--text", "nowhere")
    assert "one needs the other two" in refused(capsys, items, "--images", images)
    assert "no classifier 'nonet'" in refused(
        capsys, items, "--images", images, "--backbone", "nonet", "--weights", file
    )
    assert "is not of resnet34" in refused(
        capsys, items, "--images", images, "--backbone", "resnet34", "--weights", file
    )
    (tmp_path / "evil.pth").write_bytes(b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.")
    assert "is not of resnet18" in refused(
        capsys, items, "--images", images, "--backbone", "resnet18", "--weights", "evil.pth"
    )
    assert not (tmp_path / "evil").exists()
    (tmp_path / "none").mkdir()
    assert "named after an item" in refused(
        capsys, items, "--images", "none", "--backbone", "resnet18", "--weights", file
    )
