"""One run on several GPUs or machines: the processes that `torchrun` starts share each batch.

    torchrun --nproc-per-node 2 -m nvp.cli train configs/mnist.yaml

`batch_size` is that of the whole batch. Every process draws the same order, flips and noise as a
single one would, and computes its own rows. Moments of batch norms, and the log-determinants that
follow from them, are those of the whole batch, and gradients flow through their reduction. So the
number of processes does not change what a run learns, and a checkpoint goes on in any number.

In a single process nothing here has an effect.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from nvp.errors import NVPError
from nvp.model.protocol import ImageModel, is_whole_batch, of_whole_batch, places


def number_of_processes() -> int:
    """How many processes share the work: 1 without `torchrun`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and reports."""
    return number_of_processes() == 1 or dist.get_rank() == 0


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Within this block the processes that `torchrun` started, if it did, share the work.

    The first alone prints to stdout. An error ends all of them, with one line. If a process dies,
    the system closes its connections, and the others notice at once.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    gpus = torch.cuda.device_count()
    if gpus and int(os.environ.get("LOCAL_RANK", "0")) >= gpus:
        raise NVPError(
            f"more processes than GPUs: torchrun --nproc-per-node={gpus} fits this machine, and "
            "with CUDA_VISIBLE_DEVICES= any number trains on the CPU"
        )
    try:
        store, rank, size = next(dist.rendezvous("env://"))
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # what "cuda" means from here on
            backend = "cpu:gloo,cuda:nccl"  # numbers on which processes agree are on the CPU
        own = dist.PrefixStore("nvp", store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=size)
    except (ValueError, KeyError, RuntimeError) as error:
        raise NVPError(
            f"the processes do not find each other ({error}): start them by torchrun, or unset "
            "WORLD_SIZE"
        ) from error
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            # Of filters with one channel, two layouts are the same.
            warnings.filterwarnings("ignore", "Grad strides do not match")
            if rank > 0:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            together()
            yield
    except (NVPError, RuntimeError) as error:
        refused = isinstance(error, NVPError)
        lost = not refused and (isinstance(error, dist.DistError) or "gloo" in str(error))
        if not (lost or refused):
            raise
        first = True
        with contextlib.suppress(RuntimeError):  # the keeper of the store may be gone, too
            first = store.add("errors told", 1) == 1
            store.set(f"told {rank}", "")
            if rank == 0 and not lost:  # the keeper stays until the others, too, have failed
                store.wait([f"told {each}" for each in range(size)], timedelta(seconds=5))
        if not first:
            raise SystemExit(2) from error
        if lost:
            raise NVPError(
                "another process of this run ended: the last checkpoint is kept; give the same "
                "command again"
            ) from error
        raise
    dist.destroy_process_group()


def agree(value: float) -> float:
    """The mean of the processes' values, so that all of them decide alike."""
    if number_of_processes() == 1:
        return value
    values = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(values)
    return values.item() / number_of_processes()


def together() -> None:
    """Wait until all processes are here."""
    agree(0.0)


def divided(work: Callable[[list[Tensor]], list[Tensor]], inputs: list[Tensor]) -> list[Tensor]:
    """`work` of all inputs, a tensor of the same shape for each; each process does some of them."""
    number = number_of_processes()
    if number == 1:
        return work(inputs)
    outputs = [torch.zeros_like(each) for each in inputs]
    outputs[dist.get_rank() :: number] = work(inputs[dist.get_rank() :: number])
    flat = torch.cat([each.flatten() for each in outputs])
    dist.all_reduce(flat)
    parts = flat.split([each.numel() for each in inputs])
    return [part.view(each.shape) for part, each in zip(parts, inputs, strict=True)]


def data_parallel(model: ImageModel) -> nn.Module | None:
    """The loss of whole batches as a module whose gradients are averaged; None for one process."""
    if number_of_processes() == 1:
        return None
    with warnings.catch_warnings():  # an option's new name is not in all versions
        warnings.simplefilter("ignore", FutureWarning)
        # Buffers are alike already: their moments are those of the whole batch.
        return DistributedDataParallel(Shared(model), broadcast_buffers=False)


def shared(model: ImageModel) -> Any:
    """The model, whose images are scored by all processes together: each takes some rows."""
    return model if number_of_processes() == 1 else Shared(model)


