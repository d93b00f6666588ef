"""The same train steps in torch: DDPM's U-Net from diffusers, ViT-B/16 from transformers.

In bfloat16 by autocast, channels last, with the optimizer, clipping and, for DDPM, averaging of the experiments.
"""

import importlib
from collections.abc import Callable
from typing import Any

from tests.gpu.measurements import rate
from tests.gpu.worker import Skip


def needed(toy: bool, *names: str) -> list[Any]:
    """torch and others, and the device it uses; skips where one is absent or torch has no device."""
    found = []
    for name in ("torch", *names):
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            raise Skip(f"{name} is not installed") from error
    if not toy and not found[0].cuda.is_available():
        raise Skip("torch is installed without support for this device")
    return found


def measured(torch: Any, toy: bool, network: Any, batch: int, update: Callable[[], None]) -> dict[str, Any]:
    """Speed and memory of an update."""

    def wait(_):
        if not toy:
            torch.cuda.synchronize()

    found = rate(update, wait, batch, toy)
    memory = 0.0 if toy else torch.cuda.max_memory_allocated() / 1e9
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        **found,
        "memory GB": memory,
        "memory by": "torch",
    }


def unet(toy: bool, compiled: bool) -> dict[str, Any]:
    """diffusers' UNet2DModel with the settings of google/ddpm-cifar10-32, as experiments/ddpm_cifar10.py trains it."""
    torch, diffusers = needed(toy, "diffusers")
    from tests.parity.test_diffusers_unet import CIFAR10, SMALL

    sizes, batch = (SMALL, 4) if toy else (CIFAR10 | {"dropout": 0.1}, 128)
    device = "cpu" if toy else "cuda"
    network = diffusers.UNet2DModel(**sizes).to(device, memory_format=torch.channels_last)
    averages = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), 2e-4, fused=not toy)
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, device=device), 0)[:, None, None, None]
    images = torch.randint(0, 256, (batch, sizes["in_channels"], *2 * [sizes["sample_size"]]), dtype=torch.uint8)
    called = torch.compile(network) if compiled else network

    def update():
        x = images.to(device, non_blocking=True).to(memory_format=torch.channels_last) / 127.5 - 1
        t, noise = torch.randint(0, 1000, (batch,), device=device), torch.randn_like(x)
        noisy = alphas[t].sqrt() * x + (1 - alphas[t]).sqrt() * noise
        with torch.autocast(device, torch.bfloat16):
            predicted = called(noisy, t).sample
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(predicted.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(averages, [p.detach() for p in network.parameters()], 1e-4)

    return measured(torch, toy, network, batch, update)


def vit(toy: bool, compiled: bool) -> dict[str, Any]:
    """transformers' ViT-B/16 at 224 pixels, as experiments/vit_cifar10.py:at224 trains it."""
    torch, transformers = needed(toy, "transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    sizes, batch = (small | {"image_size": 32}, 4) if toy else ({"image_size": 224}, 128)
    device = "cpu" if toy else "cuda"
    network = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=10, **sizes)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.003, momentum=0.9)
    images = torch.randint(0, 256, (batch, 3, *2 * [sizes["image_size"]]), dtype=torch.uint8)
    labels = torch.randint(0, 10, (batch,), device=device)
    called = torch.compile(network) if compiled else network

    def update():
        x = images.to(device, non_blocking=True) / 127.5 - 1
        with torch.autocast(device, torch.bfloat16):
            logits = called(x).logits
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return measured(torch, toy, network, batch, update)
