"""Kernels for the tests of the chapters, forked from a process that has already imported PyTorch.

Every chapter imports PyTorch and Matplotlib, and its first optimiser imports PyTorch's compiler.
That takes seconds. One process for each worker of pytest does it once, and forks the
kernels. JupyterLab and the batch start kernels of their own.
"""

import logging
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(
    ["ipykernel.kernelapp", "matplotlib.pyplot", "torch._dynamo", "nvp_book.figures"]
)


def run_kernel(arguments: list[str], folder: str, environment: Mapping[str, str]) -> None:
    """Be the kernel, in the process that was forked for it."""
    import matplotlib
    from ipykernel.kernelapp import launch_new_instance
    from matplotlib.figure import Figure

    from nvp_book import figures

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Matplotlib asks the environment when it is imported, which was before.
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    # Draw each figure and show none: nbval compares no pictures.
    figures.shown = Figure.draw_without_rendering  # type: ignore[assignment]
    # Whether an operator is compiled on this machine, or can be, is no output of a chapter.
    logging.getLogger("nvp.model.native").setLevel(logging.ERROR)
    launch_new_instance(argv=arguments)


class Forked:
    """A forked process with the methods of `subprocess.Popen` that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, process: ForkServerProcess) -> None:
        self.process, self.kill, self.terminate = process, process.kill, process.terminate

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None  # it was started
        os.kill(self.process.pid, number)


class ForkedProvisioner(LocalProvisioner):
    """Starts a kernel of Python by a fork."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork, where another provisioner would run `python -m ipykernel_launcher -f FILE`."""
        arguments = cmd[cmd.index("-f") :]
        process = forks.Process(
            target=run_kernel,
            args=(arguments, kwargs.get("cwd", os.getcwd()), kwargs["env"]),
            daemon=True,
        )
        process.start()
        self.process = Forked(process)  # type: ignore[assignment]  # has the methods that are used
        return self.connection_info
