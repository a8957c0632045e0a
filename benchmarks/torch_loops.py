"""What a PyTorch user would write instead: the same network, batch and optimiser, without masks."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from groundwork.data import readers

BATCH = 128
Run = Callable[[int], None]  # steps → None, at most an epoch


def in_memory(folder: str, examples: int, dtype: str = "float32", **adam: Any) -> Run:
    """(a) A tight loop: float32 tensors in memory, indexed by a fresh permutation in each epoch."""
    pixels, labels, mean, std = _read(folder, examples)
    inputs = torch.from_numpy(pixels).float().div_(255).sub_(mean).div_(std)
    targets = torch.from_numpy(labels)
    step = _make_step(dtype, **adam)

    def run(steps: int) -> None:
        order = torch.randperm(examples)
        for start in range(0, steps * BATCH, BATCH):
            chosen = order[start : start + BATCH]
            step(inputs[chosen], targets[chosen])

    return run


def per_example(folder: str, examples: int, workers: int) -> Run:
    """(b) What the usual frameworks do: PIL image → tensor → normalise, behind a DataLoader."""
    loader: Any = torch.utils.data.DataLoader(
        PerExample(*_read(folder, examples)),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    step = _make_step()

    def run(steps: int) -> None:
        assert steps == len(loader), "a loader runs whole epochs: give it fewer examples"
        for inputs, targets in loader:
            step(inputs, targets)

    return run


class PerExample(torch.utils.data.Dataset):
    """A map-style data set, like torchvision's FashionMNIST(transform=[ToTensor, Normalize])."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, mean: float, std: float) -> None:
        self.pixels, self.labels, self.mean, self.std = pixels, labels, [mean], [std]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.pixels[index, :, :, 0])
        return normalize(to_tensor(image), self.mean, self.std), int(self.labels[index])


def to_tensor(image: Image.Image) -> torch.Tensor:
    """PIL → [1, H, W] float32 in [0, 1], by the operations of torchvision's ToTensor."""
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.view(image.size[1], image.size[0], 1).permute((2, 0, 1)).contiguous()
    return pixels.to(dtype=torch.get_default_dtype()).div(255)


def normalize(image: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """By the operations of torchvision's Normalize."""
    image = image.clone()
    means, stds = (torch.as_tensor(values, dtype=image.dtype) for values in (mean, std))
    if (stds == 0).any():
        raise ValueError("std is zero")
    return image.sub_(means.view(-1, 1, 1)).div_(stds.view(-1, 1, 1))


def _read(folder: str, examples: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    (pixels, labels), _, _ = readers.read_idx("fashion_mnist", folder)
    pixels, labels = pixels[:examples].copy(), labels[:examples].astype(np.int64)
    return pixels, labels, pixels.mean() / 255, pixels.std() / 255


def _make_step(dtype: str = "float32", **adam: Any) -> Callable[[torch.Tensor, torch.Tensor], None]:
    torch.set_num_threads(os.cpu_count() or 1)
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(784, 300),
        torch.nn.ReLU(),
        torch.nn.Linear(300, 100),
        torch.nn.ReLU(),
        torch.nn.Linear(100, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3, **adam)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
