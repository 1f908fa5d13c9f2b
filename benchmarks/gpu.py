"""Everything to measure in the first minutes on a GPU, most important first.

    python -m benchmarks.gpu --dry-run        # show the plan and its times
    python -m benchmarks.gpu --toy --out DIR  # all of it at toy sizes, on the CPU
    python -m benchmarks.gpu --out DIR        # on the GPU; needs no network

Each part is a process with a time limit, so one that fails or hangs does not affect the others. Its
JSON and log are on disk before the next part starts.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.toy_sizes import TOY
from experiments.io.files import write_errors, write_json_atomic
from experiments.io.output import tell
from zia_core.arguments import named_path
from zia_core.errors import ZiaError

PROJECT = Path(__file__).resolve().parents[1]
MINUTES = 8.0
SLACK = 3  # a part is stopped after this multiple of its expected time
SUMMARY = "gpu.json"
BF16 = {"device": "cuda", "dtype": "bfloat16"}
LLAMA_7B = {"width": 4096, "heads": 32, "kv_heads": 32, "mlp": 11008, "vocabulary": 32000}


@dataclass(frozen=True)
class Step:
    """A part of the plan: a benchmark, or a command if it has `words`.

    Attributes:
        name: of the benchmark.
        about: description in the plan.
        seconds: expected time on an H100.
        rounds: repetitions of the benchmark.
        shape: sizes that differ from the benchmark's own, which suit a CPU.
        words: arguments for Python.
    """

    name: str
    about: str
    seconds: int
    rounds: int = 1
    shape: Mapping[str, Any] | None = None
    words: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The stem of its files: NAME-cuda.json, NAME-cuda.log."""
        return f"{self.name}-{(self.shape or {}).get('device', 'cuda')}"

    def command(self, out: Path) -> list[str]:
        """The command line of its process."""
        if self.words:
            return [sys.executable, *self.words]
        result = out / f"{self.stem}.json"
        given = {"--out": result, "--rounds": self.rounds, "--shape": json.dumps(self.shape or {})}
        options = [str(word) for option in given.items() for word in option]
        return [sys.executable, "-m", f"benchmarks.{self.name}", *options]


TESTS = ("-m", "pytest", "-q", "-rs", "-n", "8", "-k", "cuda or gpu or fused", "tests/zia_core")
SMALL = ("-m", "experiments.cli.main", "reproduce", "--profile", "small", "--executor", "local")
PLAN = (
    Step("tests", "the tests that need a card", 90, words=TESTS),
    Step("parity", "every form on every kernel, against float64", 70, shape={"device": "cuda"}),
    Step(
        "train_step",
        "8 layers of LLaMA-7B, 8 x 512 tokens",
        40,
        40,
        BF16 | LLAMA_7B | {"batch": 8, "tokens": 512},
    ),
    Step("llama7b", "LLaMA-7B, Alpaca's steps of 64 records", 90, 10),
    Step(
        "decode",
        "LLaMA-7B, 8 texts of 64 tokens, 32 new ones",
        60,
        9,
        BF16 | LLAMA_7B | {"layers": 32, "adapted_layers": 30},
    ),
    Step(
        "attention_core",
        "LLaMA-7B's attention, 8 x 512 tokens",
        30,
        30,
        BF16 | {"batch": 8, "heads": 32, "head_dim": 128},
    ),
    Step(
        "encoders",
        "ViT-B/16, 32 images; RoBERTa-large, 16 x 384",
        30,
        20,
        {"device": "cuda", "images": 32, "texts": 16, "tokens": 384},
    ),
    Step(
        "data_path",
        "4 layers of LLaMA-7B, steps cut in three ways",
        30,
        8,
        BF16 | LLAMA_7B | {"layers": 4, "adapted_layers": 4, "vocabulary": 8000},
    ),
    Step(
        "scale",
        "cost over batch, tokens, prompts, layers",
        30,
        10,
        BF16 | {"width": 2048, "heads": 16, "kv_heads": 16, "mlp": 5504},
    ),
    Step("small", "as much of the profile small as there is time for", 60, words=SMALL),
)


def toy_plan() -> list[Step]:
    """The same parts at sizes for seconds of a CPU; `small` itself has no toy size."""
    return [
        step if step.words else replace(step, rounds=1, shape=TOY[step.name] | {"device": "cpu"})
        for step in PLAN
        if step.name != "small"
    ]


def drawn(plan: Sequence[Step], minutes: float) -> str:
    """The plan in 80 columns: start, expected time and description of each part."""
    lines, begins = [f"{'at':>5}  {'for':>5}  part"], 0
    for step in plan:
        at = f"{begins // 60}:{begins % 60:02}"
        lines.append(f"{at:>5}  {step.seconds:>3} s  {step.name:<15} {step.about}")
        begins += step.seconds
    lines.append(f"{begins // 60}:{begins % 60:02}".rjust(5) + "  end")
    lines.append(f"After {minutes:g} minutes what runs is stopped, and nothing begins any more.")
    return "\n".join(lines)


def run(plan: Sequence[Step], out: Path, minutes: float) -> dict[str, str]:
    """Run the parts in turn; return outcomes by part, which `out/gpu.json` has too."""
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    ends, outcomes = time.monotonic() + 60 * minutes, dict[str, str]()
    for step in plan:
        left = ends - time.monotonic()
        if left < min(step.seconds, 15) / 2:
            outcomes[step.name] = "left out: no time was left"
        else:
            outcomes[step.name] = _part(step, out, min(left, SLACK * step.seconds))
        tell(f"{step.name}: {outcomes[step.name]}")
        write_json_atomic(out / SUMMARY, outcomes)
    return outcomes


def _part(step: Step, out: Path, limit: float) -> str:
    """Run one part with its own log; kill it with all its children at the time limit."""
    log, words = out / f"{step.stem}.log", step.command(out)
    started = time.monotonic()
    with write_errors(log), log.open("wb") as file:
        file.write(f"$ {shlex.join(['python', *words[1:]])}\n".encode())
        file.flush()
        process = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, cwd=PROJECT, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {limit:.0f} s, see {log.name}"
    seconds = time.monotonic() - started
    return f"done in {seconds:.0f} s" if code == 0 else f"failed, see {log.name}"


def main() -> None:
    """The command line of `make gpu`."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=named_path, help="folder for JSON and logs")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="in all (default: 8)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan; run nothing")
    parser.add_argument("--toy", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--only", nargs="+", metavar="PART", help="some of the parts")
    given = parser.parse_args()
    plan: Sequence[Step] = toy_plan() if given.toy else PLAN
    if given.only:
        names = [step.name for step in plan]
        if unknown := sorted(set(given.only) - set(names)):
            sys.exit(f"gpu: there is no part {unknown[0]}; there are: {', '.join(names)}")
        plan = [step for step in plan if step.name in given.only]
    tell(drawn(plan, given.minutes))
    if given.dry_run:
        return
    if given.out is None:
        sys.exit("gpu: name a folder for the results with --out")
    try:
        outcomes = run(plan, given.out, given.minutes)
    except ZiaError as error:
        sys.exit(f"gpu: {error}")
    sys.exit(any(not text.startswith("done") for text in outcomes.values()))


if __name__ == "__main__":
    main()
