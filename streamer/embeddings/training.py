"""Training: from what happened to a version of embeddings, by a model of the graph family."""

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file, save_file

from streamer.embeddings.attention_export import write_attention
from streamer.embeddings.registry import (
    TRAINING,
    NodeVectors,
    named,
    read_version,
    rotation_onto,
    use,
    versions,
    write_version,
)
from streamer.embeddings.training_data import Source
from streamer.embeddings.warm_start import take_over, write_nodes
from streamer.errors import ProcessEnded, UsageError
from tgn.family.fusion import Fusion, fused
from tgn.family.hetero import hetero_graph
from tgn.family.losses import Loss
from tgn.family.models import MODELS
from tgn.family.negatives import Draw
from tgn.family.training import Trainer, TrainingConfig
from tgn.graph import F32

Fit = Callable[[Callable[[int], None]], Trainer]
MOST_BATCH, LEAST_BATCHES = 4_096, 20  # edges of a batch, and batches of a pass on a small graph
LOOK_EVERY_S, GRACE_S = 1.0, 10.0  # for the ends of other processes, and from the first of them to all


def check_device(device: str) -> None:
    """Raises UsageError where torch does not find the device on this machine."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; leave it out")


@dataclass(frozen=True)
class Work:
    """What to train, on which part of the stream."""

    model: str
    size: int = 64
    layers: int | None = None  # None: the model's own
    skip: bool = True
    window_ms: int | None = None  # None: from the beginning
    until_ms: int | None = None  # None: to the end
    passes: int = 30
    loss: Loss = "softmax"
    negatives: Draw = "uniform"
    fan_out: int | None = None
    parts: int = 1
    multitask: bool = False  # each event type a task of its own, which counts by its weight
    fusion: Fusion | None = None  # how content takes part; None: not at all
    begun: str | None = None  # the version to begin from; then nothing is held out and all passes are made
    seed: int = 0
    device: str = "cpu"


def find_until_ms(work: Work, source: Source) -> int:
    """Epoch ms before which everything in the graph happened."""
    return work.until_ms if work.until_ms is not None else int(source.events.t[-1]) + 1


def trained(
    source: Source,
    work: Work,
    folder: Path,
    resume: bool,
    processes: int,
    advance: Callable[[int], None],
    content: F32 | None = None,
) -> dict[str, Any]:
    """Trains and writes a version into `folder`; gives its manifest. content: [I, C] of the items, with `work.fusion`.

    It is turned onto the version before it, and workers are to use it when they have measured it. The training's state
    is written after every pass.
    Raises UsageError where there is nothing in the window, nothing to resume, or what it begins from does not fit.
    """
    until = find_until_ms(work, source)
    since = max(0, until - work.window_ms) if work.window_ms is not None else 0
    digest = None if content is None else hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()
    version = f"{work.model}-{until}-{named((asdict(work), since, len(source.events.t), digest))}"
    saved = folder / version / TRAINING
    if resume and not saved.is_file():
        raise UsageError(f"--resume: there is no {saved}; the input and the flags must be those of that training")
    fit = partial(_fit, source, work, since, until, saved, resume, content)
    trainer = _fit_together(fit, processes, advance) if processes > 1 else fit(advance)
    user, item = trainer.embedded()
    kept = source.events.between(since, until)
    described = np.flatnonzero(content.any(1)) if content is not None else np.zeros(0, np.int64)
    users, items = _seen(source, kept.user, np.concatenate([kept.item, described]), user, item)
    before = [manifest["version"] for manifest in versions(folder) if manifest["version"] != version]
    if before:
        _, old = read_version(folder, before[-1])
        turn = rotation_onto(items, old)
        users, items = (NodeVectors(v.ids, v.vector @ turn) for v in (users, items))
    report = trainer.report
    manifest = {
        "version": version, "model": work.model, "since_ms": since, "until_ms": until,
        "interactions": len(kept.t), "users": len(users.ids), "items": len(items.ids),
        "passes": trainer.passes, "loss": report.loss[-1], "recall": max(report.recall, default=None),
        "aligned_to": before[-1] if before else None, "work": asdict(work),
    }  # fmt: skip
    write_attention(folder / version, trainer, source)
    write_nodes(folder / version, source)
    whole = write_version(folder, manifest, users, items)
    use(folder, version, shadow=True)
    return whole


def _fit(
    source: Source,
    work: Work,
    since: int,
    until: int,
    saved: Path,
    resume: bool,
    content: F32 | None,
    advance: Callable[[int], None],
) -> Trainer:
    torch.manual_seed(work.seed)
    try:
        data = hetero_graph(
            source.events, len(source.users), len(source.items), source.attributes, since=since, until=until
        )
    except ValueError as error:
        raise UsageError(f"--reach, --until: {error}") from error
    nodes = sum(data[kind].num_nodes for kind in data.node_types)
    layers = {} if work.layers is None else {"layers": work.layers}
    encoder = MODELS[work.model](nodes, work.size, skip=work.skip, **layers)
    if work.fusion and content is not None:
        encoder = fused(encoder, torch.from_numpy(content), len(source.users), work.fusion)
    if work.begun and not resume:
        take_over(encoder, saved.parents[1] / work.begun, source)
    edges = int(source.events.inside(since, until).sum())
    config = TrainingConfig(
        loss=work.loss, negatives=work.negatives, batch=max(1, min(MOST_BATCH, edges // LEAST_BATCHES)),
        passes=work.passes, fan_out=work.fan_out, parts=work.parts, seed=work.seed, device=work.device,
        tasks=_tasks(source) if work.multitask else None, spectral=not (resume or work.begun),  # these have their names
        patience=0 if work.begun else TrainingConfig.patience,  # the newest interactions are what it is there for
    )  # fmt: skip
    trainer = Trainer(encoder, data, config)
    first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    if resume:
        trainer.load_state(load_file(saved))
        advance(trainer.passes)

    def passed(n: int) -> None:
        if first:
            saved.parent.mkdir(parents=True, exist_ok=True)
            part = saved.with_suffix(".part")
            save_file({name: value.contiguous() for name, value in trainer.state().items()}, part)
            part.rename(saved)
        advance(n)

    trainer.fit(passed)
    return trainer


def _fit_together(fit: Fit, processes: int, advance: Callable[[int], None]) -> Trainer:
    """The trainer of one of several processes, which all come to the same. Raises ProcessEnded where one does not.

    This process fits in a thread: gloo, where one is gone that it has not met yet, waits for it for half an hour.
    """
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = Path(folder) / "rendezvous"
        others = [
            context.Process(target=_fit_joined, args=(fit, processes, rank, rendezvous, _silent))
            for rank in range(1, processes)
        ]
        for process in others:
            process.start()
        own = Future[Trainer]()
        fit_own = partial(_fit_joined, fit, processes, 0, rendezvous, advance)
        Thread(target=_fulfil, args=(own, fit_own), daemon=True).start()
        try:
            while not own.done() and not _failed(others):
                wait([own], LOOK_EVERY_S)
            return own.result(GRACE_S)
        except (RuntimeError, TimeoutError) as error:  # among others gloo's, where a process that it waits for is gone
            _join(others)
            codes = _failed(others)
            if not codes:
                raise
            said = str(error).partition("\n")[0] or "it was waited for"
            raise ProcessEnded(
                f"a process of the training ended with exit code {codes[0]} ({said}): "
                "go on with --resume, with fewer --processes where memory ran out"
            ) from error
        finally:
            _join(others)
            for process in others:
                process.kill()
                process.join()


def _fulfil(own: "Future[Trainer]", fitted: Callable[[], Trainer]) -> None:
    try:
        own.set_result(fitted())
    except BaseException as error:  # raised where it is waited for
        own.set_exception(error)


def _failed(processes: list[SpawnProcess]) -> list[int]:
    """The exit codes of those that have ended by an error or a signal."""
    return [process.exitcode for process in processes if process.exitcode]


def _join(processes: list[SpawnProcess]) -> None:
    """Waits for their ends, which are near."""
    for process in processes:
        process.join(GRACE_S)


def _fit_joined(fit: Fit, processes: int, rank: int, rendezvous: Path, advance: Callable[[int], None]) -> Trainer:
    """Fits as one of several processes, with a share of the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // processes))
    torch.distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=processes)
    try:
        return fit(advance)
    finally:
        torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)


def _tasks(source: Source) -> tuple[float, ...]:
    """The mean weight of each event type."""
    kind, weight = source.events.kind, source.events.weight
    sums, counts = (np.bincount(kind, by, len(source.kinds)) for by in (weight, None))
    return tuple((sums / np.maximum(counts, 1)).tolist())


def _silent(passes: int) -> None:
    """For the processes that do not show how far they are."""


def _seen(
    source: Source, user: np.ndarray, item: np.ndarray, users: torch.Tensor, items: torch.Tensor
) -> tuple[NodeVectors, NodeVectors]:
    """The embeddings of those that have interacted in the window, or have content: of the others a model knows its
    random start."""
    sides = []
    for index, seen, vectors in ((source.users, user, users), (source.items, item, items)):
        nodes = np.unique(seen)
        sides.append(NodeVectors([index.ids[n] for n in nodes], vectors.numpy()[nodes].astype(np.float32)))
    return sides[0], sides[1]
