"""The order of an epoch, its shares, and going on in the middle of one."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tfa_kernels.order import permuted_range
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.order import BlockOrder, ShuffledOrder

SHUFFLES = [False, True, "block"]


def naive_permutation(count, keys):
    """The network as the paper draws it, one image at a time in unbounded integers."""
    left_side = 1
    while left_side * left_side < count:
        left_side += 1
    right_side = max(1, -(-count // left_side))

    def mixed(value, key, side):
        h = value ^ key
        h = ((h ^ h >> 16) * 0x21F0AAAD) % 2**32
        h = ((h ^ h >> 15) * 0x735A2D97) % 2**32
        return (h ^ h >> 15) * side // 2**32

    def network(x):
        left, right = divmod(x, right_side)
        for left_key, right_key in zip(keys[::2], keys[1::2], strict=True):
            left = (left + mixed(right, left_key, left_side)) % left_side
            right = (right + mixed(left, right_key, right_side)) % right_side
        return left * right_side + right

    def image(x):
        x = network(x)
        while x >= count:
            x = network(x)
        return x

    return [image(x) for x in range(count)]


def loader_of(rows=60, **arguments):
    X = np.arange(rows, dtype=np.float32)[:, None]
    return WindowLoader(X, X[:, 0].copy(), window=3, return_index=True, **arguments)


def ends_of(batches):
    return [end for batch in batches for end in batch[-1].tolist()]


@given(
    count=st.integers(1, 2000),
    seed=st.integers(0, 2**62),
    epoch=st.integers(0, 2**40),
    data=st.data(),
)
def test_shuffle_is_a_permutation_whose_parts_are_computed_alone(count, seed, epoch, data):
    order = ShuffledOrder(count, seed, epoch)
    whole = order.windows(0, count)
    assert sorted(whole.tolist()) == list(range(count))
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    assert np.array_equal(order.windows(start, stop), whole[start:stop])


@given(
    count=st.integers(1, 500),
    seed=st.integers(0, 2**62),
    block=st.integers(1, 20),
    group=st.integers(1, 8),
    data=st.data(),
)
def test_block_order_is_a_permutation_of_few_places_at_a_time(count, seed, block, group, data):
    order = BlockOrder(count, seed, 0, block, group)
    whole = order.windows(0, count)
    assert sorted(whole.tolist()) == list(range(count))
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    assert np.array_equal(order.windows(start, stop), whole[start:stop])
    for first in range(0, count, block * group):
        # Runs of neighbours, round the end: no more than there are blocks, the leftover included.
        part = np.sort(whole[first : first + block * group])
        runs = 1 + np.count_nonzero(np.diff(part) != 1)
        assert runs <= group + 2


def test_shuffle_has_no_visible_structure():
    count = 4000
    orders = [ShuffledOrder(count, 5, epoch).windows(0, count) for epoch in range(40)]
    positions = np.arange(count)
    # 200 correlations of independent shuffles lie within 4.5 / sqrt(count) of 0.
    for a, b in itertools.pairwise(orders):
        for x, y in ((positions, a), (a, b), (a[:-1], a[1:])):
            assert abs(np.corrcoef(x, y)[0, 1]) < 4.5 / count**0.5
    # Each window comes first about equally often: 40 * 100 firsts in 40 cells of 100.
    firsts = np.concatenate([o[:100] for o in orders]) // 100
    cells = np.bincount(firsts, minlength=40)
    assert ((cells - 100) ** 2 / 100).sum() < 85
    # A permutation keeps 1 window in its place on average.
    assert 15 < sum(np.count_nonzero(o == positions) for o in orders) < 75


def test_order_does_not_depend_on_threads_or_prefetch():
    for shuffle in SHUFFLES:
        wanted = ends_of(loader_of(shuffle=shuffle, batch_size=7, num_threads=1, prefetch=0))
        assert ends_of(loader_of(shuffle=shuffle, batch_size=7, prefetch=3)) == wanted


@pytest.mark.parametrize("shuffle", SHUFFLES)
@given(
    batch_size=st.integers(1, 9),
    worlds=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    later_batch_size=st.integers(1, 9),
    data=st.data(),
)
def test_resumed_pass_yields_what_is_left(shuffle, batch_size, worlds, later_batch_size, data):
    def run_of(world_size, size):
        return [
            loader_of(shuffle=shuffle, seed=9, batch_size=size, rank=r, world_size=world_size)
            for r in range(world_size)
        ]

    before, after = worlds
    loaders = run_of(before, batch_size)
    passes = []
    for loader in loaders:
        loader.set_epoch(4)
        passes.append(iter(loader))
    taken = data.draw(st.integers(0, min(len(loader) for loader in loaders)))
    seen = [end for one in passes for end in ends_of(itertools.islice(one, taken))]
    states = [json.loads(json.dumps(loader.state_dict())) for loader in loaders]
    assert all(state == states[0] for state in states)
    left = []
    for loader in run_of(after, later_batch_size):
        loader.load_state_dict(states[0])
        left += ends_of(loader)
    assert sorted(seen + left) == list(range(2, 60))
    if before == after == 1:
        whole = loader_of(shuffle=shuffle, seed=9, batch_size=batch_size)
        whole.set_epoch(4)
        assert seen + left == ends_of(whole)


def test_state_after_a_batch_counts_what_was_taken_not_what_was_made_ahead():
    loader = loader_of(batch_size=5, prefetch=4)
    batches = iter(loader)
    assert loader.state_dict()["position"] == 0
    next(batches)
    assert loader.state_dict()["position"] == 5
    list(batches)
    assert loader.state_dict()["position"] == 58
    resumed = loader_of(batch_size=5)
    resumed.load_state_dict(loader.state_dict())
    assert list(resumed) == []
    # The pass after the resumed one is whole again.
    assert len(list(resumed)) == len(resumed)


def test_set_epoch_of_the_state_keeps_the_place_and_another_one_does_not():
    loader = loader_of(batch_size=5, shuffle=True)
    loader.set_epoch(2)
    list(itertools.islice(loader, 3))
    state = loader.state_dict()
    for epoch, windows in ((2, 43), (3, 58)):
        again = loader_of(batch_size=5, shuffle=True)
        again.load_state_dict(state)
        again.set_epoch(epoch)
        assert len(ends_of(again)) == windows


def test_a_state_of_other_windows_is_refused():
    state = loader_of().state_dict()
    for change, words in (
        ({"windows": 59}, "windows = 59, this loader has 58"),
        ({"shuffle": True}, "shuffle = True, this loader has False"),
        ({"position": 59}, r"position.*0 to 58"),
        ({"epoch": -1}, "epoch"),
    ):
        with pytest.raises(ValueError, match=words):
            loader_of().load_state_dict(state | change)


@given(rows=st.integers(3, 90), batch_size=st.integers(1, 9), world_size=st.integers(1, 5))
def test_ranks_take_equally_many_batches_with_drop_last(rows, batch_size, world_size):
    lengths, ends = set(), []
    for rank in range(world_size):
        loader = loader_of(
            rows, batch_size=batch_size, drop_last=True, rank=rank, world_size=world_size,
            shuffle=True,
        )  # fmt: skip
        batches = list(loader)
        assert all(len(batch[0]) == batch_size for batch in batches)
        lengths.add(len(batches))
        assert len(batches) == len(loader)
        ends += ends_of(batches)
    assert len(lengths) == 1
    assert (
        len(set(ends))
        == len(ends)
        == (rows - 2) // (batch_size * world_size) * (batch_size * world_size)
    )


def test_sampler_gives_the_order_and_is_asked_again_each_pass():
    class Twice(torch.utils.data.Sampler):
        def __init__(self):
            self.epoch = 0

        def __len__(self):
            return 4

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter([5, 0, 5, self.epoch])

    loader = loader_of(sampler=Twice(), batch_size=3)
    assert (len(loader), loader.windows) == (2, 4)
    assert ends_of(loader) == [7, 2, 7, 2]
    loader.set_epoch(57)
    assert ends_of(loader) == [7, 2, 7, 59]
    assert ends_of(loader_of(sampler=np.array([1, 3]))) == [3, 5]
    with pytest.raises(IndexError, match=r"window 58 of 58: allowed 0\.\.57"):
        list(loader_of(sampler=[0, 58]))
    with pytest.raises(IndexError, match="window -1"):
        list(loader_of(sampler=[-1]))


def test_generator_draws_the_seed():
    def order(seed):
        return ends_of(loader_of(shuffle=True, generator=torch.Generator().manual_seed(seed)))

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_rank_and_world_size_of_torch_distributed(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        assert ends_of(loader_of()) == list(range(2, 60))
    finally:
        torch.distributed.destroy_process_group()


@given(count=st.integers(1, 300), keys=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8))
def test_permutation_matches_the_naive_one(count, keys):
    got = permuted_range(0, count, count, np.array(keys, np.uint32))
    assert got.tolist() == naive_permutation(count, keys)


@pytest.mark.parametrize("threads", [1, None])
def test_long_stretches_match_the_naive_permutation(threads):
    keys = np.arange(1, 9, dtype=np.uint32) * 0x9E3779B1
    wanted = naive_permutation(5001, keys.tolist())
    for start, stop in ((0, 5001), (1, 3500), (999, 5001)):
        got = permuted_range(start, stop, 5001, keys, num_threads=threads)
        assert got.tolist() == wanted[start:stop]


def test_the_order_of_a_seed_stays_what_it_was():
    # A checkpoint of one version goes on in the next: changing these numbers breaks resume.
    assert ShuffledOrder(1000, 1, 2).windows(0, 6).tolist() == [330, 856, 421, 5, 261, 634]
    assert BlockOrder(1000, 1, 2, 10, 4).windows(0, 6).tolist() == [294, 550, 552, 296, 293, 280]


@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_row_batches_are_the_last_rows_of_the_batches(shuffle):
    X = np.arange(700, dtype=np.float32).reshape(350, 2)

    def make():
        return WindowLoader(
            X, X[:, 0], window=5, batch_size=16, shuffle=shuffle, seed=3, return_index=True
        )

    want = [index.numpy() for *_, index in make()]
    loader = make()
    got = loader.row_batches()
    for k, rows in enumerate(got):
        np.testing.assert_array_equal(rows, want[k])
        if k == 6:
            break
    again = make()
    again.load_state_dict(loader.state_dict())
    rest = list(again.row_batches())
    assert len(rest) == len(want) - 7
    for rows, expected in zip(rest, want[7:], strict=True):
        np.testing.assert_array_equal(rows, expected)