def check_batch_size(size: int) -> None:
    """Raise `NVPError` unless the processes can share batches of `size` images equally.

    One image for each process is refused, too: within a process, one random number for the whole
    batch could not be told from one random number for each image.
    """
    number = number_of_processes()
    if size % number:
        raise NVPError(
            f"{number} processes cannot share training.batch_size {size} equally: "
            "start another number of processes, or change the size"
        )
    if 1 < number == size:
        raise NVPError(
            f"{number} processes would have one image each of training.batch_size {size}, and "
            "need two or more: start fewer processes, or raise it"
        )


class Shared(nn.Module):
    """A model that takes whole batches in every process, and computes this process's rows."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model
        self.image_shape = model.image_shape
        self.device = model.device

    def forward(
        self, images: Tensor, generator: torch.Generator, *, labels: Tensor | None = None
    ) -> Tensor:
        """The loss of this process's rows, (), in nats an image.

        The mean over processes is the loss of the batch. Where a last batch is too small to share,
        every process computes the loss of all rows.
        """
        if len(images) < 2 * number_of_processes():
            return self.model.loss(images, generator, labels=labels)
        with _WholeBatch(len(images)) as rows:
            return self.model.loss(images[rows.own], generator, labels=rows.of(labels))

    loss = forward

    def log_prob(self, images: Tensor, *, labels: Tensor | None = None, **options: Any) -> Tensor:
        """`ImageModel.log_prob` of the whole batch, (N,), the same in every process."""
        if len(images) < 2 * number_of_processes():  # a last batch; see `check_batch_size`
            return self.model.log_prob(images, labels=labels, **options)
        with _WholeBatch(len(images)) as rows:
            own = self.model.log_prob(images[rows.own], labels=rows.of(labels), **options)
        whole = own.new_zeros(len(images))
        whole[rows.own] = own
        dist.all_reduce(whole)
        return whole


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        dist.all_reduce(total := x.clone())
        return total

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        dist.all_reduce(total := grad.clone())
        return total


class _WholeBatch(TorchFunctionMode):
    """Within this block random numbers and moments are those of the whole batch of `total` images.

    A mode sees each call of PyTorch. So a model, one of your own too, is written as for one
    process, if its noise comes from `torch.rand`, `torch.randn` and dropout. Noise of other calls,
    such as `torch.randint` and alpha dropout, would be the same in every process's rows.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        rank, number = dist.get_rank(), dist.get_world_size()
        self.total = total
        self.own = slice(rank * total // number, (rank + 1) * total // number)

    def of(self, labels: Tensor | None) -> Tensor | None:
        """The labels of this process's rows."""
        return None if labels is None else labels[self.own]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.rand, torch.randn):
            return self._random(func, *args, **kwargs)
        if func in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d):
            x = args[0]
            return x * func(x.new_ones(self.total, *x.shape[1:]), *args[1:], **kwargs)[self.own]
        if func is of_whole_batch:
            return self._of_all(args[0])
        if func is is_whole_batch:
            return False
        if func is places:
            return torch.arange(self.total, device=args[0].device)[self.own] / self.total
        if func is F.batch_norm and kwargs["training"]:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _of_all(self, mean: Tensor) -> Tensor:
        """The mean over all rows, of those of this process; gradients flow through the sum."""
        return _Sum.apply((self.own.stop - self.own.start) / self.total * mean)

    def _random(self, func: Any, *shape: Any, size: Any = None, **options: Any) -> Tensor:
        """`func`, in any of the ways to name a shape, of the whole batch."""
        size = shape if size is None else size
        size = size[0] if size and not isinstance(size[0], int) else size
        if not size or size[0] != self.own.stop - self.own.start:
            return func(size, **options)
        return func((self.total, *size[1:]), **options)[self.own]  # a row for each image

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        *,
        weight: Tensor | None,
        bias: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """`F.batch_norm` by the moments of the whole batch."""
        h = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        over = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean = self._of_all(h.mean(over))
        centred = h - mean.view(shape)
        var = self._of_all(centred.square().mean(over))
        if running_mean is not None and running_var is not None:
            n = self.total * math.prod(x.shape[2:])
            running_mean.lerp_(mean.detach(), momentum)
            running_var.lerp_(var.detach() * n / (n - 1), momentum)
        h = centred * torch.rsqrt(var + eps).view(shape)
        h = h if weight is None else h * weight.view(shape)
        h = h if bias is None else h + bias.view(shape)
        return h.to(x.dtype)
