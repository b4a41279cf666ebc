"""The legacy trainer's names and signatures, so that only its imports change."""

from tfa_perf.compat.features import build_features_from_spec
from tfa_perf.compat.windows import SeqWindows

__all__ = ["SeqWindows", "build_features_from_spec"]
