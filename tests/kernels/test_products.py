"""Products inside kernels: every tile at every edge, against sums of products in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfa_kernels._products_nb import PANEL, pack, product
from tfa_kernels._vectors_nb import WIDTH


def naive_product(a, b):
    out = np.zeros((len(a), b.shape[1]))
    for m in range(len(a)):
        for n in range(b.shape[1]):
            for k in range(len(b)):
                out[m, n] += float(a[m, k]) * float(b[k, n])
    return out


@given(
    rows=st.integers(0, 37),
    vectors=st.integers(1, 5),
    depth=st.integers(0, 9),
    turned=st.booleans(),
    add=st.booleans(),
    margin=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_matches_naive_and_writes_nothing_beside(rows, vectors, depth, turned, add, margin, seed):
    rng, columns = np.random.default_rng(seed), vectors * WIDTH
    a = rng.standard_normal((rows, depth)).astype(np.float32)
    b = rng.standard_normal((depth, columns)).astype(np.float32)
    # Rows of the result lie apart, with numbers between them that stay.
    out = rng.standard_normal((rows + 2, columns + margin)).astype(np.float32)
    expected = out.astype(np.float64)
    inside = expected[1 : rows + 1, :columns]
    inside[:] = naive_product(a, b) + (inside if add else 0)
    at, flat_a = 2, np.concatenate([np.full(2, np.nan, np.float32), (a.T if turned else a).ravel()])
    steps = (1, rows) if turned else (depth, 1)
    made = out.ravel()
    product(
        (flat_a, at, *steps), (b.ravel(), 0, columns, PANEL), depth,
        (made, columns + margin, columns + margin), rows, columns, add,
    )  # fmt: skip
    np.testing.assert_allclose(made.reshape(out.shape), expected, rtol=0, atol=2e-5)


@given(panels=st.integers(1, 3), depth=st.integers(1, 9), rows=st.integers(1, 20))
def test_packed_panels_are_read_as_the_matrix(panels, depth, rows):
    rng, columns = np.random.default_rng(depth), panels * PANEL
    a = rng.standard_normal((rows, depth)).astype(np.float32)
    weight = rng.standard_normal((columns, depth)).astype(np.float32)
    packed, made = np.empty(weight.size, np.float32), np.empty(rows * columns, np.float32)
    pack(weight.ravel(), columns, depth, depth, 1, packed)
    product(
        (a.ravel(), 0, depth, 1), (packed, 0, PANEL, depth * PANEL), depth,
        (made, 0, columns), rows, columns, False,
    )  # fmt: skip
    np.testing.assert_allclose(
        made.reshape(rows, columns), naive_product(a, weight.T), rtol=0, atol=2e-5
    )
