"""Row numbers and batches as a captured step reads them, on the CPU."""

import numpy as np
import pytest
import torch

from tfa_perf.train.feed import BatchFeed, Resident, RowFeed

WINDOW = 6


@pytest.fixture
def source(table):
    X, y = table(50)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)

    def gather(ends):
        before = torch.arange(WINDOW - 1, -1, -1)
        return rows[ends[:, None] - before], labels[ends][:, None]

    return Resident(gather, lambda: iter(()))


def merged(feed, step=0):
    return [torch.cat(parts) for parts in zip(*feed.batches(step), strict=True)]


@pytest.mark.parametrize("sizes", [(4, 4, 4), (4, 4, 1), (4, 2), (1,)])
def test_rows_are_gathered_weighed_and_padded(table, source, sizes):
    X, y = table(50)
    ends = np.random.default_rng(0).permutation(np.arange(WINDOW - 1, 50))[: sum(sizes)]
    group = np.split(ends, np.cumsum(sizes)[:-1])
    feed = RowFeed(source, 4, 3, torch.device("cpu"))
    # What an earlier group left behind must not show.
    feed.fill([([np.full(12, 30)], None)])
    assert feed.fits(group)
    assert feed.fill([(group, None)]) == [sum(sizes)] == feed.windows.tolist()
    assert [len(x) for x, _, _ in feed.batches(0)] == [4, 4, 4]
    x, labels, weights = merged(feed)
    n = len(ends)
    expected = np.stack([X[end - WINDOW + 1 : end + 1] for end in ends])
    np.testing.assert_array_equal(x[:n], expected)
    np.testing.assert_array_equal(labels[:n, 0], y[ends])
    assert x.isfinite().all()
    torch.testing.assert_close(weights[:n], torch.full((n, 1), 1 / n))
    assert not weights[n:].any()


def test_with_several_ranks_weights_are_those_of_all_windows(source):
    x = torch.randn(3, 3, 2)
    feeds = (
        (RowFeed(source, 4, 1, torch.device("cpu")), [np.full(3, 10)]),
        (BatchFeed((x, x[:, 0, :1]), 4, 1, torch.device("cpu")), [(x, x[:, 0, :1])]),
    )
    for feed, group in feeds:
        assert feed.fill([(group, 8)]) == [3]
        assert feed.windows.item() == 8
        *_, weights = merged(feed)
        assert weights.flatten().tolist() == [0.125, 0.125, 0.125, 0.0]


@pytest.mark.parametrize("batch_size", [4, 5])
def test_steps_that_are_sent_together_lie_apart(table, source, batch_size):
    X, _ = table(50)
    feed = RowFeed(source, batch_size, 2, torch.device("cpu"), 3)
    feed.fill([([np.full(batch_size, 30)] * 2, None)] * 3)
    ends = [np.arange(10, 13), np.arange(20, 21), np.arange(30, 30 + 2 * batch_size)]
    steps = [([rows], 40 + i) for i, rows in enumerate(ends)]
    # There may be fewer steps than room, and more rates than steps.
    assert feed.fill(steps[2:], [0.5, 0.25]) == [2 * batch_size]
    assert feed.windows.tolist() == [42, 2 * batch_size, 2 * batch_size]
    assert feed.rates[0].item() == 0.5
    assert feed.fill(steps, [0.1, 0.2, 0.3]) == [3, 1, 2 * batch_size]
    assert feed.windows.tolist() == [40, 41, 42]
    torch.testing.assert_close(feed.rates, torch.tensor([0.1, 0.2, 0.3]), rtol=0, atol=0)
    for i, rows in enumerate(ends):
        x, _, weights = merged(feed, i)
        np.testing.assert_array_equal(x[: len(rows), -1], X[rows])
        np.testing.assert_array_equal(x[len(rows) :, -1], X[[rows[0]] * (len(x) - len(rows))])
        expected = [1 / (40 + i)] * len(rows) + [0.0] * (len(x) - len(rows))
        torch.testing.assert_close(weights[:, 0], torch.tensor(expected), rtol=0, atol=0)
        at = [(t[i].data_ptr() - t[0].data_ptr()) % 128 for t in (feed._rows, feed._weights)]
        assert at == [0, 0]


def test_more_rows_than_room_do_not_fit(source):
    feed = RowFeed(source, 4, 2, torch.device("cpu"))
    assert feed.fits([np.full(4, 10)] * 2)
    assert not feed.fits([np.full(5, 10), np.full(4, 10)])


def test_batches_are_copied_weighed_and_padded_with_zeros():
    x, y = torch.randn(5, 3, 2), torch.randn(5, 1)
    feed = BatchFeed((x[:4], y[:4]), 4, 2, torch.device("cpu"))
    feed.fill([([(torch.full((8, 3, 2), torch.nan), torch.full((8, 1), torch.nan))], None)])
    assert feed.fill([([(x[:3], y[:3]), (x[3:], y[3:])], None)], [0.5]) == [5]
    assert (feed.windows.tolist(), feed.rates.tolist()) == ([5.0], [0.5])
    read = merged(feed)
    assert torch.equal(read[0][:5], x)
    assert torch.equal(read[1][:5], y)
    assert not read[0][5:].any()
    assert not read[1][5:].any()
    torch.testing.assert_close(read[2], torch.tensor([[0.2]] * 5 + [[0.0]] * 3))


@pytest.mark.parametrize(
    ("batch", "fits"),
    [
        ((torch.zeros(4, 3, 2), torch.zeros(4, 1)), True),
        ((torch.zeros(1, 3, 2), torch.zeros(1, 1)), True),
        ((torch.zeros(5, 3, 2), torch.zeros(5, 1)), False),
        ((torch.zeros(4, 4, 2), torch.zeros(4, 1)), False),
        ((torch.zeros(4, 3, 2).double(), torch.zeros(4, 1)), False),
        ((torch.zeros(4, 3, 2), torch.zeros(4, 2)), False),
    ],
)
def test_what_fits_a_feed_of_batches(batch, fits):
    feed = BatchFeed((torch.zeros(4, 3, 2), torch.zeros(4, 1)), 4, 1, torch.device("cpu"))
    assert feed.fits([batch]) == fits
