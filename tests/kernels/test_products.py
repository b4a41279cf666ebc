"""Products inside kernels: every tile at every edge, against sums of products in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfa_kernels._products_nb import (
    PANEL,
    nothing,
    nowhere,
    pack,
    pack_turned,
    product,
    rows_alone,
    rows_and_bias,
)
from tfa_kernels._vectors_nb import WIDTH


def naive_product(a, b):
    out = np.zeros((len(a), b.shape[1]))
    for m in range(len(a)):
        for n in range(b.shape[1]):
            for k in range(len(b)):
                out[m, n] += float(a[m, k]) * float(b[k, n])
    return out


def drawn(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@given(
    rows=st.integers(0, 37),
    vectors=st.integers(1, 5),
    depth=st.integers(0, 9),
    turned=st.booleans(),
    begin=st.sampled_from(["nothing", "itself", "a bias", "rows and a bias"]),
    margin=st.integers(0, 3),
    ahead=st.integers(0, 4000),
    seed=st.integers(0, 99),
)
def test_matches_naive_and_writes_nothing_beside(
    rows, vectors, depth, turned, begin, margin, ahead, seed
):
    rng, columns = np.random.default_rng(seed), vectors * WIDTH
    a, b = drawn(rng, rows, depth), drawn(rng, depth, columns)
    given, bias = drawn(rng, rows, columns), drawn(rng, columns)
    # Rows of the result lie apart, with numbers between them that stay.
    out = drawn(rng, rows + 2, columns + margin)
    expected = out.astype(np.float64)
    inside, step = expected[1 : rows + 1, :columns], columns + margin
    made = out.ravel()
    added, sums = {
        "nothing": (0.0, nothing(made)),
        "itself": (inside.copy(), rows_alone(made, step, step)),
        "a bias": (bias, rows_alone(bias, 0, 0)),
        "rows and a bias": (given + bias, rows_and_bias(given.ravel(), 0, columns, bias)),
    }[begin]
    inside[:] = naive_product(a, b) + added
    operand = np.concatenate([np.full(2, np.nan, np.float32), (a.T if turned else a).ravel()])
    # What is read ahead may lie past the end of its array.
    product(
        (operand, 2, *((1, rows) if turned else (depth, 1))), (b.ravel(), 0, columns, PANEL),
        depth, sums, (made, step, step), rows, columns, (bias, 0, ahead),
    )  # fmt: skip
    np.testing.assert_allclose(made.reshape(out.shape), expected, rtol=0, atol=2e-5)


@given(
    panels=st.integers(1, 3), depth=st.integers(1, 3), rows=st.integers(1, 20), turned=st.booleans()
)
def test_packed_panels_are_read_as_the_matrix(panels, depth, rows, turned):
    rng, columns, depth = np.random.default_rng(depth), panels * PANEL, 8 * depth
    a, matrix = drawn(rng, rows, depth), drawn(rng, depth, columns)
    packed, made = np.empty(matrix.size, np.float32), np.empty(rows * columns, np.float32)
    if turned:
        pack_turned(matrix.T.ravel(), depth, columns, packed)
    else:
        pack(matrix.ravel(), depth, columns, packed)
    product(
        (a.ravel(), 0, depth, 1), (packed, 0, PANEL, depth * PANEL), depth, nothing(made),
        (made, 0, columns), rows, columns, nowhere(made),
    )  # fmt: skip
    np.testing.assert_allclose(
        made.reshape(rows, columns), naive_product(a, matrix), rtol=0, atol=5e-5
    )
