import pytest

from tfa_kernels import _convert_nb, _features_nb, _order_nb, _windows_nb, warm_up
from tfa_kernels.ops import OPS


@pytest.mark.compiled
def test_every_op_and_pass_is_compiled():
    names = [name for name, _ in warm_up()]
    assert {f"op {op}" for op in OPS} < set(names)
    passes = (_convert_nb.gather_converted, _features_nb.features, _order_nb.permuted)
    for kernel in (*passes, _order_nb.last_rows, _windows_nb.first_outside, _windows_nb.gather):
        assert kernel._serial.signatures, kernel.__name__
    assert _features_nb.rows.signatures
