"""GPUs, as torch sees them and as the machine has them."""

from __future__ import annotations

import glob
import importlib.util

import torch

from tfa_perf.doctor.check import Check

__all__ = ["gpus", "sdpa_backends"]


def gpus() -> Check:
    """CUDA devices that torch can use; a problem where the machine has one that it cannot."""
    if torch.cuda.is_available():
        properties = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        found = ", ".join(
            f"{p.name} ({p.total_memory / 2**30:.0f} GiB, sm_{p.major}{p.minor})"
            for p in properties
        )
        if importlib.util.find_spec("triton") is None:
            return Check(
                "GPU", found, "without Triton the gather and short attention are torch's, slower",
                "pip install triton",
            )  # fmt: skip
        return Check("GPU", found)
    if glob.glob("/dev/nvidia[0-9]*"):
        built = torch.version.cuda
        return Check(
            "GPU",
            f"the machine has an NVIDIA GPU, torch {torch.__version__} uses none",
            "torch was built without CUDA" if built is None else f"CUDA {built} finds no driver",
            "install a CUDA build of torch (pytorch.org/get-started) and a driver as new as it",
        )
    return Check("GPU", "none")


def sdpa_backends() -> Check:
    """Which kernels ``scaled_dot_product_attention`` may choose from on a GPU."""
    if not torch.cuda.is_available():
        return Check("SDPA backends", "no GPU for them")
    backends = {
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "cuDNN": torch.backends.cuda.cudnn_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
    }
    return Check("SDPA backends", ", ".join(name for name, on in backends.items() if on) or "none")
