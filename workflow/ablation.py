"""Run an ablation: python workflow/ablation.py [FILE.yaml] [--output FILE.csv] [--jobs N]

Each variant is trained and scored for each seed, on one thread, `--jobs` of them at a time. A row
is written as soon as its run is done, and a run whose row is there is not made again.
"""

import argparse
import io
import signal
import sys
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from datetime import UTC, datetime
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from nvp_book.ablation import Ablation, Variant, VariantRun, load_ablation, read_rows, write_rows

from nvp.errors import NVPError
from nvp.files import locked
from nvp.ledger.scoring import scored_images
from nvp.likelihood import evaluate
from nvp.paths import repository_root, results_root
from nvp.progress import counting
from nvp.runs.folder import RunFolder
from nvp.runs.load import load_run
from nvp.runs.log import read_log
from nvp.runs.provenance import Leg, current_leg
from nvp.training.allocator import keep_freed_memory
from nvp.training.start import train


def run(ablation: Ablation, machine: Leg, variant: Variant, seed: int) -> VariantRun:
    """Train and score one variant with one seed, on one thread of `machine`."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config = ablation.config(variant, seed)
    with TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        train(config, folder, device="cpu")
        trained = load_run(Path(folder), device="cpu")
        log = read_log(RunFolder(Path(folder)).log)
    assert trained.training is not None  # no recorded run
    test = scored_images(trained, "test")
    score = evaluate(trained.model, test, batch_size=config.evaluation.batch_size)
    last = log[-1]
    halfway = [row for row in log if row["step"] <= last["step"] / 2] or log
    return VariantRun(
        variant=variant.name,
        seed=seed,
        steps=int(last["step"]),
        seconds=round(60 * last["minutes"], 1),
        train_halfway=round(halfway[-1]["bits_per_dim"], 5),
        train=round(last["bits_per_dim"], 5),
        validation=round(last["validation"], 5),
        test=round(score.bits_per_dim, 5),
        standard_error=round(score.standard_error, 5),
        parameters=sum(p.numel() for p in trained.model.parameters()),
        settings=ablation.settings(variant),
        commit=machine.commit or "",
        hardware=f"1 thread of {machine.cpu}",
        torch=machine.torch,
        finished=datetime.now(UTC).date().isoformat(),
        curve=" ".join(f"{row['bits_per_dim']:.4f}" for row in log),
        precision=trained.training.header.precision.value,
    )


def run_all(ablation: Ablation, output: Path, pool: Executor) -> int:
    """Make the runs that `output` lacks; 0 when all are there, 1 when one failed."""
    rows = {(row.variant, row.seed): row for row in read_rows(output, ablation)}
    variants = ablation.runs
    # Seed by seed: an ablation that is stopped has fewer seeds, but all variants.
    missing = sorted((job for job in variants if job not in rows), key=lambda job: job[1])
    print(f"{len(rows)} of {len(variants)} runs are in {output}", flush=True)
    machine = current_leg(torch.device("cpu"))  # and the commit, as the processes begin with it
    futures = {pool.submit(run, ablation, machine, variants[job], job[1]): job for job in missing}
    status = 0
    with counting("ablation", len(missing)) as progress:
        for done, future in enumerate(as_completed(futures), start=1):
            name, seed = futures[future]
            try:
                row = future.result()
            except BrokenExecutor:
                raise
            except Exception as error:  # whatever it is, the other runs are kept
                status = 1
                kind = "" if isinstance(error, NVPError) else f"{type(error).__name__}: "
                result = f"failed: {kind}{error}"
            else:
                rows[name, seed] = row
                write_rows([rows[job] for job in variants if job in rows], output)
                result = f"{row.test:.3f} bits/dim, {row.seconds:.0f} s of steps"
            print(f"{name}, seed {seed}: {result}", flush=True)
            progress(done)
    return status


def main(argv: list[str] | None = None) -> int:
    """Read the command line, run, and say in one line what is wrong, if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    book = repository_root() / "workflow" / "ablation.yaml"
    parser.add_argument("file", type=Path, nargs="?", default=book)
    parser.add_argument("--output", type=Path, default=results_root() / "ablation.csv")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time [default: 1]")
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    pool = ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"))
    try:
        ablation = load_ablation(arguments.file)
        # Of two processes, each would write only its own rows, and the other's would be lost.
        with locked(arguments.output.with_suffix(".lock")):
            return run_all(ablation, arguments.output, pool)
    except NVPError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    except BrokenExecutor:
        remedy = "try --jobs 1" if arguments.jobs > 1 else "try a smaller training.batch_size"
        print(f"ablation: a process was killed; out of memory? {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        for process in active_children():  # each would go on with the next run
            process.kill()
        print("stopped: the rows so far are kept, the same command goes on", file=sys.stderr)
        return 130
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers end, too
    sys.exit(main())
