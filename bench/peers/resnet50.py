"""The peer of bench/train.ts: one SpCL iteration of ResNet-50 in PyTorch.

Forward in training mode, contrastive loss against prototypes, backward, Adam with L2 weight decay:
the same work on the same sizes. Prints one JSON line: seconds of each iteration.
Arguments: batch height width prototypes iterations threads channels_last(0|1)
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

batch, height, width, prototypes, iterations, threads, channels_last = map(int, sys.argv[1:8])
torch.set_num_threads(threads)
torch.manual_seed(1)


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.shortcut = None
        if stride != 1 or inputs != planes * 4:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, planes * 4, 1, stride, bias=False), nn.BatchNorm2d(planes * 4)
            )

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = functional.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.shortcut is None else self.shortcut(x)
        return functional.relu(y, inplace=True)


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        blocks, inputs = [], 64
        for planes, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
            for i in range(count):
                blocks.append(Bottleneck(inputs, planes, stride if i == 0 else 1))
                inputs = planes * 4
        self.blocks = nn.Sequential(*blocks)
        self.neck = nn.BatchNorm1d(2048)

    def forward(self, x):
        y = self.blocks(self.stem(x)).mean((2, 3))
        return functional.normalize(self.neck(y))


net = ResNet50().train()
images = torch.randn(batch, 3, height, width)
if channels_last:
    net = net.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
table = functional.normalize(torch.randn(prototypes, 2048))
own = torch.arange(batch) % prototypes
adam = torch.optim.Adam(net.parameters(), lr=3.5e-4, weight_decay=5e-4)


def iterate():
    adam.zero_grad(set_to_none=True)
    scores = (net(images) @ table.T / 0.05).exp()
    p = scores.gather(1, own[:, None])[:, 0] / (scores.sum(1) + 1e-6)
    loss = -(p + 1e-6).log().mean()
    loss.backward()
    adam.step()
    return loss.item()


seconds = []
for i in range(iterations + 1):
    start = time.perf_counter()
    iterate()
    if i > 0:
        seconds.append(time.perf_counter() - start)
print(json.dumps({"version": torch.__version__, "seconds": seconds}))
