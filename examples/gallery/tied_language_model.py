"""A language model over two processes whose output weights are its embedding, bit for bit.

A network of characters is trained by two processes with `fully_shard`: the embedding and the output layer are in
groups of their own. torch refuses one Parameter in both. Two Parameters under a rule are equal after every step. The
training is compared with that of one process in which the layers share one Parameter, and with that without a tie.

    python examples/gallery/tied_language_model.py --figure docs/gallery/tied_language_model.png
"""

from __future__ import annotations

import argparse
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import affinet

TEXT = """
alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do. once or twice
she had peeped into the book her sister was reading, but it had no pictures or conversations in it, and what is the use
of a book, thought alice, without pictures or conversations. so she was considering in her own mind, as well as she
could, for the hot day made her feel very sleepy and stupid, whether the pleasure of making a daisy chain would be worth
the trouble of getting up and picking the daisies, when suddenly a white rabbit with pink eyes ran close by her. there
was nothing so very remarkable in that, nor did alice think it so very much out of the way to hear the rabbit say to
itself, oh dear, oh dear, i shall be late. when she thought it over afterwards, it occurred to her that she ought to
have wondered at this, but at the time it all seemed quite natural. but when the rabbit actually took a watch out of its
waistcoat pocket, and looked at it, and then hurried on, alice started to her feet, for it flashed across her mind that
she had never before seen a rabbit with either a waistcoat pocket, or a watch to take out of it, and burning with
curiosity, she ran across the field after it, and fortunately was just in time to see it pop down a large rabbit hole
under the hedge. in another moment down went alice after it, never once considering how in the world she was to get out
again.
"""
"""How Lewis Carroll's Alice's Adventures in Wonderland (1865) begins, in small letters."""
CHARACTERS = " ,.abcdefghijklmnopqrstuvwxyz"
WIDTH, CONTEXT, STEPS, BATCH, PROCESSES = 16, 6, 160, 128, 2
RUNS = {
    "none": "no tie, two processes",
    "rule": "tied by a rule, two processes",
    "one Parameter": "one Parameter, one process",
}


class Model(nn.Module):
    """Bengio et al. (2003): vectors of the last characters, a hidden layer, and a score for each next character."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), WIDTH)
        self.hidden = nn.Sequential(nn.Linear(CONTEXT * WIDTH, 64), nn.Tanh(), nn.Linear(64, WIDTH))
        self.head = nn.Linear(WIDTH, len(CHARACTERS), bias=False)
        nn.init.normal_(self.embedding.weight, std=0.3)

    def forward(self, context: Tensor) -> Tensor:
        scores: Tensor = self.head(self.hidden(self.embedding(context).flatten(1)))
        return scores


def examples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts and their next characters: the first four fifths of the text to train on, and the rest."""
    numbers = torch.tensor([CHARACTERS.index(character) for character in " ".join(TEXT.split())])
    windows = numbers.unfold(0, CONTEXT + 1, 1)
    count = len(windows) * 4 // 5
    return windows[:count, :-1], windows[:count, -1], windows[count + CONTEXT :, :-1], windows[count + CONTEXT :, -1]


def model_with(tie: str) -> Model:
    """The model in float64, from one seed. Where layers share a Parameter, it begins at the mean of their two."""
    torch.manual_seed(0)
    model = Model().double()
    if tie == "one Parameter":
        mean = (model.embedding.weight.detach() + model.head.weight.detach()) / 2
        model.head.weight = model.embedding.weight = nn.Parameter(mean)
    return model


