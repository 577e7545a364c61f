"""The networks that the workloads train, and their batches of random data."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them; layer k is number 2k of the Sequential."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def labelled(count: int, inputs: int, classes: int) -> tuple[Tensor, Tensor]:
    """Random inputs with random labels."""
    torch.manual_seed(1)
    return torch.randn(count, inputs), torch.randint(0, classes, (count,))


class Autoencoder(nn.Module):
    """Two layers, the second of the first one's transposed shape."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc, self.dec = nn.Linear(inputs, hidden), nn.Linear(hidden, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct `x`."""
        found: Tensor = self.dec(torch.relu(self.enc(x)))
        return found


class Twins(nn.Module):
    """Two layers of one shape that see the same input, and one that sees both."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(inputs, hidden)
        self.head = nn.Linear(2 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        found: Tensor = self.head(torch.relu(torch.cat([self.first(x), self.second(x)], dim=1)))
        return found


class Block(nn.Module):
    """One pre-norm transformer block of GPT-2's shapes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attention and feed-forward, both added to `x`."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attn(self.ln_1(x)).chunk(3, -1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        found: Tensor = x + self.out(nn.functional.gelu(self.fc(self.ln_2(x))))
        return found


class LanguageModel(nn.Module):
    """GPT-2's layout: token and position embeddings, blocks, and the token embedding again as the head."""

    def __init__(self, tokens: int, context: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wte, self.wpe = nn.Embedding(tokens, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits, (batch · length, tokens)."""
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return nn.functional.linear(self.ln_f(x), self.wte.weight).flatten(0, 1)


def sentences(count: int, length: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Random token numbers, and random next ones."""
    torch.manual_seed(1)
    return torch.randint(0, tokens, (count, length)), torch.randint(0, tokens, (count * length,))


class DecoderLayer(nn.Module):
    """The matrices of one layer of a Llama-like decoder; `shared` is the width of keys and values."""

    def __init__(self, width: int, shared: int, inner: int) -> None:
        super().__init__()
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, shared, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)


def decoder(layers: int, width: int, shared: int, inner: int) -> nn.Module:
    """A Llama-like layout on the `meta` device: shapes without numbers."""
    with torch.device("meta"):
        return nn.ModuleDict(
            {
                "embed": nn.Embedding(32_000, width),
                "layers": nn.ModuleList(DecoderLayer(width, shared, inner) for _ in range(layers)),
                "head": nn.Linear(width, 32_000, bias=False),
            }
        )


class BagOfWords(nn.Module):
    """A linear classifier of the mean of the words' vectors."""

    def __init__(self, tokens: int, width: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.output = nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.output(self.embedding(words).mean(dim=1))
        return scores


def bags(count: int, length: int, tokens: int, classes: int) -> tuple[Tensor, Tensor]:
    """Random words and random classes."""
    return torch.randint(0, tokens, (count, length)), torch.randint(0, classes, (count,))
