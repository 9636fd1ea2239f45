"""The data sets that have a name, one record each: what a set holds, how it is read, how to get it.

`NAMED` is the only list of them. These are read, under the data root (`nvp.paths.data_root`):

* `MNIST/raw`, `FashionMNIST/raw`: the published IDX files, uncompressed, as torchvision keeps them
* `binarized_mnist/`: Larochelle's text files, 784 binary values a line
* `cifar10/`: a folder of .npy files; without it `cifar-10-batches-py/`, torchvision's layout
* `NAME/`: a folder of .npy files: any other set that is imported

The embedded set is always read from the repository itself. Pixels of binary images are 0 and 1.
`nvp.data` exports its name, `EMBEDDED`, that of its binarised form, `EMBEDDED_BINARY`, and the
names of its classes, `FASHION_CLASSES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nvp.data.formats import (
    CIFAR10_FOLDER,
    Stored,
    read_amat,
    read_cifar10,
    read_embedded,
    read_idx,
)
from nvp.paths import embedded_root

EMBEDDED = "fashion-mnist-small"
EMBEDDED_BINARY = f"{EMBEDDED}-binarized"
# The classes 0 to 9 of Fashion-MNIST and of its embedded subset: the published list, shortened.
FASHION_CLASSES = (
    *("T-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
# Of the IDX files once decompressed, so that any compression of them will do.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
BINARIZED_MNIST_MD5 = {
    "binarized_mnist_train.amat": "db28b1a6ae0fe70cbd3da91acf46e477",
    "binarized_mnist_valid.amat": "bf37822a04e94123630de6a7dfd9c9ef",
    "binarized_mnist_test.amat": "14e41ae11040adba6ab8cb291eda0dd8",
}


@dataclass(frozen=True)
class Download:
    """Where `nvp data get` finds a set, and the `folder` under the data root that it fills.

    `torchvision` names the class of `torchvision.datasets` that fetches the set. Where there is
    none, the keys of `md5` are the addresses of the files, and its values their MD5 sums. `by_hand`
    says what to do without a network; "{root}" in it stands for the data root. `instead` names the
    embedded set to use without this one.
    """

    folder: str
    by_hand: str
    torchvision: str = ""
    md5: dict[str, str] = field(default_factory=dict)
    instead: str = EMBEDDED


@dataclass(frozen=True)
class NamedSet:
    """The facts about a set that are known before it is here.

    `image_shape` is (C, H, W). `images` counts the images of a split, where the count is known. A
    set with `read` has the splits that `images` names; as a folder of .npy files it may have
    `validation`, too. `how` says how to get the set. `read` opens a split under the data root;
    without it the set is the folder of .npy files of its name. `imported` says whether `nvp data
    import` makes the set.
    """

    image_shape: tuple[int, int, int]
    images: dict[str, int]
    how: str
    read: Callable[[Path, str], Stored] | None = None
    download: Download | None = None
    imported: bool = False


def embedded(binary: bool = False) -> NamedSet:
    """The images of Fashion-MNIST in the repository; `binary`: each pixel drawn as 0 or 1."""
    return NamedSet(
        (1, 28, 28),
        {"train": 5_000, "test": 1_000},
        f"git checkout -- data/{EMBEDDED}",
        lambda _, split: read_embedded(embedded_root() / EMBEDDED, split, binary),
    )


def idx(name: str, torchvision: str, md5: dict[str, str]) -> NamedSet:
    """A set in MNIST's format; `md5` as in `read_idx`, `torchvision` as in `Download`."""
    folder = f"{torchvision}/raw"
    return NamedSet(
        (1, 28, 28),
        {"train": 60_000, "test": 10_000},
        f"nvp data get {name}",
        lambda under, split: read_idx(name, under / folder, split, md5),
        Download(folder, f"put the four decompressed IDX files in {{root}}/{folder}", torchvision),
    )


def binarized_mnist(md5: dict[str, str]) -> NamedSet:
    """MNIST as Larochelle binarised it. `md5` maps each file to its MD5 sum."""
    name, folder = "binarized-mnist", "binarized_mnist"
    publisher = f"http://www.cs.toronto.edu/~larocheh/public/datasets/{folder}"
    return NamedSet(
        (1, 28, 28),
        {"train": 50_000, "validation": 10_000, "test": 10_000},
        f"nvp data get {name}",
        lambda under, split: read_amat(name, under / folder, split, md5),
        Download(
            folder,
            f"put {', '.join(md5)} of {publisher} in {{root}}/{folder}",
            md5={f"{publisher}/{file}": value for file, value in md5.items()},
            instead=EMBEDDED_BINARY,
        ),
    )


def _bring(
    name: str, image_shape: tuple[int, int, int], images: dict[str, int], files: str
) -> dict[str, NamedSet]:
    """{name: set}, for a set that a user must fetch, because of its terms or its size."""
    how = f"nvp data import FOLDER {name}, where FOLDER holds {files}"
    return {name: NamedSet(image_shape, images, how, imported=True)}


def _imagenet(side: int) -> dict[str, NamedSet]:
    """The set of the Pixel RNN paper, and that of 2017, which was downsampled in another way."""
    shape, name = (3, side, side), f"imagenet{side}"
    files = (
        f"train_{side}x{side} and valid_{side}x{side} of the downsampled set of the Pixel RNN "
        "paper, with 49,999 validation images"
    )
    newer = f"the .npz files, {side}x{side}, of https://image-net.org/download-images.php"
    older = _bring(name, shape, {"test": 49_999}, files)
    return older | _bring(f"{name}-2017", shape, {"test": 50_000}, newer)


def _lsun(category: str) -> dict[str, NamedSet]:
    """Smaller side 96; training cuts 64x64 (`data.crop`). Its 300 validation images are scored."""
    files = f"{category}_train_lmdb and {category}_val_lmdb of https://github.com/fyu/lsun"
    name = f"lsun-{category.replace('_', '-')}"
    return _bring(name, (3, 96, 96), {"test": 300}, files)


NAMED: dict[str, NamedSet] = {
    EMBEDDED: embedded(),
    EMBEDDED_BINARY: embedded(binary=True),
    "mnist": idx("mnist", "MNIST", MNIST_MD5),
    "fashion-mnist": idx("fashion-mnist", "FashionMNIST", FASHION_MNIST_MD5),
    "binarized-mnist": binarized_mnist(BINARIZED_MNIST_MD5),
    "cifar10": NamedSet(
        (3, 32, 32),
        {"train": 50_000, "test": 10_000},
        "nvp data get cifar10",
        read_cifar10,
        Download(
            CIFAR10_FOLDER,
            "put the folder of the publisher's cifar-10-python.tar.gz in {root}",
            torchvision="CIFAR10",
        ),
        imported=True,
    ),
    **_imagenet(32),
    **_imagenet(64),
    **_bring(
        "celeba",
        (3, 64, 64),
        {"validation": 19_867, "test": 19_962},
        "img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt of "
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    ),
    **_lsun("bedroom"),
    **_lsun("tower"),
    **_lsun("church_outdoor"),
}