def train(model: Model, tie: str) -> dict[str, Any]:
    """The loss on the rest of the text after every tenth step, in bits, and both weights in the end."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    if tie == "rule":
        w = affinet.weights(model)
        affinet.project(model, optimizer, w.head.weight == w.embedding.weight)
    x, y, later_x, later_y = examples()
    draw = torch.Generator().manual_seed(1)
    losses = []
    for step in range(STEPS + 1):
        if step % 10 == 0:
            with torch.no_grad():
                losses.append(float(nn.functional.cross_entropy(model(later_x), later_y)) / math.log(2))
            assert torch.equal(*whole(model)) or tie == "none"
        batch = torch.randint(len(x), (BATCH,), generator=draw).tensor_split(world)[rank]  # a part for each process
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return {"losses": losses, "weights": whole(model)}


def whole(model: Model) -> list[Tensor]:
    """The embedding and the weights of the output layer, put together from all processes."""
    weights = (model.embedding.weight.detach(), model.head.weight.detach())
    return [weight.full_tensor() if isinstance(weight, DTensor) else weight.clone() for weight in weights]


def shard(model: Model) -> None:
    """Split every layer by rows over the processes, the embedding and the output layer in groups of their own."""
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (model.embedding, model.hidden, model.head, model):
        fully_shard(part, mesh=mesh)


def refusal() -> str:
    """What torch answers where both layers share one Parameter."""
    try:
        model = model_with("one Parameter")
        shard(model)
        train(model, "one Parameter")
    except (RuntimeError, ValueError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("torch has taken one Parameter in two groups: this page is out of date")


def on_process(rank: int, folder: str) -> None:
    """Train with the rule and without a tie, together with the other processes; the first writes what it found."""
    warnings.simplefilter("ignore")  # torch says that groups of few bytes are slow
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    found: dict[str, Any] = {}
    for tie in ("rule", "none"):
        model = model_with(tie)
        shard(model)
        found[tie] = train(model, tie)
    found["refusal"] = refusal()
    if rank == 0:
        torch.save(found, Path(folder, "found"))
    dist.barrier()
    dist.destroy_process_group()


def draw(runs: dict[str, Any], path: Path) -> None:
    """The losses, and the two weights with the line between the processes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, first, second = figure.subplots(1, 3, width_ratios=[2.4, 1, 1])
    steps = range(0, STEPS + 1, 10)
    looks = {"none": ("-", "#D55E00"), "rule": ("-", "#0072B2"), "one Parameter": ("o", "black")}
    for tie, (style, colour) in looks.items():
        left.plot(steps, runs[tie]["losses"], style, color=colour, linewidth=2, markersize=4, label=RUNS[tie])
    left.set(xlabel="step of Adam", ylabel="bits per character, on the rest of the text")
    left.grid(alpha=0.3)
    left.legend(frameon=False)
    rows = math.ceil(len(CHARACTERS) / PROCESSES)
    names = ("embedding.weight", "head.weight")
    for axes, name, weight in zip((first, second), names, runs["rule"]["weights"], strict=True):
        axes.imshow(weight.numpy(), cmap="RdBu", vmin=-1.5, vmax=1.5, aspect="auto")
        axes.axhline(rows - 0.5, color="black", linewidth=1.5)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks(range(len(CHARACTERS)), ["␣", *CHARACTERS[1:]], fontsize=7)
        for process, middle in ((0, rows / 2), (1, (rows + len(CHARACTERS)) / 2)):
            axes.text(WIDTH - 0.2, middle, f"process {process}", rotation=270, va="center", fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train all three, compare them, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        processes: Any = torch.multiprocessing
        processes.spawn(on_process, args=(folder,), nprocs=PROCESSES)
        runs = torch.load(Path(folder, "found"), weights_only=True)
    runs["one Parameter"] = train(model_with("one Parameter"), "one Parameter")
    pairs = [zip(runs[tie]["weights"], runs["one Parameter"]["weights"], strict=True) for tie in ("rule", "none")]
    tied, free = (max(float((one - other).abs().max()) for one, other in pair) for pair in pairs)
    assert torch.equal(*runs["rule"]["weights"])
    # Adam divides by the gradient's size plus 1e-8, and the gradient of one Parameter is twice that of two.
    assert tied < 1e-3 < free

    print(f"One Parameter in two groups, says torch:\n{runs['refusal']}\n")
    print("                                 bits per character   embedding and head")
    for tie, name in RUNS.items():
        equal = {"none": "differ", "rule": "equal to the bit", "one Parameter": "are one"}[tie]
        print(f"{name:<30}{min(runs[tie]['losses']):>16.2f}{equal:>26}")
    print(f"Weights of both tied trainings differ by {'less than 0.001' if tied < 1e-3 else tied}.")
    if arguments.figure:
        draw(runs, arguments.figure)


if __name__ == "__main__":
    main()
