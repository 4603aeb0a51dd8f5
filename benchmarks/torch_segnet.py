"""SegNet in plain PyTorch, without this package.

It uses `MaxPool2d(return_indices=True)` and `MaxUnpool2d`, convolutions with
bias, batch normalization and ReLU. It has the layers and parameters of
`models.SegNet`.
"""

import itertools
import time
from typing import Any

import numpy as np
import torch

FILTERS = (64, 128, 256, 512, 512)
CONVS = (2, 2, 3, 3, 3)
VOID = 255


class SegNet(torch.nn.Module):
    """SegNet as published: a VGG-16 encoder and a decoder of five stages."""

    def __init__(
        self,
        num_classes: int,
        filters: tuple[int, ...] = FILTERS,
        convs: tuple[int, ...] = CONVS,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.ModuleList(), []
        before = 3
        for num_filters, num_convs in zip(filters, convs, strict=True):
            widths = [before, *[num_filters] * num_convs]
            self.encoder.append(convolutions(widths))
            is_last = before == 3
            after = [num_filters if is_last else before]
            stage = convolutions([*[num_filters] * num_convs, *after])
            if is_last:  # The last convolution is the classifier.
                stage = torch.nn.Sequential(
                    *stage[:-3],
                    torch.nn.Conv2d(num_filters, num_classes, 3, padding=1),
                )
            self.decoder.insert(0, stage)
            before = num_filters
        self.decoder = torch.nn.ModuleList(self.decoder)
        self.pool = torch.nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        self.unpool = torch.nn.MaxUnpool2d(2)

    def forward(self, x: Any) -> Any:
        pooled = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            x, indices = self.pool(x)
            pooled.append((indices, size))
        for stage in self.decoder:
            indices, size = pooled.pop()
            x = stage(self.unpool(x, indices, output_size=size))
        return x


def convolutions(widths: list[int]) -> torch.nn.Sequential:
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [
            torch.nn.Conv2d(before, after, 3, padding=1),
            torch.nn.BatchNorm2d(after),
            torch.nn.ReLU(inplace=True),
        ]
    return torch.nn.Sequential(*layers)


def epoch_seconds(
    model: torch.nn.Module,
    images: np.ndarray,
    masks: np.ndarray,
    batch_size: int,
    *,
    memory_format: str,
    is_mixed: bool,
    num_epochs: int,
) -> list[float]:
    """Train on images in order and return the seconds of each epoch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory_format = getattr(torch, memory_format)
    model = model.to(device, memory_format=memory_format).train()
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=VOID)
    found = []
    for _ in range(num_epochs):
        start = time.perf_counter()
        for first in range(0, len(images), batch_size):
            chosen = slice(first, first + batch_size)
            # Channels are last in memory, as in NumPy.
            x = torch.from_numpy(images[chosen]).to(device).movedim(-1, 1)
            x = x.contiguous(memory_format=memory_format)
            y = torch.from_numpy(masks[chosen]).to(device).long()
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
                loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
        loss.item()  # waits
        found.append(time.perf_counter() - start)
    return found
