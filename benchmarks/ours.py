"""Our side of the benchmarks, in a process of its own: prints one JSON object.

python benchmarks/ours.py train …       whole training steps, by the program's own trainer
python benchmarks/ours.py profile …     where a step's time goes, on one thread
python benchmarks/ours.py generate …    one or many streams of characters, as `charlstm sample` makes them
python benchmarks/ours.py evaluate …    a text's loss, and the forward passes alone that it cannot do without
python benchmarks/ours.py peak          FLOP a second of bf16 and fp32 matrix products, torch's best here
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from measure import VOCAB_SIZE, random_vocab, random_weights


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and losses of steps on random text or a file of ids; as one of several processes under torchrun."""
    from charlstm import environment

    environment.prepare_torch()
    from charlstm.machine import join_processes

    with join_processes(environment.process_place()) as processes:
        trainer = _trainer(args, shards=args.shards, processes=processes)
        seconds, losses, last = [], [], time.perf_counter()
        for step in trainer.steps():
            now = time.perf_counter()  # from one step to the next: all that the trainer does is counted
            seconds.append(now - last)
            losses.append(step.loss)
            last = now
    facts = {name: getattr(trainer.machine, name) for name in ("precision", "shards", "threads", "threads_per_shard")}
    return {**facts, "losses": losses, "step_seconds": seconds[args.warmup_steps :]}


def profile(args: argparse.Namespace) -> dict[str, Any]:
    """The operations that take most of a step's time on one thread, and their fractions of it."""
    import torch.profiler

    steps = _trainer(args, shards=1).steps()
    for _ in range(args.warmup_steps):
        next(steps)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        for _ in steps:
            pass
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    highest = sorted(times, key=times.__getitem__, reverse=True)[:5]
    return {name: round(times[name] / sum(times.values()), 3) for name in highest}


def _trainer(args: argparse.Namespace, *, shards: Any, **processes: Any) -> Any:
    import numpy as np

    from charlstm.settings import DataSettings, Settings, TrainingSettings
    from charlstm.text import Corpus, split_ids
    from charlstm.training import build_trainer

    training = TrainingSettings(
        batch_size=args.batch_size,
        sequence_length=args.sequence_length,
        optimizer="adamw",  # beside the plain trainer's Adam
        max_steps=args.warmup_steps + args.steps,
        shards=shards,
        precision=args.precision,
        threads_per_shard=args.threads_per_shard,
    )
    settings = Settings(data=DataSettings(split=(1, 0, 0)), model=_model_settings(args), training=training)
    ids = np.memmap(args.ids, np.uint8, "r") if args.ids else _random_ids(1_000_000)
    corpus = Corpus(vocab=random_vocab(), ids=ids, fingerprint="", sources=())
    return build_trainer(settings, corpus, split_ids(ids, settings.data.split), **processes)[1]


def generate(args: argparse.Namespace) -> dict[str, Any]:
    """Characters a second of `--streams` samples, drawn and decoded."""
    from charlstm import environment

    cores = environment.limit_numpy_threads()
    from charlstm.inference import (
        SamplingParameters,
        build_stepper,
        generate,
        numpy_threads,
        sampling_threads,
        take_text,
    )
    from charlstm.weights import weight_shapes

    settings = _model_settings(args)
    weights = random_weights(weight_shapes(settings, VOCAB_SIZE))
    stepper = build_stepper(weights, settings, int8=args.int8)
    vocab = random_vocab()
    steps = generate(
        stepper,
        vocab,
        SamplingParameters(temperature=0.8, top_k=10),
        prompt=[],
        length=None,
        seed=1,
        samples=args.streams,
        lanes=args.streams,
        scored=False,
    )
    threads = args.threads or sampling_threads(settings, cores=cores, load=environment.load_average())
    with numpy_threads(threads):
        for _ in range(50):
            next(steps)
        between = 0.005 if args.streams == 1 else 0.5  # about as often as `charlstm sample` writes
        chars, begin, taken = 0, time.perf_counter(), 0.0
        while (now := time.perf_counter() - begin) < args.seconds:
            live = next(steps)
            chars += len(live)
            if now - taken >= between:
                taken = now
                for sample in live:
                    take_text(sample, vocab)
        return {"chars_per_second": chars / (time.perf_counter() - begin), "threads": threads}


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Loss and seconds of a random text of `--chars`, or seconds of the forward passes alone over as many."""
    import torch

    from charlstm.evaluation import EVALUATED_LANES
    from charlstm.evaluation import evaluate as evaluate_model
    from charlstm.machine import prepare_evaluation
    from charlstm.networks import OBJECTIVES

    machine = prepare_evaluation(EVALUATED_LANES)
    objective = OBJECTIVES["next"]
    model = objective.build_model(VOCAB_SIZE, _model_settings(args))
    weights = random_weights({name: tuple(weight.shape) for name, weight in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    ids = _random_ids(args.chars)
    if args.forward_alone:
        torch.set_num_threads(machine.threads)
        batch = torch.from_numpy(ids[: args.batch_size * args.sequence_length].astype(int))
        batch = batch.view(args.sequence_length, args.batch_size)
        begin, state = time.perf_counter(), None
        with torch.no_grad():
            for _ in range(args.chars // batch.numel()):
                _, state = model(batch, state)
        return {"seconds": time.perf_counter() - begin}
    begin = time.perf_counter()
    evaluation = evaluate_model(
        model, objective, ids, start_id=0, machine=machine, lanes=args.batch_size, sequence_length=args.sequence_length
    )
    return {"seconds": time.perf_counter() - begin, "loss": evaluation.tally.loss}


def peak(_args: argparse.Namespace) -> dict[str, Any]:
    """The best of several square products of each size."""
    import torch

    found = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        best = 0.0
        for size in (1024, 2048, 3072):
            a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
            for _ in range(6):
                begin = time.perf_counter()
                a @ b
                best = max(best, 2 * size**3 / (time.perf_counter() - begin))
        found[name] = best
    return found


def _model_settings(args: argparse.Namespace) -> Any:
    from charlstm.settings import ModelSettings

    return ModelSettings(
        embedding_size=args.embedding_size,
        hidden_size=args.hidden_size,
        num_layers=args.num_layers,
        skip_connections=False,  # the model of benchmarks/plain.py
        dropout=0.0,
    )


def _random_ids(chars: int) -> Any:
    import numpy as np

    return np.random.default_rng(1).integers(VOCAB_SIZE, size=chars, dtype=np.uint8)


def _count(text: str) -> Any:
    return text if text == "auto" else int(text)


def main() -> None:
    commands = {"train": train, "profile": profile, "generate": generate, "evaluate": evaluate, "peak": peak}
    parser = argparse.ArgumentParser(description="Our side of the benchmarks.")
    parser.add_argument("command", choices=commands)
    parser.add_argument("--embedding-size", type=int, default=128)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shards", type=_count, default="auto", help="a batch is cut into")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads-per-shard", type=_count, default="auto")
    parser.add_argument("--ids", type=Path, help="ids to train on, a byte each; without, random ones")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of NumPy's products in `generate`; without, as `charlstm sample`")
    parser.add_argument("--int8", action="store_true", help="in `generate`: 8-bit weights, of one stream")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--chars", type=int, default=1_000_000)
    parser.add_argument("--forward-alone", action="store_true")
    args = parser.parse_args()
    facts = commands[args.command](args)
    facts["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
