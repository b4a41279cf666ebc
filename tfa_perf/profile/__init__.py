"""Where a training step's time goes: phase timers, sampled stacks and a flame graph page."""

from __future__ import annotations

from tfa_perf.profile.phases import Recorder, phase, recording

__all__ = ["Recorder", "phase", "recording"]
