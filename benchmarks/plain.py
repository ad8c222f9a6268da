"""The baseline: the character LSTM anyone would write from the tutorials, in fp32, with torch's defaults.

    python benchmarks/plain.py train --hidden-size 256 …       times whole training steps
    python benchmarks/plain.py generate --hidden-size 256 …    times one stream of characters
    python benchmarks/plain.py process --weights FILE …        loads a model and prints a text: to be timed as a whole

The first two print one JSON object. It is honest: nothing in it is slower than the tutorials make it, and some is
faster (a batch is cut from the ids without a DataLoader, the training loop reads no loss).
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn


class CharRNN(nn.Module):
    """Embedding → LSTM → linear."""

    def __init__(self, vocab_size: int, embedding_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True)
        self.output = nn.Linear(hidden_size, vocab_size)

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x, state = self.lstm(self.embedding(ids), state)
        return self.output(x), state


def train(
    model: CharRNN, ids: Tensor, *, batch_size: int, sequence_length: int, warmup_steps: int, steps: int
) -> list[float]:
    """Seconds of each step: batch, forward, loss, backward, clip, Adam; the state is carried and detached."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, ids = model.to(device), ids.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    lanes = ids[: len(ids) // batch_size * batch_size].view(batch_size, -1)
    windows = (lanes.shape[1] - 1) // sequence_length
    state: Any = None
    seconds = []
    for step in range(warmup_steps + steps):
        begin = time.perf_counter()
        cursor = step % windows * sequence_length
        inputs = lanes[:, cursor : cursor + sequence_length].long()
        targets = lanes[:, cursor + 1 : cursor + 1 + sequence_length].long()
        optimizer.zero_grad()
        logits, state = model(inputs, state)
        loss = criterion(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = tuple(part.detach() for part in state)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return seconds[warmup_steps:]


@torch.no_grad()
def generate(model: CharRNN, length: int | None, *, temperature: float = 0.8, top_k: int = 10) -> Iterator[int]:
    """Yield `length` ids, without end for None, one at a time through the module."""
    model.eval()
    ids, state = torch.zeros(1, 1, dtype=torch.long), None
    for _ in count() if length is None else range(length):
        logits, state = model(ids, state)
        values, candidates = torch.topk(logits[0, -1] / temperature, top_k)
        ids = candidates[torch.multinomial(torch.softmax(values, dim=-1), 1)].view(1, 1)
        yield int(ids)


def time_generation(model: CharRNN, seconds: float) -> float:
    """Characters per second of one stream, after a few to warm up."""
    alphabet = [chr(32 + number) for number in range(model.output.out_features)]
    characters = (alphabet[symbol] for symbol in generate(model, None))
    for _ in range(50):
        next(characters)
    text, begin = list[str](), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        text.append(next(characters))
    return len("".join(text)) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description="A plain character LSTM, timed.")
    parser.add_argument("command", choices=["train", "generate", "process"])
    parser.add_argument("--vocab-size", type=int, default=65)
    parser.add_argument("--embedding-size", type=int, default=128)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--length", type=int, default=1000, help="of `process`")
    parser.add_argument("--threads", type=int, help="torch's own choice without")
    parser.add_argument("--weights", help="a file of torch.save, for `process`: load, generate, print the text")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = CharRNN(args.vocab_size, args.embedding_size, args.hidden_size, args.num_layers)
    if args.command == "process":
        if args.weights:
            model.load_state_dict(torch.load(args.weights))
        for symbol in generate(model, args.length):
            sys.stdout.write(chr(32 + symbol))
        sys.stdout.write("\n")
        return
    facts: dict[str, Any] = {"threads": torch.get_num_threads()}
    if args.command == "train":
        ids = torch.randint(args.vocab_size, (1_000_000,), dtype=torch.uint8)
        shape = {"batch_size": args.batch_size, "sequence_length": args.sequence_length}
        facts["step_seconds"] = train(model, ids, **shape, warmup_steps=args.warmup_steps, steps=args.steps)
    else:
        facts["chars_per_second"] = time_generation(model, args.seconds)
    facts["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
